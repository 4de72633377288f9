"""Which faults happen, and when, drawn from a seed. Pure: the same seed draws the same faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The kinds of faults. The target is the name of a service or link, unless stated otherwise."""

    KILL = "kill"  # kill -9, restart after for_s
    PAUSE = "pause"  # SIGSTOP, SIGCONT after for_s; beyond the session timeout this makes a zombie
    RESTART = "restart"  # SIGTERM, then restart
    LEADER = "leader"  # kill -9 of the node that leads partition 0, restart after for_s
    CUT = "cut"  # reset a link's connections, including new ones, for for_s
    STALL = "stall"  # hold a link's bytes for for_s
    SLOW = "slow"  # delay every chunk on a link for for_s
    DISK = "disk"  # an ingest worker loses the broker while the disk of its spool is full, for for_s
    CLOCK = "clock"  # step the clock of all services by by_ms
    REBALANCE = "rebalance"  # another stream worker joins the group and is killed after for_s
    CLOSE = "close"  # close the last month under load; kill -9 the close after for_s, unless that is 0
    MONTH = "month"  # move the clock to the end of the month, so that months change under load


#: Relative frequency of each kind. MONTH is placed, not drawn.
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
#: Largest clock step, either way; the close's settling time is longer.
STEP_MAX_MS: Final = 5_000
#: Mean time between faults; many last longer than that, so they overlap.
EVERY_S: Final = 1.5


@dataclass(frozen=True)
class Fault:
    """One fault. ``at_s`` is relative to the start of the schedule; ``for_s`` is its duration."""

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
    """What faults can target: processes by name, and links with a proxy."""

    brokers: Sequence[str]
    ingest: Sequence[str]
    streams: Sequence[str]
    warehouse: Sequence[str]
    links: Sequence[str]


def draw(seed: int, count: int, targets: Targets, *, every_s: float = EVERY_S) -> list[Fault]:
    """The faults of a seed, in order of time. About one in thirty, and at least one, is the end of a month."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - a simulation needs repeatable randomness
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
    # Stream workers hold the state, so they are hit most. A broker's clean restart takes seconds, so it is rare.
    groups = [targets.streams, targets.ingest, targets.warehouse, targets.brokers]
    group = chance.choices(groups, [5, 3, 2, 1 if kind is Kind.RESTART else 2])[0]
    return chance.choice(list(group))


def _length(kind: Kind, for_s: float, chance: random.Random) -> float:
    if kind is Kind.RESTART:
        return 0.0
    # Sometimes longer than every session timeout, so that the paused process has been replaced when it resumes.
    return 7.0 if kind is Kind.PAUSE and chance.random() < 0.25 else for_s
