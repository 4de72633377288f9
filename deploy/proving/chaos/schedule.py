"""What goes wrong, and when: drawn from a seed. Pure: the same seed draws the same faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Each kind of fault. The target is a part's name, or what it says here."""

    KILL = "kill"  # kill -9, started again after for_s
    PAUSE = "pause"  # SIGSTOP, SIGCONT after for_s: beyond the session timeout it makes a zombie
    RESTART = "restart"  # SIGTERM, then started again
    LEADER = "leader"  # kill -9 of the node that leads partition 0, started again after for_s
    CUT = "cut"  # a link's connections are reset, and new ones, for for_s
    STALL = "stall"  # a link's bytes wait for for_s
    SLOW = "slow"  # every chunk on a link takes longer, for for_s
    DISK = "disk"  # an ingest worker loses the broker, and the disk of its spool is full, for for_s
    CLOCK = "clock"  # everybody's clock steps by by_ms
    REBALANCE = "rebalance"  # another stream worker joins the group, and is killed after for_s
    CLOSE = "close"  # the month that is over is closed under load; killed -9 after for_s when that is not 0
    MONTH = "month"  # the clock goes past the month's end: months cross under load


#: How often each kind is drawn. MONTH is placed, not drawn.
WEIGHTS: Final = {
    Kind.KILL: 6,
    Kind.PAUSE: 4,
    Kind.RESTART: 2,
    Kind.LEADER: 2,
    Kind.CUT: 3,
    Kind.STALL: 2,
    Kind.SLOW: 2,
    Kind.DISK: 1,
    Kind.CLOCK: 2,
    Kind.REBALANCE: 1,
    Kind.CLOSE: 2,
}
#: Clocks step by at most this, either way: the close waits longer than that before it trusts the log's times.
STEP_MAX_MS: Final = 5_000
#: Mean distance of faults; they last longer than that, so they overlap.
EVERY_S: Final = 1.5


@dataclass(frozen=True)
class Fault:
    """One fault. ``at_s`` is from the start of the faults, ``for_s`` how long it lasts."""

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    by_ms: int = 0

    def __str__(self) -> str:
        length = f" for {self.for_s:.1f} s" if self.for_s else ""
        step = f" by {self.by_ms} ms" if self.by_ms else ""
        return f"{self.at_s:6.1f} s  {self.kind} {self.target}{length}{step}"


@dataclass(frozen=True)
class Targets:
    """What can be hit: processes by name, and the links that proxies stand in."""

    brokers: Sequence[str]
    ingest: Sequence[str]
    streams: Sequence[str]
    warehouse: str
    links: Sequence[str]


def draw(seed: int, count: int, targets: Targets, *, every_s: float = EVERY_S) -> list[Fault]:
    """The faults of a seed, in order of time. One in thirty, and at least one, is a month's end."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - a simulation wants repeatable dice
    ends = min(3, max(1, count // 30))
    months = {round(count * (number + 1) / (ends + 1)) for number in range(ends)}
    faults: list[Fault] = []
    at_s = 0.0
    for number in range(count):
        at_s += chance.uniform(0.4, 1.6) * every_s
        if number in months:
            faults.append(Fault(round(at_s, 2), Kind.MONTH, "clock"))
        else:
            faults.append(_fault(round(at_s, 2), chance, targets))
    return faults


def _fault(at_s: float, chance: random.Random, targets: Targets) -> Fault:
    kinds = [kind for kind in WEIGHTS if kind is not Kind.LEADER or len(targets.brokers) > 1]
    kind = chance.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
    for_s = round(chance.choice([0.3, 0.8, 1.5, 3.0]), 2)
    if kind is Kind.LEADER:
        return Fault(at_s, kind, "partition 0", for_s)
    if kind in (Kind.CUT, Kind.STALL, Kind.SLOW, Kind.DISK):
        return Fault(at_s, kind, chance.choice(targets.ingest if kind is Kind.DISK else targets.links), for_s)
    if kind is Kind.CLOCK:
        return Fault(at_s, kind, "clock", by_ms=chance.randint(-STEP_MAX_MS, STEP_MAX_MS) or 1)
    if kind is Kind.REBALANCE:
        return Fault(at_s, kind, "streams", for_s=3.0 + for_s)
    if kind is Kind.CLOSE:
        return Fault(at_s, kind, "close", for_s=chance.choice([0.0, 0.0, 0.5, 1.0]))
    return Fault(at_s, kind, _process(kind, chance, targets), _length(kind, for_s, chance))


def _process(kind: Kind, chance: random.Random, targets: Targets) -> str:
    # The stream workers hold the state, so they are hit most; a broker's clean restart takes seconds, so seldom.
    groups = [targets.streams, targets.ingest, [targets.warehouse], targets.brokers]
    group = chance.choices(groups, [5, 3, 2, 1 if kind is Kind.RESTART else 2])[0]
    return chance.choice(list(group))


def _length(kind: Kind, for_s: float, chance: random.Random) -> float:
    if kind is Kind.RESTART:
        return 0.0
    # Now and then past every session timeout, so that what wakes up has been replaced.
    return 7.0 if kind is Kind.PAUSE and chance.random() < 0.25 else for_s
