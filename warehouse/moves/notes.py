"""What was noted of the moves of the log, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ingest.contract.position import position
from warehouse.storage.client import Warehouse, named

#: By how much the number of partitions may grow at once: a partition's members go to two or four new ones, and to
#: nobody else's. An erasure chooses its pseudonym accordingly.
FACTORS: Final = (2, 4)


class Step(StrEnum):
    """What is done of a move."""

    #: Both topics are known; the old one may be closed from here on.
    BEGUN = "begun"
    #: The old topic takes nothing, and all of it is counted. None of its workers begins from here on.
    DRAINED = "drained"
    #: The new topic takes clicks, and its workers may begin.
    DONE = "done"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class Move:
    """A move from one topic to another, into the log epoch ``epoch``. ``settings`` are those of the topics in Kafka."""

    epoch: int
    from_topic: str
    from_partitions: int
    topic: str
    partitions: int
    settings: Mapping[str, str]

    @property
    def boundary(self) -> int:
        """Above every position of the old log, and below every one of the new log."""
        return position(self.epoch, 0, 0) - 1

    def __str__(self) -> str:
        return (
            f"from {self.from_topic} ({self.from_partitions} partitions) to {self.topic} "
            f"({self.partitions} partitions, log epoch {self.epoch})"
        )


def note(warehouse: Warehouse, move: Move, step: Step, *, ends: Sequence[int] = (), months: Sequence[int] = ()) -> None:
    """Note that a step is done."""
    warehouse.insert(
        "log_moves",
        {
            "epoch": [move.epoch],
            "step": [str(step)],
            "from_topic": [move.from_topic],
            "from_partitions": [move.from_partitions],
            "topic": [move.topic],
            "partitions": [move.partitions],
            "settings": [dict(move.settings)],
            "ends": [list(ends)],
            "months": [list(months)],
        },
    )


def newest(warehouse: Warehouse) -> tuple[Move, Step] | None:
    """The newest move that was not abandoned, and its last step; None if there is none."""
    rows = warehouse.rows(named("newest_move"))
    if not rows or rows[0][-1] == Step.ABANDONED:
        return None
    *fields, step = rows[0]
    return Move(*fields), Step(step)


def drained_ends(warehouse: Warehouse, epoch: int) -> list[list[int]]:
    """Where the old topic ended each time that the move into this epoch found all of it counted, oldest first."""
    rows = warehouse.rows(
        "SELECT ends FROM log_moves WHERE epoch = %(epoch)s AND step = 'drained' ORDER BY at", {"epoch": epoch}
    )
    return [list(ends) for (ends,) in rows]


def current_epoch(warehouse: Warehouse) -> tuple[int, int] | None:
    """The newest log epoch that was counted, and its number of partitions; None before the first."""
    rows = warehouse.rows(named("newest_epoch"))
    return (int(rows[0][0]), int(rows[0][1])) if rows else None


def left(warehouse: Warehouse, epoch: int) -> str:
    """Why the log of this epoch is not the one to read and to count any more, in a sentence; empty if it is."""
    current = current_epoch(warehouse)
    if current is None or current[0] <= epoch:
        return ""
    found = newest(warehouse)
    if found is not None and found[0].epoch == current[0]:
        return (
            f"The log of epoch {epoch} has moved to topic {found[0].topic!r} with {found[0].partitions} partitions: "
            f"{new_settings(found[0])}."
        )
    return (
        f"The warehouse counts log epoch {current[0]}, and this is set to {epoch}: set FLATTR_LOG_EPOCH={current[0]}."
    )


def new_settings(move: Move) -> str:
    """What to set after a move."""
    return (
        f"set FLATTR_TOPIC_CLICKS={move.topic} and FLATTR_LOG_EPOCH={move.epoch} for all services and commands, and "
        "unset FLATTR_LOG_PARTITIONS"
    )


def moving(warehouse: Warehouse) -> str:
    """What to do about a move that was begun and is not done, in a sentence; empty if there is none."""
    found = newest(warehouse)
    if found is None or found[1] is Step.DONE:
        return ""
    return (
        f"The log is moving {found[0]}, and not done: run `flattr topics grow {found[0].partitions}` again to finish, "
        "with the settings with which it was begun."
    )


@dataclass(frozen=True)
class OldLog:
    """A log that has moved: ``ends`` are the offsets after its last records, ``months`` those of its clicks."""

    epoch: int
    topic: str
    ends: tuple[int, ...]
    months: frozenset[int]


def old_logs(warehouse: Warehouse, months: Sequence[int]) -> list[OldLog]:
    """The logs that were left with clicks of any of these months in them, oldest first."""
    rows = warehouse.rows(named("old_logs"), {"months": list(months)})
    return [OldLog(epoch, topic, tuple(ends), frozenset(found)) for epoch, topic, ends, found in rows]
