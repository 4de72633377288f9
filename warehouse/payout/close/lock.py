"""One writer at a time, and no write of one who has lost the lock without knowing.

The lock is rows in the table ``locks``. Whoever wants it inserts a claim and then reads: alone, it holds; beside
others all but one withdraw, and that one waits until it is alone. All insert before they read, so of two that come at
once at least one sees the other. A claim is renewed while it lives. It ends ``LEASE_S`` after its last renewal by the
server's clock, or at once when its process on this machine is gone.

No lease is safe by itself: a process that was stopped for a minute goes on, not knowing. So each holder has a number,
higher than of any before it, and writes through ``Held``: the server refuses what carries an older number (a fencing
token).
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from warehouse.payout.errors import MonthLocked
from warehouse.storage.client import Warehouse, named
from warehouse.storage.errors import WarehouseError, WarehouseRefused
from warehouse.storage.native_columns import Column, Packed

#: Held while closing a month or changing what a close reads.
CLOSE: Final = "month-close"

LEASE_S: Final = 30
_RENEW_S: Final = 5
#: So long whoever comes second waits: a scan of the quarantine holds the lock for less than a second.
_PATIENCE_S: Final = 3
#: Between two looks: of many that wait, one comes first.
_LOOK_MIN_S: Final = 0.02
_LOOK_MAX_S: Final = 0.2
#: The first may find its connection, or its node of a cluster, gone.
_RELEASES: Final = 2
_THROWN: Final = 395  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
_NEWEST: Final = "(SELECT max(number) FROM locks WHERE name = %(lock)s) = %(number)s"


class Held(Warehouse):
    """The warehouse of a lock's holder: what it inserts or commands, it does only while its number is the newest."""

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        super().__init__(
            warehouse.url, timeout_s=warehouse.timeout_s, settings=warehouse.settings, topology=warehouse.topology
        )
        self._plain = warehouse
        self._fence: dict[str, Any] = {"lock": name, "number": 0}
        self._claim = {"name": name, "holder": str(uuid.uuid4()), "host": _host(), "process": os.getpid()}
        self._renewed_at = time.monotonic()
        self._done = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name=f"lock {name}", daemon=True)

    def acquire(self) -> None:
        """Take the lock, or raise ``MonthLocked`` when another holds it and does not release it within 3 s."""
        give_up_at_s = time.monotonic() + _PATIENCE_S
        others = self._others()
        while others or not self._claims(give_up_at_s):
            if time.monotonic() > give_up_at_s:
                _, host, process, since, _ = (others or self._others() or [_GONE])[0]
                raise MonthLocked(
                    f"Another close is running, or an import that it must not overlap: process {process} on {host}, "
                    f"since {since} UTC. Wait for it to finish, then look at its result."
                )
            time.sleep(random.uniform(_LOOK_MIN_S, _LOOK_MAX_S))  # noqa: S311 - no secret
            others = self._others()
        self._renewing.start()

    def _claims(self, give_up_at_s: float) -> bool:
        """Claim the lock; whether it is held now. Of several claims all but the smallest are withdrawn."""
        self._state("claimed")
        others = self._others()
        while others and time.monotonic() < give_up_at_s and all(one[0] > self._claim["holder"] for one in others):
            time.sleep(_LOOK_MIN_S)
            others = self._others()
        if not others:
            self._plain.command(named("lock_hold"), self._claim)
            ((number,),) = self._plain.rows(
                "SELECT max(number) FROM locks WHERE name = %(name)s AND holder = %(holder)s", self._claim
            )
            self._fence["number"] = number
            # This process may have been stopped between its claim and here, for longer than a lease.
            if not any(is_held for *_, is_held in self._others()):
                return True
        self._state("released")
        return False

    def check(self) -> None:
        """Raise ``MonthLocked`` if the lock was lost: its lease ran out, and another may hold it."""
        if time.monotonic() - self._renewed_at < LEASE_S:
            self.sync("locks")
            ((newest,),) = self.rows("SELECT max(number) FROM locks WHERE name = %(lock)s", self._fence)
            if newest == self._fence["number"]:
                return
        raise MonthLocked(_LOST)

    def release(self) -> None:
        """Release the lock. When the server does not answer it ends by itself, after its lease."""
        self._done.set()
        if self._renewing.is_alive():
            self._renewing.join()
        for _ in range(_RELEASES):
            with suppress(WarehouseError):
                self._state("released")
                break
        self.close()

    def insert(
        self,
        table: str,
        columns: Mapping[str, Column],
        *,
        traceparent: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> int:
        """As of any warehouse, of Python values; raises ``MonthLocked`` when a newer holder has the lock."""
        del traceparent
        self.sync("locks")
        values = {name: list(column) for name, column in columns.items() if not isinstance(column, Packed)}
        try:
            return self.insert_if(_NEWEST, self._fence, table, values, settings=settings)
        except WarehouseRefused as refused:
            if refused.code == _THROWN:
                raise MonthLocked(_LOST) from None
            raise

    def command(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """As of any warehouse, after a check."""
        self.check()
        super().command(sql, params, settings)

    def command_per_shard(
        self, sql: str, params: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        """As of any warehouse, after a check."""
        self.check()
        super().command_per_shard(sql, params, settings)

    def _others(self) -> Sequence[tuple[Any, ...]]:
        """Who else claims or holds the lock and is not known to be dead."""
        self._plain.sync("locks")
        rows = self._plain.rows(named("lock_living"), {**self._claim, "lease_s": LEASE_S})
        return [row for row in rows if not _is_dead(row[1], row[2])]

    def _state(self, state: str) -> None:
        now = time.monotonic()
        row: dict[str, object] = {**self._claim, "state": state, "number": self._fence["number"]}
        self._plain.insert("locks", {name: [value] for name, value in row.items()})
        self._renewed_at = now

    def _renew(self) -> None:
        try:
            while not self._done.wait(_RENEW_S):
                with suppress(WarehouseError):  # ``check`` finds out when none gets through
                    self._state("held")
        finally:
            self._plain.close()


_GONE: Final = ("", "another machine", 0, "a moment ago", False)
_LOST: Final = "This process lost the close's lock: it was stopped, or cut off, for too long. Run the command again."


def _host() -> str:
    """This machine, or container: where a process number means the same process."""
    with suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _is_dead(host: str, process: int) -> bool:
    if host != _host():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def locked(warehouse: Warehouse, name: str) -> Iterator[Held]:
    """Hold the named lock; write through what this yields. Raises ``MonthLocked`` if another process holds it."""
    held = Held(warehouse, name)
    try:
        # Within: a claim that an outage left behind would keep all others out until its lease ends.
        held.acquire()
        # Everything that the holder before wrote, on whichever node.
        held.sync()
        yield held
    finally:
        held.release()
