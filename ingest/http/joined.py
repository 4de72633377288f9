"""An answer's head and body in one write.

uvicorn writes them one after the other, and uvloop sends each write at once: two system calls, and a client that is
woken twice.
"""

from __future__ import annotations

import asyncio


class JoinedWrites:
    """What uvicorn's request cycle needs of a transport. The first write waits for the second, one turn at most."""

    __slots__ = ("_held", "_is_first", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._is_first = True

    def write(self, data: bytes) -> None:
        """Hold the head; write everything else, after what is held."""
        if self._is_first:
            self._is_first = False
            self._held = data
            # The body of a stream may come much later, and its reader wants to know that it began.
            asyncio.get_running_loop().call_soon(self._let_go)
        elif self._held:
            held, self._held = self._held, b""
            self._transport.write(held + data)
        else:
            self._transport.write(data)

    def _let_go(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            if not self._transport.is_closing():
                self._transport.write(held)

    def close(self) -> None:
        """Write what is held, then close."""
        self._let_go()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is being closed."""
        return self._transport.is_closing()
