"""Clicks that begin and end subscriptions, on the log."""

from __future__ import annotations

import re
import uuid
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from ingest.contract.click import Click, encode
from ingest.contract.month import MONTH_FIRST, MONTH_LAST, MonthText, month_after, month_text, parse_month
from streams.clicks.decode import read
from streams.source.chunk import LogRecord
from tests.streams.test_counting import Mark, assert_right, run
from tests.streams.test_true_time import HOUR, MIN, RULES
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, make_click

PATTERN = str(next(part.pattern for part in get_args(MonthText) if isinstance(part, Meta)))
LATE_MS = NOVEMBER_MS + 40 * 24 * HOUR


def order(action: str, number: int = 1, **fields: object) -> Click:
    return make_click(action=action, click_id=str(uuid.UUID(int=number)), **fields)  # type: ignore[arg-type]


def test_subscribing_is_a_flattr_of_the_month() -> None:
    played = run([order("subscribe", until="2027-03"), order("flattr", 2)])
    assert_right(played)
    assert [*played.ledger.counted().flattrs.values()] == [True]
    assert [until for _, until in played.ledger.orders.values()] == [202703]


def test_ending_a_subscription_leaves_the_flattr_and_brings_back_none() -> None:
    played = run([order("subscribe", 1), order("unsubscribe", 2, at_ms=NOVEMBER_MS + 5)])
    assert_right(played)
    assert [*played.ledger.counted().flattrs.values()] == [True]
    undone = run([order("subscribe", 1), order("undo", 2, at_ms=NOVEMBER_MS + 5), order("unsubscribe", 3)])
    assert_right(undone)
    assert [*undone.ledger.counted().flattrs.values()] == [False]
    assert sorted(ends for *_, ends in undone.ledger.orders) == [0, 1]


def test_attempts_of_one_click_are_one_row_with_the_earliest_time() -> None:
    attempts = [order("unsubscribe", at_ms=NOVEMBER_MS + after) for after in (MIN, 0, 2 * MIN)]
    played = run([*attempts, Mark.CRASH_AFTER_1, Mark.FLUSH])
    assert_right(played)
    assert [*played.ledger.orders.values()] == [(NOVEMBER_MS, 0)]


def test_orders_have_no_deadline() -> None:
    clicks = [order("subscribe", 1, received_at=LATE_MS), order("unsubscribe", 2, received_at=LATE_MS)]
    played = run(clicks, rules=RULES)
    assert_right(played, RULES.grace_ms)
    assert played.ledger.counted().tallies[NOVEMBER, "late"] == len(clicks)
    assert len(played.ledger.orders) == len(clicks)


@pytest.mark.parametrize("until", ["2026", "2026-13", "", "2026-11\\n", "2248-09", "1969-12"])
def test_month_that_ingest_never_writes_is_refused_and_the_clicks_beside_it_count(until: str) -> None:
    bad = encode(order("subscribe")).replace(b'"subscribe"', b'"subscribe","until":"%s"' % until.encode())
    found = read([LogRecord(0, NOVEMBER_MS, b"\n".join([encode(order("flattr")), bad]))], 0)
    assert [(line.reason, line.detail) for line in found.refused] == [
        ("field_value", "until is not a month such as 2026-11")
    ]
    assert len(found) == 1


def test_pattern_of_months_on_the_log_is_the_rule_of_months() -> None:
    month = MONTH_FIRST
    while month <= MONTH_LAST:
        assert re.search(PATTERN, month_text(month))
        month = month_after(month)
    for text in ("1969-12", "2248-09", "2249-01", "2026-00", "2026-13", "2026-11x", "x2026-11"):
        assert not re.search(PATTERN, text)


@given(st.text("0123456789-\n", max_size=8))
def test_pattern_of_months_takes_what_the_parser_takes(text: str) -> None:
    try:
        parse_month(text)
    except ValueError:
        assert not re.search(PATTERN, text)
    else:
        assert re.search(PATTERN, text)
