"""The failures that a command reports as one sentence instead of a traceback."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import KafkaError
from pydantic import ValidationError

from deploy.acl import AclError
from deploy.local import KafkaMissing, PartFailed
from deploy.topics import TopicError
from streams.errors import StreamStopped
from warehouse.errors import WarehouseError
from warehouse.keys import KeysError


class CommandFailed(Exception):
    """A command cannot do what it was asked; the message says why and what to do."""


EXPECTED: Final = (
    AclError,
    CommandFailed,
    KafkaError,
    KafkaMissing,
    KeysError,
    PartFailed,
    StreamStopped,
    TopicError,
    ValidationError,
    WarehouseError,
)
