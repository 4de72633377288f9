"""The errors that a command reports as one sentence instead of a traceback."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import KafkaError
from pydantic import ValidationError

from deploy.errors import CommandFailed
from deploy.provision.acl import AclError
from deploy.provision.topics import TopicError
from deploy.stack.embedded import KafkaMissing, ServiceFailed
from streams.errors import StreamStopped
from warehouse.keys import KeysError
from warehouse.payout.errors import PayoutError
from warehouse.storage.errors import WarehouseError

EXPECTED: Final = (
    AclError,
    CommandFailed,
    KafkaError,
    KafkaMissing,
    KeysError,
    PayoutError,
    ServiceFailed,
    StreamStopped,
    TopicError,
    ValidationError,
    WarehouseError,
)
