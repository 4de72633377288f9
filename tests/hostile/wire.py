"""A socket that is spoken to in bytes."""

from __future__ import annotations

import socket
from typing import Self


class Wire:
    """One connection to a port of this machine."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=15, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer; 0 when the connection ended."""
        try:
            line = self.reader.readline()
        except ConnectionResetError:
            return 0, b""
        if not line:
            return 0, b""
        length = 0
        while (header := self.reader.readline().strip()) != b"":
            name, _, value = header.partition(b": ")
            if name == b"content-length":
                length = int(value)
        return int(line.split()[1]), self.reader.read(length)

    def statuses(self) -> list[int]:
        """Those of all answers, until the connection ends."""
        found = []
        while (status := self.answer()[0]) != 0:
            found.append(status)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()
        self.socket.close()
