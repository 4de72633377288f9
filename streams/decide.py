"""Where each click counts: its month and its time, the same at every attempt. Pure.

A click's true time is an estimate that moves with the way of its request, so near a month's end two attempts could
come to two months, and be paid twice. Three rules forbid it; each is a function of the log alone:

1. **The first attempt decides.** A click whose time another attempt may see otherwise (``Times.retimed``, ``unsaid``)
   is remembered by its id, flattr and action in the month that it came to (``MonthState.retimed``); every later
   attempt of it, whatever it says, takes month and time from there.
2. **An attempt by the client's own time may have come before.** Such are not remembered: most clicks are. So an
   attempt that comes to another month than its own time's, and is not late there, looks at its flattr in the month of
   its own time: if the last word on it is older than this click, no attempt came before. Otherwise one may have, and
   this is one more of it.
3. **An undo reaches back while the month before is open**, when that has a flattr of the thing and its own month has
   none: it is a word in both, so that a flattr can be taken back until its month closes.

What is remembered is written before any flattr (streams/rows.py). So where the warehouse's flattrs are ahead of
``progress``, what was decided there is known, too, by the click's position (``MonthState.ahead``). Whatever hung on a
flattr's state is remembered, unless it stays true whatever comes after (the click is late in the month of rule 2; the
undo's own month has a flattr). Hence a replay decides as the first run did, though it sees flattrs yet to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ingest.click import AHEAD_MAX_MS, month_after, month_before, month_of, month_start_ms
from streams.decode import Columns
from streams.dedupe import SEEN_BIT, UNDO_BIT, VERSION_MASK
from streams.rows import Rows
from streams.state import MonthState
from streams.table import I64, U64, Table
from streams.timing import Flags, Times, months_of, near_months, times_of, within_reach

#: Of what is remembered: the time in ms; whether the month before is meant as well; that it is no empty slot.
TIME_MASK: Final = (1 << 43) - 1
REACH_BIT: Final = 62
_HELD: Final = 1 << 63

#: A month's state of the partition, read from the warehouse if need be.
Months = Callable[[int], MonthState]
Key = tuple[int, int]


@dataclass(slots=True)
class Keys:
    """Two words each: of a click, whose attempts have id, flattr and action in common; and of its flattr."""

    click_high: U64
    click_low: U64
    flattr_high: U64
    flattr_low: U64


@dataclass(slots=True)
class Decided:
    """Of each click: its month, when that ends, its time in ms; and of an undo, whether it reaches back a month."""

    months: I64
    ends: I64
    times_ms: I64
    reaching: Flags


@dataclass(slots=True)
class Batch:
    """Clicks to decide: those that are ``good``, of one partition, in their order."""

    clicks: Columns
    good: Flags
    keys: Keys
    partition: int
    grace_ms: int
    skew_min_ms: int
    state: Months
    rows: Rows


def decide(batch: Batch) -> Decided:
    """Decide the clicks, remember what has to be, and add the rows that say so."""
    times = times_of(batch.clicks, batch.skew_min_ms)
    months, starts, ends = months_of(within_reach(times.true_ms, batch.clicks.record_at_ms, batch.grace_ms))
    decided = Decided(months, ends, times.version_ms, np.zeros(len(months), np.bool_))
    near, together = _near(batch.clicks.record_at_ms)
    apart = _Apart(batch, times, starts, decided, near, together=together)
    if apart.unsaid.any():
        _decide_unsaid(batch, decided, near, np.flatnonzero(apart.unsaid))
    if apart.special.any():
        _OneByOne(batch, times, decided, near, np.flatnonzero(apart.special)).run()
    return decided


def _near(record_at_ms: I64) -> tuple[list[int], bool]:
    """Every month that some of the records is near to, and whether all are near to the same."""
    first, last = near_months(int(record_at_ms.min())), near_months(int(record_at_ms.max()))
    if first == last:
        return list(first), True
    moments = np.unique(record_at_ms)
    months, starts, _ = months_of(np.concatenate([moments, moments + AHEAD_MAX_MS]))
    before = months_of(np.maximum(np.unique(starts) - 1, 0))[0]
    return sorted({*months.tolist(), *before.tolist()}), False


def _among(high: U64, low: U64, of: Flags) -> Flags:
    """Which keys are one of those."""
    table = Table()
    table.keep_first(high[of], low[of], np.ones(int(of.sum()), np.uint64))
    found: Flags = table.values(high, low) != 0
    return found


class _Apart:
    """Which clicks are not simply what they say: ``special`` ones one by one, ``unsaid`` ones together."""

    def __init__(  # noqa: PLR0913 - what there is to look at
        self, batch: Batch, times: Times, starts: I64, decided: Decided, near: list[int], *, together: bool
    ) -> None:
        clicks, good, months = batch.clicks, batch.good, decided.months
        retimed, unsaid = times.retimed & good, times.unsaid & good
        tables = [batch.state(month).retimed for month in near]
        undo = clicks.marks >> np.uint64(UNDO_BIT) != 0
        reaching = good & undo & (clicks.record_at_ms < starts + batch.grace_ms)
        self.special = retimed | reaching
        if any(table.size for table in tables):
            known = good & np.any([table.values(batch.keys.click_high, batch.keys.click_low) for table in tables], 0)
            self.special |= known & ~unsaid
        lookers = reaching.copy()
        if retimed.any():
            own = months.copy()
            reach = within_reach(times.own_ms, clicks.record_at_ms, batch.grace_ms)
            own[retimed] = months_of(reach[retimed])[0]
            lookers |= own != months
        if lookers.any():
            self.special |= good & _among(batch.keys.flattr_high, batch.keys.flattr_low, lookers)
        if self.special.any():
            self.special |= good & _among(batch.keys.click_high, batch.keys.click_low, self.special)
        if any(batch.state(month).ahead for month in near):
            self.special = good
        if unsaid.any() and (not together or months[unsaid].min() != months[unsaid].max()):
            self.special |= unsaid
        self.unsaid = unsaid & ~self.special


def _decide_unsaid(batch: Batch, decided: Decided, near: list[int], which: I64) -> None:
    """Clicks of one month that say no time: known ones are what they were, the others are remembered."""
    high, low = batch.keys.click_high[which], batch.keys.click_low[which]
    month = int(decided.months[which[0]])
    left = np.ones(len(which), np.bool_)
    for known in near:
        words = batch.state(known).retimed.values(high, low)
        hit = left & (words != 0)
        _take(decided, which[hit], known, words[hit])
        left &= ~hit
    open_ = batch.clicks.record_at_ms[which] < decided.ends[which] + batch.grace_ms
    new = left & open_
    if month not in near or not new.any():
        return
    words = decided.times_ms[which[new]].astype(np.uint64) | np.uint64(_HELD)
    first = batch.state(month).retimed.keep_first(high[new], low[new], words) != 0
    _take(decided, which[new], month, words)
    _add_rows(batch, month, which[new][first], words[first])


def _take(decided: Decided, which: I64, month: int, words: U64) -> None:
    decided.months[which] = month
    decided.ends[which] = month_start_ms(month_after(month))
    decided.times_ms[which] = (words & np.uint64(TIME_MASK)).astype(np.int64)


def _add_rows(batch: Batch, month: int, which: I64, words: U64) -> None:
    if not len(which):
        return
    keys = np.empty(2 * len(which), np.uint64)
    keys[0::2], keys[1::2] = batch.keys.click_high[which], batch.keys.click_low[which]
    batch.rows.add(
        "retimed",
        month,
        month=np.full(len(which), month, np.uint32),
        partition=np.full(len(which), batch.partition, np.uint16),
        click_key=keys.view("V16"),
        position=batch.clicks.positions[which],
        word=words,
    )


class _OneByOne:
    """Clicks in their order, each before the state that those before it leave.

    ``which`` holds every click that touches what another of them looks at, so this sees all that matters to them.
    """

    def __init__(self, batch: Batch, times: Times, decided: Decided, near: list[int], which: I64) -> None:
        self._batch = batch
        self._times = times
        self._decided = decided
        self._which = which
        keys = batch.keys
        self._clicks = _pairs(keys.click_high[which], keys.click_low[which])
        self._flattrs = _pairs(keys.flattr_high[which], keys.flattr_low[which])
        #: Of each month near: what is remembered of clicks, and the words of flattrs.
        self._held: dict[int, dict[Key, int]] = {}
        self._words: dict[int, dict[Key, int]] = {}
        for month in near:
            state = batch.state(month)
            held = state.retimed.values(keys.click_high[which], keys.click_low[which]).tolist()
            words = state.flattrs.values(keys.flattr_high[which], keys.flattr_low[which]).tolist()
            self._held[month] = {key: word for key, word in zip(self._clicks, held, strict=True) if word}
            self._words[month] = dict(zip(self._flattrs, words, strict=True))
        self._new: dict[int, list[tuple[int, int]]] = {month: [] for month in near}

    def run(self) -> None:
        """Decide them all."""
        for place, index in enumerate(self._which.tolist()):
            self._decide(place, index)
        for month, new in self._new.items():
            if not new:
                continue
            which = np.array([index for index, _ in new], np.int64)
            words = np.array([word for _, word in new], np.uint64)
            keys = self._batch.keys
            self._batch.state(month).retimed.keep_first(keys.click_high[which], keys.click_low[which], words.copy())
            _add_rows(self._batch, month, which, words)

    def _decide(self, place: int, index: int) -> None:
        click, flattr, decided = self._clicks[place], self._flattrs[place], self._decided
        record_at_ms = int(self._batch.clicks.record_at_ms[index])
        near = near_months(record_at_ms)
        found = self._found(click, index, near)
        known = found is not None
        remembered = known or bool(self._times.retimed[index] or self._times.unsaid[index])
        month, word = found or self._first(flattr, index, near)
        start_ms, end_ms = month_start_ms(month), month_start_ms(month_after(month))
        decided.months[index], decided.ends[index] = month, end_ms
        decided.times_ms[index] = word & TIME_MASK
        if record_at_ms >= end_ms + self._batch.grace_ms or month not in near:
            return
        version = (word & TIME_MASK) << (UNDO_BIT + 1) | int(self._batch.clicks.marks[index])
        undo = bool(version >> UNDO_BIT & 1)
        before = month_before(month)
        if undo and record_at_ms < start_ms + self._batch.grace_ms and before in near:
            if not known and not self._words[month][flattr] >> SEEN_BIT:
                remembered = True
                word |= self._words[before][flattr] >> SEEN_BIT << REACH_BIT
            if word >> REACH_BIT & 1:
                decided.reaching[index] = True
                self._apply(before, flattr, version, undo=True)
        self._apply(month, flattr, version, undo=undo)
        if remembered and click not in self._held[month]:
            self._held[month][click] = word
            self._new[month].append((index, word))

    def _found(self, click: Key, index: int, near: tuple[int, ...]) -> tuple[int, int] | None:
        """Month and word of what was decided of this click before."""
        position = int(self._batch.clicks.positions[index])
        for month in near:
            word = self._held[month].get(click)
            if word is not None:
                return month, word
            at, word = self._batch.state(month).ahead.get(click, (-1, 0))
            if at == position:
                return month, word
        return None

    def _first(self, flattr: Key, index: int, near: tuple[int, ...]) -> tuple[int, int]:
        """Month and word of a click of which nothing is remembered."""
        times, month = self._times, int(self._decided.months[index])
        own_ms = int(times.own_ms[index])
        if times.retimed[index] and not (times.old is not None and times.old[index]):
            own = month_of(own_ms)
            late_from_ms = int(self._decided.ends[index]) + self._batch.grace_ms
            taken = month in near and self._batch.clicks.record_at_ms[index] < late_from_ms
            if own != month and own in near and taken:
                word, undo = self._words[own][flattr], int(self._batch.clicks.marks[index]) >> UNDO_BIT
                if (undo or word >> SEEN_BIT) and (word & VERSION_MASK) >> UNDO_BIT >= own_ms << 1 | undo:
                    return own, own_ms | _HELD
        return month, int(times.version_ms[index]) | _HELD

    def _apply(self, month: int, flattr: Key, version: int, *, undo: bool) -> None:
        word = self._words[month][flattr]
        seen = word >> SEEN_BIT or not undo
        self._words[month][flattr] = max(word & VERSION_MASK, version) | seen << SEEN_BIT


def _pairs(high: U64, low: U64) -> list[Key]:
    return list(zip(high.tolist(), low.tolist(), strict=True))
