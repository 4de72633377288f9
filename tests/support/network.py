"""A network of its own for a test: a bridge, an address for each process that joins, and their names by DNS."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CLONE_NEWNET = 0x40000000
_A = 1
_NXDOMAIN = 3


class Network:
    """The addresses and names on one bridge. The thread that made it is in it, and so are the processes it starts."""

    def __init__(self, prefix: str) -> None:
        self.gateway = f"{prefix}.1"
        self.names: dict[str, list[str]] = {}
        self._prefix = prefix
        self._number = 1
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "bridge", "type", "bridge")
        _ip("addr", "add", f"{self.gateway}/24", "dev", "bridge")
        _ip("link", "set", "bridge", "up")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.gateway, 53))
        threading.Thread(target=self._answer, daemon=True).start()

    def join(self, process_id: int, name: str) -> str:
        """Give a process that is in a network namespace of its own an address, and the name to it; returns it."""
        self._number += 1
        address, here = f"{self._prefix}.{self._number}", f"v{self._number}"
        _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", str(process_id))
        _ip("link", "set", here, "master", "bridge", "up")
        inside = ["nsenter", "--net", "--target", str(process_id), "ip"]
        for arguments in (["link", "set", "lo", "up"], ["addr", "add", f"{address}/24", "dev", "eth0"],
                          ["link", "set", "eth0", "up"]):  # fmt: skip
            subprocess.run([*inside, *arguments], check=True)
        self.names.setdefault(name, []).append(address)
        return address

    def leave(self, name: str, address: str) -> None:
        """Its name leads there no longer."""
        self.names[name].remove(address)

    def close(self) -> None:
        """Answer no longer. The bridge goes with the last process in the network."""
        self._socket.close()

    def _answer(self) -> None:
        while True:
            try:
                asked, who = self._socket.recvfrom(512)
            except OSError:
                return
            # Who asked may be gone by now; the others go on asking.
            with suppress(OSError):
                self._socket.sendto(self._reply(asked), who)

    def _reply(self, asked: bytes) -> bytes:
        """Every address of the name that is asked for, or that there is no such name (RFC 1035)."""
        labels, at = [], 12
        while asked[at]:
            labels.append(asked[at + 1 : at + 1 + asked[at]].decode())
            at += 1 + asked[at]
        (kind,) = struct.unpack_from("!H", asked, at + 1)
        addresses = self.names.get(".".join(labels), [])
        found = addresses if kind == _A else []
        flags = 0x8580 | (0 if addresses else _NXDOMAIN)
        head = struct.pack("!2sHHHHH", asked[:2], flags, 1, len(found), 0, 0)
        records = [struct.pack("!HHHIH4s", 0xC00C, _A, 1, 0, 4, socket.inet_aton(address)) for address in found]
        return head + asked[12 : at + 5] + b"".join(records)


@contextmanager
def own_network(prefix: str) -> Iterator[Network]:
    """Move this thread into a network of its own, and back. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network of its own")
    try:
        network = Network(prefix)
        try:
            yield network
        finally:
            network.close()
    finally:
        libc.setns(before, _CLONE_NEWNET)
        os.close(before)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
