"""The errors that a command reports as one sentence instead of a traceback, and those sentences."""

from __future__ import annotations

import errno
import socket
from typing import Final

from aiokafka.errors import KafkaConnectionError, KafkaError
from pydantic import ValidationError
from pydantic_settings import SettingsError

from deploy.cli.variables import variable_of
from deploy.errors import CommandFailed
from deploy.provision.acl import AclError
from deploy.provision.topics import TopicError
from deploy.stack.embedded import KafkaMissing, ServiceFailed
from ingest.runtime.setting_error import SettingError
from ingest.runtime.watched_file import FileError
from streams.errors import StreamStopped
from warehouse.keys import KeysError
from warehouse.payout.errors import PayoutError
from warehouse.storage.archived import MonthArchived
from warehouse.storage.errors import WarehouseError, WarehouseUnavailable

EXPECTED: Final = (
    AclError,
    CommandFailed,
    FileError,
    KafkaError,
    KafkaMissing,
    KeysError,
    MonthArchived,
    OSError,
    PayoutError,
    ServiceFailed,
    SettingError,
    SettingsError,
    StreamStopped,
    TopicError,
    ValidationError,
    WarehouseError,
)
#: Of a port: used by another process, not ours to use, of an address that is not this machine's.
_PORT_TAKEN: Final = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL})
_SAID_MAX: Final = 400
_START: Final = "Is it running? `flattr up` starts everything on this machine."


def sentence(error: Exception) -> str:
    """What went wrong, for an operator. Values of settings are not repeated: some are secrets."""
    if isinstance(error, ValidationError):
        wrong = [_said(error.title, one["loc"], one["msg"]) for one in error.errors(include_input=False)]
        return "; ".join(dict.fromkeys(wrong))
    if isinstance(error, SettingsError):
        return f"{variable_of(_quoted(str(error)))}: must be JSON"
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, WarehouseUnavailable):
        return f"{error}. {_START} Another one is named with FLATTR_WAREHOUSE."
    if isinstance(error, KafkaConnectionError) or isinstance(error.__cause__, KafkaConnectionError):
        return f"{error}. {_START} Another broker is named with FLATTR_BROKER."
    return str(error)


def _of_system(error: OSError) -> str:
    """A file, a port or a host that cannot be had. Raises the error where it is none of these: a defect of ours."""
    if error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if error.errno in _PORT_TAKEN:
        return f"Cannot listen: {error.strerror}"
    if isinstance(error, socket.gaierror):
        return f"A host's name is not known here: {error.strerror}"
    raise error


def _quoted(text: str) -> str:
    """The field that pydantic names: it keeps it in the text alone."""
    return text.split('"')[1] if text.count('"') > 1 else text


def _said(model: str, where: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    # Some repeat what was given, which may be a whole file.
    text = text if len(text) <= _SAID_MAX else f"{text[:_SAID_MAX]}..."
    variable = variable_of(str(where[0]), model) if where else ""
    return text if text.startswith(variable) else f"{variable}: {text}"
