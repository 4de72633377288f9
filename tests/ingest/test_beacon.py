"""POST /v1/clicks on a real socket before a real broker."""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2

from deploy.stack.embedded import ServiceProcess
from ingest.contract.click import decode_block
from ingest.contract.rejection import decode_rejection
from tests.ingest.conftest import Ingest, make_topics, records, serving, settings_for, wait_until

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}


def test_click_is_answered_with_the_place_where_kafka_has_it(
    broker: ServiceProcess, topic: str, token_keys: Path
) -> None:
    make_topics(broker.address, topic)
    click_id = str(uuid.uuid4())
    with serving(settings_for(broker, topic, token_keys)) as ingest:
        answer = ingest.post({**CLICK, "click_id": click_id, "site_id": "blog"})
    assert answer.status == 202
    (receipt,) = answer.json["receipts"]
    (record,) = records(broker.address, topic)
    (click,) = decode_block(record.value)
    assert receipt == {
        "item": 0, "click_id": click_id, "partition": record.partition, "offset": record.offset, "index": 0
    }  # fmt: skip
    assert (click.click_id, click.member_id, click.creator_id, click.site_id) == (click_id, "ann", "bob", "blog")
    assert record.partition == (murmur2(b"ann") & 0x7FFFFFFF) % 4
    assert abs(record.timestamp - click.received_at) < 1000


def test_batch_answers_each_item_and_the_bad_ones_harm_no_other(
    ingest: Ingest, embedded_broker: ServiceProcess
) -> None:
    items = [CLICK, {"creator_id": "bob"}, {**CLICK, "extra": 1}, {**CLICK, "x_extra": 1}, 7]
    answer = ingest.post(items)
    assert answer.status == 202
    body = answer.json
    assert [receipt["item"] for receipt in body["receipts"]] == [0, 3]
    assert [(one["item"], one["reason"], one.get("field")) for one in body["refused"]] == [
        (1, "field_missing", "thing"),
        (2, "field_unknown", "extra"),
        (4, "not_an_object", None),
    ]
    wait_until(lambda: ingest.metric("flattr_ingest_rejections_kept_total") == 3)
    retained = [
        decode_rejection(one.value)
        for one in records(embedded_broker.address, f"{ingest.settings.topic_clicks}-rejected")
    ]
    assert [json.loads(one.raw) for one in retained] == [items[1], items[2], items[4]]
    assert (retained[0].reason, retained[0].member_id) == ("field_missing", "ann")


def test_batch_of_bad_items_alone_is_refused_as_a_whole(ingest: Ingest) -> None:
    answer = ingest.post([{"creator_id": "bob"}, {"thing": "x"}])
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json
    assert (body["reason"], body["item"], body["field"]) == ("field_missing", 0, "thing")
    assert [one["item"] for one in body["refused"]] == [0, 1]


def test_lines_of_ndjson_get_a_verdict_each(ingest: Ingest) -> None:
    lines = b"\n".join([json.dumps(CLICK).encode(), b"{nonsense", b"", json.dumps({**CLICK, "thing": "b"}).encode()])
    answer = ingest.post(lines, content_type="application/x-ndjson")
    assert answer.status == 202
    assert [one["item"] for one in answer.json["receipts"]] == [0, 2]
    assert [(one["item"], one["reason"]) for one in answer.json["refused"]] == [(1, "json_malformed")]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "body_empty"),
        (b"[]", 400, "body_empty"),
        (b"{", 400, "json_malformed"),
        (b"[" * 100_000, 400, "json_malformed"),
        (b'"\xff"', 400, "json_malformed"),
        (b"7", 422, "not_an_object"),
        (b"[" + b"7," * 1000 + b"7]", 413, "batch_too_large"),
        (b" " * 600_000, 413, "body_too_large"),
    ],
)
def test_hopeless_body_is_refused_with_its_reason(ingest: Ingest, body: bytes, status: int, reason: str) -> None:
    answer = ingest.post(body)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert ingest.metric("flattr_ingest_refused_total", reason=reason) == 1


def test_member_cannot_click_for_another_nor_for_themselves(ingest: Ingest) -> None:
    assert ingest.post({**CLICK, "member_id": "ann"}).status == 202
    other = ingest.post({**CLICK, "member_id": "eve"})
    assert (other.status, other.json["reason"]) == (403, "member_mismatch")
    own = ingest.post({**CLICK, "creator_id": "ann"})
    assert (own.status, own.json["reason"]) == (422, "own_thing")


def test_body_without_a_length_is_cut_off_at_the_cap(ingest: Ingest) -> None:
    head = f"POST /v1/clicks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ingest.token()}\r\n"
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", ingest.settings.port)) as client, client.makefile("rb") as answer:
        client.sendall(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                client.sendall(piece)
        assert answer.readline().split()[1] == b"413"


def test_other_method_is_refused_with_what_is_allowed(ingest: Ingest) -> None:
    answer = ingest.get("/v1/clicks")
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]


def test_service_says_that_it_lives_and_is_ready(ingest: Ingest) -> None:
    assert ingest.get("/live").json == {"status": "live"}
    ready = ingest.get("/ready")
    assert (ready.status, ready.json["parts"]) == (200, {"broker": "connected"})
    assert "/v1/clicks" in ingest.get("/openapi.json").json["paths"]


def test_token_is_not_kept_with_what_was_refused(ingest: Ingest, embedded_broker: ServiceProcess) -> None:
    token = ingest.token()
    assert ingest.post({"thing": "x", "token": token}).status == 422
    wait_until(lambda: ingest.metric("flattr_ingest_rejections_kept_total") == 1)
    (retained,) = records(embedded_broker.address, ingest.settings.topic_rejected)
    assert decode_rejection(retained.value).raw == b'{"thing": "x", "token": "..."}'
