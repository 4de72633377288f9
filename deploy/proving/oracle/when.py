"""Decides when a click counts, by the written rules, click by click with plain dictionaries. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

SKEW_MS: Final = 60_000
CLOCKS_MAX_MS: Final = 60_000

#: Month, member, thing.
Key = tuple[int, str, str]


def month_of(at_ms: int) -> int:
    """The month of a time in UTC, such as 202611."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.year * 100 + at.month


def month_end_ms(month: int) -> int:
    """The first millisecond after a month."""
    year, number = divmod(month, 100)
    after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return int(after.timestamp()) * 1000


def month_before(month: int) -> int:
    """The previous month: 202701 -> 202612."""
    year, number = divmod(month, 100)
    return month - 1 if number > 1 else (year - 1) * 100 + 12


@dataclass
class Decision:
    """Month and time of a click, and the keys it affects: its own, and perhaps that of the month before."""

    month: int
    at_ms: int
    late: bool
    keys: list[Key] = field(default_factory=list)


@dataclass
class When:
    """The state after all clicks so far: remembered decisions, and each flattr's latest click."""

    grace_ms: int
    skew_ms: int = SKEW_MS
    #: By month and click (member, thing, action, id): the time, and whether it also affects the month before.
    remembered: dict[tuple[int, tuple[str, str, str, str]], tuple[int, bool]] = field(default_factory=dict)
    last_word: dict[Key, tuple[int, bool]] = field(default_factory=dict)
    counted: set[Key] = field(default_factory=set)

    def decide(self, click: Mapping[str, Any], stamp_ms: int) -> Decision:
        """Decide the next click. One that ends a subscription affects no flattr, and no attempt of it is remembered."""
        if click["action"] != "unsubscribe":
            return self._flattr_or_undo(click, stamp_ms)
        month = self._month(self._times(click, stamp_ms)[1], stamp_ms)
        return Decision(month, 0, late=stamp_ms >= month_end_ms(month) + self.grace_ms)

    def _flattr_or_undo(self, click: Mapping[str, Any], stamp_ms: int) -> Decision:
        month = month_of(stamp_ms)
        near = {month, month_of(stamp_ms + CLOCKS_MAX_MS), *([month_before(month)] if month > 197001 else [])}
        member, thing, undo = click["member_id"], click["thing_id"], click["action"] == "undo"
        name = (member, thing, "undo" if undo else "flattr", click["click_id"])
        known = next(
            ((of, *self.remembered[of, name]) for of in sorted(near) if (of, name) in self.remembered), None
        )  # fmt: skip
        own_ms, true_ms, word_ms, unsure, old = self._times(click, stamp_ms)
        if known:
            month, at_ms, reaches = known
        else:
            month, at_ms, reaches = self._month(true_ms, stamp_ms), word_ms, False
            own_key = (month_of(own_ms), member, thing)
            if (
                unsure and not old and own_key[0] != month and own_key[0] in near
                and month in near and stamp_ms < month_end_ms(month) + self.grace_ms
                and (undo or own_key in self.counted)
                and self.last_word.get(own_key, (-1, False)) >= (own_ms, undo)
            ):  # fmt: skip
                month, at_ms = own_key[0], own_ms
        decision = Decision(month, at_ms, late=stamp_ms >= month_end_ms(month) + self.grace_ms)
        if decision.late:
            return decision
        key, before = (month, member, thing), (month_before(month), member, thing)
        decision.keys.append(key)
        if undo and before[0] in near and stamp_ms < month_end_ms(before[0]) + self.grace_ms:
            if not known and key not in self.counted:
                unsure, reaches = True, before in self.counted
            if reaches:
                decision.keys.append(before)
        if unsure and not known and month in near:
            self.remembered[month, name] = at_ms, reaches
        for affected in decision.keys:
            self.last_word[affected] = max((at_ms, undo), self.last_word.get(affected, (-1, False)))
        if not undo:
            self.counted.add(key)
        return decision

    def _month(self, true_ms: int, stamp_ms: int) -> int:
        """The month of a time, but not before the month two before its record's if that one is past its grace."""
        oldest = month_of(stamp_ms)
        for _ in range(2):
            oldest = month_before(oldest) if oldest > 197001 else oldest
        return max(month_of(true_ms), oldest) if month_end_ms(oldest) + self.grace_ms <= stamp_ms else month_of(true_ms)

    def _times(self, click: Mapping[str, Any], stamp_ms: int) -> tuple[int, int, int, bool, bool]:
        """Own, true and version time of a click; whether another attempt may differ; whether it is an old record."""
        clicked, sent, received = click["clicked_at"], click.get("sent_at"), click.get("received_at", stamp_ms)
        skew = 0 if sent is None else received - sent
        true = max(0, min(clicked + (skew if abs(skew) >= self.skew_ms else 0), received))
        client = click.get("client_at")
        if client is not None and sent is None:
            return client, true, min(client, true), True, True
        unsure = true != clicked or abs(skew) >= self.skew_ms // 2 or (sent is None and clicked == received)
        return clicked, true, true, unsure, False
