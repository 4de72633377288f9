"""The outcome of clicks as rows of the warehouse's tables; each row is a function of the log up to it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streams.clicks.decode import Columns
from streams.clicks.string_columns import NAMELESS
from streams.counting.dedupe import DUPLICATE, NO_ROW, UNDONE, VERSION_ROW
from streams.sink.flush_rows import Rows
from streams.state.hash_table import I64, U8, U64
from streams.state.partition import NO_POSITION

_NO_CLICK: Final = np.zeros((), "V16")
_TIME: Final = "<M8[ms]"


class ResultRows:
    """Adds rows of one month and partition; ``which`` are indices into the columns of clicks."""

    def __init__(self, month: int, partition: int, clicks: Columns, rows: Rows) -> None:
        self._month = month
        self._partition = partition
        self._clicks = clicks
        self._rows = rows

    def add_labels(self, which: I64, labels: U8) -> None:
        """Add a row for each duplicate and undo."""
        for label, table in ((DUPLICATE, "duplicates"), (UNDONE, "undos")):
            at = which[labels == label]
            if len(at):
                self._rows.add(
                    table,
                    self._month,
                    month=self._months(at),
                    partition=self._partitions(at),
                    position=self._clicks.positions[at],
                    click_id=self._clicks.click_ids[at],
                    member_id=self._clicks.members.packed(at),
                    thing_id=self._clicks.thing_ids[at],
                )

    def add_flattrs(self, which: I64, kinds: U8) -> None:
        """Add the flattrs that clicks created, and those whose version they changed."""
        at = which[kinds != NO_ROW]
        if not len(at):
            return
        moved = kinds[kinds != NO_ROW] == VERSION_ROW
        positions = self._clicks.positions[at]
        click_ids = self._clicks.click_ids[at]
        click_ids[moved] = _NO_CLICK
        self._rows.add(
            "flattrs",
            self._month,
            month=self._months(at),
            member_id=self._clicks.members.packed(at),
            creator_id=self._clicks.creators.packed(at),
            thing_id=self._clicks.thing_ids[at],
            first_position=np.where(moved, np.uint64(NO_POSITION), positions),
            position=positions,
            version=self._clicks.versions[at],
            click_id=click_ids,
            site_id=self._clicks.sites.packed(np.where(moved, NAMELESS, at)),
            clicked_at=np.where(moved, 0, self._clicks.times_ms[at]).view(_TIME),
        )

    def add_counts(self, table: str, last: I64, counts: U64) -> None:
        """Add counts, each at the position of the last click that changed it."""
        if not len(last):
            return
        clicks = self._clicks
        named: dict[str, Any] = {"creator_id": clicks.creators.packed(last)}
        if table == "counts_by_member":
            named["member_id"] = clicks.members.packed(last)
        else:
            named["partition"] = self._partitions(last)
        if table == "counts_by_thing":
            named["thing_id"] = clicks.thing_ids[last]
        self._rows.add(
            table,
            self._month,
            month=self._months(last),
            flattrs=counts,
            position=clicks.positions[last],
            **named,
        )

    def add_things(self, touched: I64) -> None:
        """Add the addresses of touched things; repeating one changes nothing."""
        self._rows.add(
            "things",
            0,
            thing_id=self._clicks.thing_ids[touched],
            creator_id=self._clicks.creators.packed(touched),
            thing=self._clicks.things.packed(touched),
        )

    def _months(self, which: I64) -> npt.NDArray[np.uint32]:
        return np.full(len(which), self._month, np.uint32)

    def _partitions(self, which: I64) -> npt.NDArray[np.uint16]:
        return np.full(len(which), self._partition, np.uint16)
