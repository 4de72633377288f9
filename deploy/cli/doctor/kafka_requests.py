"""Requests of Kafka's protocol that aiokafka lacks: what the user may do with a topic, and the quorum's time."""

from __future__ import annotations

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

_TEXT = String("utf-8")
_SHORT_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)


class _MetadataResponse(Response):  # type: ignore[misc]  # aiokafka's
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT))),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        ("topics", Array(
            ("error_code", Int16), ("topic", _TEXT), ("is_internal", Boolean),
            ("partitions", Array(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", Array(Int32)), ("isr", Array(Int32)), ("offline_replicas", Array(Int32)),
            )),
            ("authorized_operations", Int32),
        )),
        ("cluster_authorized_operations", Int32),
    )  # fmt: skip


class _MetadataStruct(RequestStruct):  # type: ignore[misc]  # aiokafka's
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(_TEXT)), ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean), ("include_topic_authorized_operations", Boolean),
    )  # fmt: skip


class TopicsAndRights(Request[_MetadataStruct]):  # type: ignore[misc]  # aiokafka's
    """Topics with their partitions, and what the user may do with each. Creates none."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        """The request."""
        return request_struct_class(self._topics, False, False, True)


_REPLICAS = CompactArray(
    ("replica_id", Int32), ("log_end_offset", Int64), ("last_fetch_ms", Int64), ("last_caught_up_ms", Int64), _TAGS
)  # fmt: skip


class _QuorumResponse(Response):  # type: ignore[misc]  # aiokafka's
    API_KEY = 55
    API_VERSION = 1
    SCHEMA = Schema(
        ("error_code", Int16),
        ("topics", CompactArray(
            ("topic", _SHORT_TEXT),
            ("partitions", CompactArray(
                ("partition", Int32), ("error_code", Int16), ("leader", Int32), ("leader_epoch", Int32),
                ("high_watermark", Int64), ("voters", _REPLICAS), ("observers", _REPLICAS), _TAGS,
            )),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class _QuorumStruct(RequestStruct):  # type: ignore[misc]  # aiokafka's
    API_KEY = 55
    API_VERSION = 1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _QuorumResponse
    SCHEMA = Schema(
        ("topics", CompactArray(
            ("topic", _SHORT_TEXT), ("partitions", CompactArray(("partition", Int32), _TAGS)), _TAGS
        )),
        _TAGS,
    )  # fmt: skip


class Quorum(Request[_QuorumStruct]):  # type: ignore[misc]  # aiokafka's
    """The controllers' state: its leader says of itself that it has caught up at its own time."""

    API_KEY = 55

    def build(self, request_struct_class: type[_QuorumStruct]) -> _QuorumStruct:
        """The request."""
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})
