"""The failures that a command reports as one sentence instead of a traceback."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import KafkaError
from pydantic import ValidationError

from deploy.provision.acl import AclError
from deploy.provision.topics import TopicError
from deploy.stack.embedded import KafkaMissing, PartFailed
from streams.errors import StreamStopped
from warehouse.keys import KeysError
from warehouse.storage.errors import WarehouseError


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
