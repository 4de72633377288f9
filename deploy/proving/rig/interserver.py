"""Gives the engine of chdb-core what clickhouse-server gives it at its start: an interserver listener.

clickhouse-local's code, which chdb runs, knows shards and coordinators but never opens the port over which replicas
fetch parts from each other (ClickHouse issue 78632), so replication does not run. ``install`` sets six places in this
process's memory, before the engine starts, so that its own HTTP port serves replicas. What replicates then is
ClickHouse's own code. Nothing on disk changes, and a build other than the one named here is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import platform
import struct
import sys
import types
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_PACKAGE: Final = ("chdb-core", "26.9.0")
_LIBRARY: Final = "_chdb.abi3.so"
#: Where each place begins in the library, and the bytes that must stand there.
_PLACES: Final = {
    "address": (0x147217C0, "4156534883ec484c8b36490fbe8e67010000"),  # Context::getInterserverIOAddress
    "scheme": (0x147218C0, "488b0680b88701000000"),  # Context::getInterserverScheme
    "credentials": (0x14721740, "41574156534c8b3f498d9f88010000"),  # Context::getInterserverCredentials
    "authentication": (0x190E73A8, "e893a363fb"),  # a call in InterserverIOHTTPHandler::checkAuthentication
    "ddl": (0x14861040, "0fb68710090000c3cccccccc"),  # DatabaseCatalog::canPerformReplicatedDDLQueries
    "factory": (0x190973C0, "0f84eb020000"),  # a jump in createHandlerFactory
}
_INTERSERVER_FACTORY: Final = 0x19097446
_SHORT_STRING_MAX: Final = 22
_RETURN_RDI: Final = b"\x48\x89\xf8\xc3"
#: mov [rdi], rcx; mov [rdi + 8], rcx; mov [rdi + 16], rcx
_STORES: Final = (b"\x48\x89\x0f", b"\x48\x89\x4f\x08", b"\x48\x89\x4f\x10")
#: An empty user and password, which the engine reads for as long as it lives.
_no_credentials: Final = ctypes.create_string_buffer(512)


def unsupported() -> str | None:
    """Why this machine's engine cannot be given a listener, or None if it can."""
    name, known = _PACKAGE
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"replicas need Linux on x86-64, and this is {sys.platform} on {platform.machine()}"
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"replicas need {name} {known}, which is not installed"
    return None if found == known else f"replicas need {name} {known}, and {found} is installed"


def load_engine() -> Any:  # noqa: ANN401 - a compiled module without stubs
    """Load the engine without the package's own start, which runs a first engine in a temporary folder and ends it."""
    spec = importlib.util.find_spec("chdb")
    if spec is None or spec.origin is None:
        raise SystemExit("chdb-core is not installed")
    folder = Path(spec.origin).parent
    package = types.ModuleType("chdb")
    package.__path__ = [str(folder)]
    sys.modules["chdb"] = package
    # As the package itself loads it: its own symbols first, or another copy of a C++ library would take their place.
    ctypes.CDLL(str(folder / _LIBRARY), mode=sys.getdlopenflags() | os.RTLD_DEEPBIND)
    # It finds its helper libraries beside itself only from here.
    with contextlib.chdir(folder):
        return importlib.import_module("chdb._chdb")


def install(engine: Any, host: str, port: int) -> None:  # noqa: ANN401 - as above
    """Have the loaded engine serve replicas at this address. Ends the process if it is another build."""
    library = str(Path(engine.__file__).resolve())
    with Path("/proc/self/maps").open() as maps:
        base = min(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(library))
    memory = os.open("/proc/self/mem", os.O_RDWR)
    try:
        for name, (offset, awaited) in _PLACES.items():
            found = os.pread(memory, len(awaited) // 2, base + offset).hex()
            if found != awaited:
                raise SystemExit(f"this engine is another build: {name} is {found} instead of {awaited}")
        for name, code in _codes(host, port).items():
            os.pwrite(memory, code, base + _PLACES[name][0])
    finally:
        os.close(memory)


def _codes(host: str, port: int) -> dict[str, bytes]:
    """What goes to each place, as x86-64 machine code."""
    jump = _INTERSERVER_FACTORY - (_PLACES["factory"][0] + 6)
    return {
        "address": _store(host) + b"\x66\xc7\x47\x18" + struct.pack("<H", port) + _RETURN_RDI,  # mov word [rdi + 24]
        "scheme": _store("http") + _RETURN_RDI,
        # mov rax, imm64; xor edx, edx; ret: a shared pointer that nobody counts or frees
        "credentials": b"\x48\xb8" + struct.pack("<Q", ctypes.addressof(_no_credentials)) + b"\x31\xd2\xc3",
        "authentication": b"\x31\xc0\x31\xd2\x90",  # xor eax, eax; xor edx, edx; nop: nobody is asked
        "ddl": b"\xb8\x01\x00\x00\x00\xc3",  # mov eax, 1; ret
        "factory": b"\x0f\x84" + struct.pack("<i", jump),
    }


def _store(text: str) -> bytes:
    """Machine code that writes a short std::string of libc++'s alternate layout to [rdi]: text, zeros, length."""
    raw = text.encode()
    if len(raw) > _SHORT_STRING_MAX:
        raise ValueError(f"{text!r} is longer than {_SHORT_STRING_MAX} bytes")
    whole = raw.ljust(23, b"\0") + bytes([len(raw)])
    return b"".join(b"\x48\xb9" + whole[8 * n : 8 * n + 8] + store for n, store in enumerate(_STORES))
