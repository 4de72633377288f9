"""Where each click counts: its month and time, the same for every attempt. Pure.

A click's true time is an estimate that depends on its request's transit time, so near the end of a month two attempts
could fall into two months and be paid twice. Three rules prevent that; each is a function of the log alone:

1. **The first attempt decides.** A click whose next attempt may have another true time (``Times.retimed``, ``unsaid``)
   is remembered by id, flattr and action in the month it fell into (``MonthState.retimed``). Every later attempt,
   whatever it says, takes month and time from there.
2. **An attempt by the client's own time may have come first.** Such attempts, which are most clicks, are not
   remembered. So an attempt that falls into another month than its own time's, and is not late there, looks at its
   flattr in the month of its own time. If the flattr's version there is older than this click, no attempt came first.
   Otherwise one may have, and this counts as a repeat of it.
3. **An undo reaches back while the month before is open**, if that month has the flattr and the undo's own month does
   not. It then applies to both, so that a flattr can be undone until its month closes.

What is remembered is written before any flattr (streams/sink/flush_rows.py). So where flattrs are newer than
``progress``, the decisions behind them are known as well, by the click's position (``MonthState.newer``). Decisions
that depended on a flattr's state are remembered, unless later clicks cannot change them (the click is late in the
month of rule 2; the undo's own month has a flattr). Hence a replay decides as the first run did, although it sees
flattrs from later in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ingest.contract.month import month_before
from ingest.contract.times import AHEAD_MAX_MS
from streams.clicks.decode import Columns
from streams.counting.timing import Flags, Times, bounds_of, months_of, near_months, times_of, within_reach
from streams.sink.flush_rows import Rows
from streams.state.hash_table import I64, U64, HashTable
from streams.state.partition import MonthState
from streams.state.word import SEEN_BIT, UNDO_BIT, VERSION_MASK

#: Bits of a remembered word: the time in ms; whether it reaches back a month; that the slot is not empty.
TIME_MASK: Final = (1 << 43) - 1
REACH_BIT: Final = 62
_HELD: Final = 1 << 63

#: A month's state of the partition, read from the warehouse if need be.
Months = Callable[[int], MonthState]
Key = tuple[int, int]


@dataclass(slots=True)
class Keys:
    """The 128-bit keys of each click (id, flattr and action, the same for all attempts) and of its flattr."""

    click_high: U64
    click_low: U64
    flattr_high: U64
    flattr_low: U64


@dataclass(slots=True)
class Decided:
    """For each click: its month, the month's end and its time (ms), and whether it is an undo that reaches back."""

    months: I64
    ends: I64
    times_ms: I64
    reaching: Flags


@dataclass(slots=True)
class Batch:
    """Clicks of one partition in log order; those that are ``good`` are decided."""

    clicks: Columns
    good: Flags
    keys: Keys
    partition: int
    grace_ms: int
    skew_min_ms: int
    state: Months
    rows: Rows


def decide(batch: Batch) -> Decided:
    """Decide the clicks, and remember and add rows for those decisions that later attempts need."""
    times = times_of(batch.clicks, batch.skew_min_ms)
    record_at_ms = batch.clicks.record_at_ms
    months, starts, ends = months_of(within_reach(times.true_ms, record_at_ms, batch.grace_ms))
    decided = Decided(months, ends, times.version_ms, np.zeros(len(months), np.bool_))
    near, in_one_pass = _near(record_at_ms)
    own_months = months
    if times.retimed.any():
        own_months = months.copy()
        own_ms = within_reach(times.own_ms, record_at_ms, batch.grace_ms)
        own_months[times.retimed] = months_of(own_ms[times.retimed])[0]
    apart = _Apart(batch, times, decided, own_months, starts, near, in_one_pass=in_one_pass)
    if apart.retained.any():
        _decide_in_one_pass(batch, decided, near, np.flatnonzero(apart.retained))
    if apart.special.any():
        _OneByOne(batch, times, decided, own_months, near, np.flatnonzero(apart.special)).run()
    return decided


def _near(record_at_ms: I64) -> tuple[list[int], bool]:
    """The months near to any of the records, and whether they are the same for all records."""
    first, last = near_months(int(record_at_ms.min())), near_months(int(record_at_ms.max()))
    if first == last:
        return list(first), True
    moments = np.unique(record_at_ms)
    months, starts, _ = months_of(np.concatenate([moments, moments + AHEAD_MAX_MS]))
    before = months_of(np.maximum(np.unique(starts) - 1, 0))[0]
    return sorted({*months.tolist(), *before.tolist()}), False


def _among(high: U64, low: U64, of: Flags) -> Flags:
    """Which keys equal one of the flagged keys."""
    table = HashTable()
    table.keep_first(high[of], low[of], np.ones(int(of.sum()), np.uint64))
    found: Flags = table.values(high, low) != 0
    return found


class _Apart:
    """Selects the clicks that need more than their own fields to decide.

    ``special`` clicks are decided one by one: those that depend on a flattr, those that change it, and other attempts
    of either. ``retained`` clicks only have to be remembered, all in one month, which is done in one pass.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the batch and what was derived from it
        self,
        batch: Batch,
        times: Times,
        decided: Decided,
        own_months: I64,
        starts: I64,
        near: list[int],
        *,
        in_one_pass: bool,
    ) -> None:
        clicks, good, keys = batch.clicks, batch.good, batch.keys
        states = [batch.state(month) for month in near]
        retained = (times.retimed | times.unsaid) & good
        undo = clicks.marks >> np.uint64(UNDO_BIT) != 0
        looking = good & undo & (clicks.record_at_ms < starts + batch.grace_ms)
        looking |= good & (own_months != decided.months)
        self.special = looking
        if looking.any():
            self.special = good & _among(keys.flattr_high, keys.flattr_low, looking)
        if any(state.retimed.size for state in states):
            tables = (state.retimed.values(keys.click_high, keys.click_low) != 0 for state in states)
            self.special = self.special | (good & ~retained & np.logical_or.reduce(list(tables)))
        months = decided.months[retained]
        if any(state.newer for state in states):
            self.special = good
        elif len(months) and not (in_one_pass and months.min() == months.max() and int(months[0]) in near):
            self.special = self.special | retained
        # Other clicks of this batch may be attempts of the remembered ones.
        if self.special.any() or retained.any():
            self.special = self.special | (good & _among(keys.click_high, keys.click_low, self.special))
            others = good & ~retained & ~self.special
            if retained.any() and others.any():
                self.special = self.special | self._attempts_of(keys, retained & ~self.special, others)
        self.retained = retained & ~self.special

    @staticmethod
    def _attempts_of(keys: Keys, retained: Flags, others: Flags) -> Flags:
        """Those of ``others`` that are attempts of retained clicks, and those retained clicks."""
        same = others & _among(keys.click_high, keys.click_low, retained)
        return same | (retained & _among(keys.click_high, keys.click_low, same)) if same.any() else same


def _decide_in_one_pass(batch: Batch, decided: Decided, near: list[int], which: I64) -> None:
    """Decide clicks that fall into one month: known ones as before, the others are remembered."""
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
    if not new.any():
        return
    words = decided.times_ms[which[new]].astype(np.uint64) | np.uint64(_HELD)
    first = batch.state(month).retimed.keep_first(high[new], low[new], words) != 0
    _take(decided, which[new], month, words)
    _add_rows(batch, month, which[new][first], words[first])


def _take(decided: Decided, which: I64, month: int, words: U64) -> None:
    decided.months[which] = month
    decided.ends[which] = bounds_of(month)[1]
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
    """Decides clicks in order, each on the state left by those before it.

    ``which`` includes every click that affects what another one depends on, so nothing outside of it matters.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the batch and what was derived from it
        self, batch: Batch, times: Times, decided: Decided, own_months: I64, near: list[int], which: I64
    ) -> None:
        self._batch, self._decided, self._which = batch, decided, which
        keys, clicks = batch.keys, batch.clicks
        self._clicks = _pairs(keys.click_high[which], keys.click_low[which])
        self._flattrs = _pairs(keys.flattr_high[which], keys.flattr_low[which])
        self._positions: list[int] = clicks.positions[which].tolist()
        self._record_at_ms: list[int] = clicks.record_at_ms[which].tolist()
        self._marks: list[int] = clicks.marks[which].tolist()
        self._own_ms: list[int] = times.own_ms[which].tolist()
        self._own_months: list[int] = own_months[which].tolist()
        self._months: list[int] = decided.months[which].tolist()
        self._times_ms: list[int] = decided.times_ms[which].tolist()
        self._unsure: list[bool] = (times.retimed | times.unsaid)[which].tolist()
        self._old: list[bool] = [False] * len(which) if times.old is None else times.old[which].tolist()
        self._reaching: list[int] = []
        #: For each month nearby: the remembered words of clicks, and the words of flattrs.
        self._held: dict[int, dict[Key, int]] = {}
        self._words: dict[int, dict[Key, int]] = {}
        self._newer: dict[int, dict[Key, tuple[int, int]]] = {}
        for month in near:
            state = batch.state(month)
            held = state.retimed.values(keys.click_high[which], keys.click_low[which]).tolist()
            words = state.flattrs.values(keys.flattr_high[which], keys.flattr_low[which]).tolist()
            self._held[month] = {key: word for key, word in zip(self._clicks, held, strict=True) if word}
            self._words[month] = dict(zip(self._flattrs, words, strict=True))
            if state.newer:
                self._newer[month] = state.newer
        self._new: dict[int, list[tuple[int, int]]] = {month: [] for month in near}

    def run(self) -> None:
        """Decide all clicks."""
        for place in range(len(self._which)):
            self._decide(place)
        decided, which, keys = self._decided, self._which, self._batch.keys
        decided.months[which], decided.times_ms[which] = self._months, self._times_ms
        decided.ends[which] = [bounds_of(month)[1] for month in self._months]
        decided.reaching[which[self._reaching]] = True
        for month, new in self._new.items():
            if new:
                at = which[[place for place, _ in new]]
                words = np.array([word for _, word in new], np.uint64)
                self._batch.state(month).retimed.keep_first(keys.click_high[at], keys.click_low[at], words.copy())
                _add_rows(self._batch, month, at, words)

    def _decide(self, place: int) -> None:
        click, flattr, record_at_ms = self._clicks[place], self._flattrs[place], self._record_at_ms[place]
        near = near_months(record_at_ms)
        found = self._found(click, place, near)
        remembered = found is not None or self._unsure[place]
        month, word = found or self._first(flattr, place, near)
        start_ms, end_ms = bounds_of(month)
        time_ms = word & TIME_MASK
        self._months[place], self._times_ms[place] = month, time_ms
        if record_at_ms >= end_ms + self._batch.grace_ms or month not in near:
            return
        version = time_ms << (UNDO_BIT + 1) | self._marks[place]
        undo = bool(version >> UNDO_BIT & 1)
        if undo and record_at_ms < start_ms + self._batch.grace_ms and month_before(month) in near:
            before = month_before(month)
            if found is None and not self._words[month][flattr] >> SEEN_BIT:
                remembered = True
                word |= self._words[before][flattr] >> SEEN_BIT << REACH_BIT
            if word >> REACH_BIT & 1:
                self._reaching.append(place)
                self._apply(before, flattr, version, undo=True)
        self._apply(month, flattr, version, undo=undo)
        if remembered and click not in self._held[month]:
            self._held[month][click] = word
            self._new[month].append((place, word))

    def _found(self, click: Key, place: int, near: tuple[int, ...]) -> tuple[int, int] | None:
        """Month and word of an earlier decision about this click."""
        for month in near:
            word = self._held[month].get(click)
            if word is not None:
                return month, word
            if month in self._newer:
                at, word = self._newer[month].get(click, (-1, 0))
                if at == self._positions[place]:
                    return month, word
        return None

    def _first(self, flattr: Key, place: int, near: tuple[int, ...]) -> tuple[int, int]:
        """Month and word of a click without an earlier decision (rule 2)."""
        month, own_month = self._months[place], self._own_months[place]
        if own_month != month and own_month in near and month in near and not self._old[place]:
            late_from_ms = bounds_of(month)[1] + self._batch.grace_ms
            word, undo = self._words[own_month][flattr], self._marks[place] >> UNDO_BIT
            if (
                self._record_at_ms[place] < late_from_ms
                and (undo or word >> SEEN_BIT)
                and (word & VERSION_MASK) >> UNDO_BIT >= self._own_ms[place] << 1 | undo
            ):
                return own_month, self._own_ms[place] | _HELD
        return month, self._times_ms[place] | _HELD

    def _apply(self, month: int, flattr: Key, version: int, *, undo: bool) -> None:
        word = self._words[month][flattr]
        seen = word >> SEEN_BIT or not undo
        self._words[month][flattr] = max(word & VERSION_MASK, version) | seen << SEEN_BIT


def _pairs(high: U64, low: U64) -> list[Key]:
    return list(zip(high.tolist(), low.tolist(), strict=True))
