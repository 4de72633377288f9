"""Executes a schedule: begins and ends each fault at its time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient

from deploy.proving.chaos.arena import Arena
from deploy.proving.chaos.proxy import Mode
from deploy.proving.chaos.schedule import Fault, Kind
from deploy.proving.oracle.model import month_end_ms, month_of
from deploy.stack.embedded import ServiceProcess
from ingest.contract.month import month_after, month_text

#: The clock is moved to this long before the end of the month.
BEFORE_END_MS: Final = 1_500
_CLOSE_PAUSE_S: Final = 1.5
_MODES: Final = {Kind.CUT: Mode.CUT, Kind.STALL: Mode.STALL, Kind.SLOW: Mode.SLOW}


class Closer:
    """Closes the months that are over, retrying until each close succeeds."""

    def __init__(self, arena: Arena, first: int) -> None:
        self.arena = arena
        self.closed: list[int] = []
        self.attempts = 0
        self._next = first
        self._part: ServiceProcess | None = None
        self._not_before = 0.0

    @property
    def due(self) -> bool:
        """Whether the next month is over, including grace and settling time."""
        plan = self.arena.plan
        return self.arena.now_ms() >= month_end_ms(self._next) + (plan.grace_s + plan.settle_s) * 1000

    def tick(self) -> None:
        """Start a close that is due; note one that has ended."""
        if self._part is not None and not self._part.running():
            process, self._part = self._part.process, None
            if process is not None and process.returncode == 0:
                self.closed.append(self._next)
                self._next = month_after(self._next)
            self._not_before = time.monotonic() + _CLOSE_PAUSE_S
        elif self._part is None and self.due and time.monotonic() >= self._not_before:
            self.begin()

    def begin(self) -> None:
        """Start closing the next month, even if it is not over: its gate must refuse that."""
        if self._part is None:
            self.attempts += 1
            month = month_text(self._next)
            self._part = self.arena.command("close", ["month", "close", month, "--yes"])

    def kill(self) -> None:
        """Kill -9 the running close."""
        if self._part is not None and self._part.process is not None:
            self._part.process.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill the running close and wait for it."""
        self.kill()
        if self._part is not None and self._part.process is not None:
            self._part.process.wait()

    def tail(self) -> str:
        """The last lines of the closes' log."""
        log = self.arena.folder / "close" / "close.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""


class Injector:
    """Begins and ends faults; ``noted`` records when each began and ended, in ms."""

    def __init__(self, arena: Arena, closer: Closer, faults: Sequence[Fault]) -> None:
        self.arena = arena
        self.closer = closer
        self.noted: list[tuple[int, str]] = []
        self.begun = 0
        self._numbers = itertools.count()
        self._guests: list[str] = []
        self._started = time.monotonic()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        for fault in faults:
            self._at(fault.at_s, partial(self._begin, fault))

    @property
    def done(self) -> bool:
        """Whether every fault has begun and ended."""
        return not self._agenda

    def tick(self) -> None:
        """Execute what is due."""
        while self._agenda and self._agenda[0][0] <= time.monotonic() - self._started:
            heapq.heappop(self._agenda)[2]()

    def leave(self) -> None:
        """Remove the extra workers."""
        for name in self._guests:
            self.arena.remove_worker(name)
        self._guests.clear()

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._numbers), action))

    def _later(self, after_s: float, what: str, action: Callable[[], None]) -> None:
        def end() -> None:
            self._note(f"{what} ends")
            action()

        self._at(time.monotonic() - self._started + after_s, end)

    def _note(self, what: str) -> None:
        self.noted.append((time.time_ns() // 1_000_000, f"fault: {what}"))

    def _begin(self, fault: Fault) -> None:  # noqa: C901 - one case for each kind
        arena, target, for_s = self.arena, fault.target, fault.for_s
        self.begun += 1
        self._note(f"{fault}")
        arena.say(f"{fault}")
        match fault.kind:
            case Kind.KILL:
                arena.kill(target, for_s)
            case Kind.LEADER:
                arena.kill(f"kafka-{leader(arena)}", for_s)
            case Kind.RESTART:
                arena.end(target)
            case Kind.PAUSE:
                arena.pause(target)
                self._later(for_s, f"pause {target}", lambda: arena.resume(target))
            case Kind.CUT | Kind.STALL | Kind.SLOW:
                arena.links[target].set(_MODES[fault.kind])
                self._later(for_s, f"{fault.kind} {target}", lambda: arena.links[target].set(Mode.PASS))
            case Kind.DISK:
                arena.fill_disk(target)
                self._link_brokers(Mode.CUT)
                self._later(for_s, f"disk {target}", lambda: self._mend_disk(target))
            case Kind.CLOCK:
                arena.step_clock(fault.by_ms)
            case Kind.REBALANCE:
                guest = arena.add_worker()
                self._guests.append(guest)
                self._later(for_s, "rebalance", lambda: self._send_away(guest))
            case Kind.CLOSE:
                self.closer.begin()
                if for_s:
                    self._later(for_s, "close", self.closer.kill)
            case Kind.MONTH:
                arena.move_clock_to(month_end_ms(month_of(arena.now_ms())) - BEFORE_END_MS)

    def _link_brokers(self, mode: Mode) -> None:
        for node in self.arena.nodes:
            self.arena.links[node.name].set(mode)

    def _mend_disk(self, name: str) -> None:
        self.arena.free_disk(name)
        self._link_brokers(Mode.PASS)

    def _send_away(self, guest: str) -> None:
        if guest in self._guests:
            self._guests.remove(guest)
            self.arena.remove_worker(guest)


def leader(arena: Arena) -> int:
    """The node that leads partition 0 of the clicks; node 1 if the cluster does not answer in time."""

    async def ask() -> int:
        async with asyncio.timeout(3):
            admin = AIOKafkaAdminClient(bootstrap_servers=arena.broker, request_timeout_ms=2000)
            await admin.start()
            try:
                (topic,) = await admin.describe_topics(["clicks"])
            finally:
                await admin.close()
        return next(int(service["leader"]) for service in topic["partitions"] if service["partition"] == 0)

    try:
        found = asyncio.run(ask())
    except Exception:  # noqa: BLE001 - if the cluster cannot answer, any node will do
        return 1
    return found if found > 0 else 1
