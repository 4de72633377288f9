"""What a worker remembers of one partition: a function of the partition's log up to ``position``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from streams.state.hash_table import HashTable
from streams.state.memory import UNBOUNDED, Memory

TALLIES: Final = ("accepted", "counted", "duplicate", "undo", "rejected", "late")
#: Keeps (member, creator) apart from (creator, member) when their hashes are combined.
PAIR_STIR: Final = 0x9E3779B97F4A7C15
#: `first_position` of a flattr that no click was counted for.
NO_POSITION: Final = (1 << 64) - 1
#: The current month and the one before it, which its grace keeps open.
MONTHS_MAX: Final = 2


class MonthState:
    """One month of one partition: the flattrs and the counts of those that are active."""

    def __init__(self, memory: Memory = UNBOUNDED) -> None:
        self.flattrs = HashTable(memory)
        self.creators = HashTable(memory)
        self.things = HashTable(memory)
        self.pairs = HashTable(memory)
        #: Flattrs that the warehouse counted after ``progress``: the replay of their clicks is no duplicate.
        self.first_positions: dict[tuple[int, int], int] = {}
        #: What was decided of clicks that another attempt may see otherwise (streams/counting/decide.py), by click.
        self.retimed = HashTable(memory)
        #: The same of clicks after ``progress``, with the position of each: it is in force from there on.
        self.newer: dict[tuple[int, int], tuple[int, int]] = {}

    @property
    def tables(self) -> tuple[HashTable, ...]:
        """Those of its flattrs."""
        return self.flattrs, self.creators, self.things, self.pairs

    @property
    def bytes(self) -> int:
        """What the tables take."""
        return sum(table.bytes for table in (*self.tables, self.retimed))


@dataclass(slots=True)
class PartitionState:
    """One partition: how far it is counted, what became of the clicks until there, and its open months."""

    number: int
    #: Of the last click counted in; -1 is before the first, whose position is 0.
    position: int = -1
    record_at_ms: int = 0
    tallies: dict[int, dict[str, int]] = field(default_factory=dict)
    months: dict[int, MonthState] = field(default_factory=dict)

    def tally(self, month: int, label: str, clicks: int) -> None:
        """Add clicks to a month's tallies: under their label and under accepted."""
        if clicks:
            of_month = self.tallies.setdefault(month, dict.fromkeys(TALLIES, 0))
            of_month[label] += clicks
            of_month["accepted"] += clicks

    def pass_to(self, position: int) -> None:
        """Everything up to this position is counted."""
        self.position = position
        for month in self.months.values():
            if month.newer:
                month.newer = {click: known for click, known in month.newer.items() if known[0] > position}

    def keep_months(self, used: Iterable[int]) -> None:
        """Forget all months but those just used and the newest; a forgotten one is read again when needed."""
        keep = set(used) | set(sorted(self.months)[-MONTHS_MAX:])
        for month in set(self.months) - keep:
            del self.months[month]

    @property
    def flattrs(self) -> int:
        """Flattrs in memory."""
        return sum(month.flattrs.size for month in self.months.values())

    @property
    def bytes(self) -> int:
        """What the months' tables take."""
        return sum(month.bytes for month in self.months.values())
