"""The state of one partition: a function of its log up to ``position``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from streams.state.hash_table import HashTable
from streams.state.memory import UNBOUNDED, Memory

TALLIES: Final = ("accepted", "counted", "duplicate", "undo", "rejected", "late")
#: Distinguishes (member, creator) from (creator, member) when their hashes are combined.
PAIR_STIR: Final = 0x9E3779B97F4A7C15
#: `first_position` of a flattr without a counted click.
NO_POSITION: Final = (1 << 64) - 1
#: The current month and the one before it, which is open during its grace.
MONTHS_MAX: Final = 2


class MonthState:
    """One month of one partition: its flattrs, and the counts of active ones."""

    def __init__(self, memory: Memory = UNBOUNDED) -> None:
        self.flattrs = HashTable(memory)
        self.creators = HashTable(memory)
        self.things = HashTable(memory)
        self.pairs = HashTable(memory)
        #: Flattrs whose counted click is newer than ``progress``: its replay must not be labelled duplicate.
        self.first_positions: dict[tuple[int, int], int] = {}
        #: Remembered decisions about clicks (streams/counting/decide.py).
        self.retimed = HashTable(memory)
        #: Decisions newer than ``progress``, with their positions: each applies from there on.
        self.newer: dict[tuple[int, int], tuple[int, int]] = {}

    def for_child(self) -> MonthState:
        """The same tables, for a partition of a grown log that has some of this one's members and nobody else's.

        Its siblings share them: no key of one member is ever asked for another. The counts are of all siblings.
        """
        child = MonthState()
        child.flattrs, child.creators, child.things, child.pairs = self.tables
        child.retimed = self.retimed
        return child

    @property
    def tables(self) -> tuple[HashTable, ...]:
        """The tables of flattrs and their counts."""
        return self.flattrs, self.creators, self.things, self.pairs

    @property
    def bytes(self) -> int:
        """The size of the tables."""
        return sum(table.bytes for table in (*self.tables, self.retimed))


@dataclass(slots=True)
class PartitionState:
    """One partition: its progress, the tallies up to there, and its open months."""

    number: int
    #: The position of the last click counted; -1 before the first, whose position is 0.
    position: int = -1
    record_at_ms: int = 0
    tallies: dict[int, dict[str, int]] = field(default_factory=dict)
    months: dict[int, MonthState] = field(default_factory=dict)

    def tally(self, month: int, label: str, clicks: int) -> None:
        """Add clicks to a month's tallies, under their label and under accepted."""
        if clicks:
            of_month = self.tallies.setdefault(month, dict.fromkeys(TALLIES, 0))
            of_month[label] += clicks
            of_month["accepted"] += clicks

    def pass_to(self, position: int) -> None:
        """Mark everything up to this position as counted."""
        self.position = position
        for month in self.months.values():
            if month.newer:
                month.newer = {click: known for click, known in month.newer.items() if known[0] > position}

    def keep_months(self, used: Iterable[int]) -> None:
        """Drop all months but those just used and the newest; a dropped one is loaded again when needed."""
        keep = set(used) | set(sorted(self.months)[-MONTHS_MAX:])
        for month in set(self.months) - keep:
            del self.months[month]

    @property
    def flattrs(self) -> int:
        """Flattrs in memory."""
        return sum(month.flattrs.size for month in self.months.values())

    @property
    def bytes(self) -> int:
        """The size of the months' tables."""
        return sum(month.bytes for month in self.months.values())
