"""Addresses in settings: a name or an IP address, and a port."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field

_ADDRESS: Final = re.compile(r"(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
#: An address to listen on. An empty one would be every address of the machine.
HOST: Final = re.compile(r"^[A-Za-z0-9_.:%-]{1,255}$")
Host = Annotated[str, Field(pattern=HOST.pattern)]
_PORT_MAX: Final = 65_535


def host_port(text: str, port: int) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[IPv6]:port``; ``port`` where none is said. Raises ``ValueError``."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"] or port) > _PORT_MAX:
        raise ValueError(f"{text!r} is no host:port")
    return found["host"].strip("[]"), int(found["port"] or port)
