"""Any clocks, ways and retries: each click counts once, in one month, at one time; and an undo wins."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.contract.click import Click, decode, encode
from ingest.contract.times import TIME_END_MS, true_time_ms
from streams.clicks.decode import read
from streams.counting.count_batch import CountingRules, count_records
from streams.counting.timing import months_of, near_months, times_of
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from tests.streams.test_counting import PARTITIONS, History, Mark, Played, assert_right, run
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, make_click, partition_of
from tests.support.packed import values_of

S, MIN, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
OCTOBER = 202610
RULES = CountingRules(partitions=PARTITIONS, epoch=0, grace_ms=HOUR, topic="clicks")
TIMES = st.integers(0, TIME_END_MS - 1) | st.integers(NOVEMBER_MS - 3 * MIN, NOVEMBER_MS + 3 * MIN)


@given(
    st.lists(st.tuples(TIMES, st.none() | TIMES, TIMES, st.none() | TIMES), min_size=1, max_size=8),
    st.sampled_from([0, 1, MIN]),
)
def test_true_times_of_columns_are_those_of_the_contract(
    times: list[tuple[int, int | None, int, int | None]], skew_min_ms: int
) -> None:
    clicks = [
        make_click(clicked_at=clicked, sent_at=sent, received_at=received, client_at=client)
        for clicked, sent, received, client in times
    ]
    found = times_of(read([LogRecord(0, 1, b"\n".join(map(encode, clicks)))], 0), skew_min_ms)
    assert found.true_ms.tolist() == [
        true_time_ms(clicked, sent, received, skew_min_ms) for clicked, sent, received, _ in times
    ]
    assert (found.version_ms <= found.true_ms).all()


def attempt(  # noqa: PLR0913 - a test says what it means
    pressed: int,
    *,
    skew: int = 0,
    skew_then: int | None = None,
    waited: int = 0,
    way: int = 100,
    member: str = "anna",
    thing: str = "a",
    undo: bool = False,
    number: int = 0,
) -> Click:
    """A click pressed at a true time, sent after waiting, received after its way; the clock is ``skew`` ahead.

    ``skew_then``: ahead by so much when it is sent.
    """
    sent = pressed + waited
    return make_click(
        member, "creator", thing,
        at_ms=sent + way,
        clicked_at=max(0, pressed + skew),
        sent_at=max(0, sent + (skew if skew_then is None else skew_then)),
        click_id=str(uuid.UUID(int=number)),
        action="undo" if undo else "flattr",
    )  # fmt: skip


SKEWS = st.sampled_from(
    [0, 0, 20 * S, -20 * S, 45 * S, -45 * S, 59 * S, -59 * S, 61 * S, -61 * S, 2 * MIN, -2 * MIN, HOUR, -HOUR, DAY,
     -DAY, 31 * DAY, -31 * DAY, 400 * DAY, -40 * 366 * DAY]
)  # fmt: skip
NEAR = st.sampled_from([-2 * HOUR, -2 * MIN, -30 * S, -1, 0, 10 * S, 2 * MIN, 50 * MIN, 2 * HOUR, 9 * DAY])


@dataclass(frozen=True)
class Press:
    """One press and how it was sent."""

    pressed: int
    member: str
    thing: str
    undo: bool
    skew: int
    sends: tuple[tuple[int, int, int], ...]  # waited, way, by how much the clock is ahead of skew when it is sent

    def attempts(self, number: int) -> list[Click]:
        return [
            attempt(
                NOVEMBER_MS + self.pressed, skew=self.skew, skew_then=self.skew + drift, waited=waited, way=way,
                member=self.member, thing=self.thing, undo=self.undo, number=number,
            )
            for waited, way, drift in self.sends
        ]  # fmt: skip


SENDS = st.tuples(
    st.sampled_from([0, 0, 5 * S, 2 * MIN, 40 * MIN, 2 * HOUR, 20 * DAY]),
    st.sampled_from([0, 100, 20 * S, 70 * S, HOUR]),
    st.sampled_from([0, 0, 0, 45 * S, -2 * MIN, 31 * DAY, -31 * DAY]),
)
PRESSES = st.builds(
    Press, NEAR, st.sampled_from(["anna", "bert"]), st.sampled_from(["a", "b"]), st.booleans(), SKEWS,
    st.lists(SENDS, min_size=1, max_size=4).map(tuple),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    presses=st.lists(PRESSES, min_size=1, max_size=6),
    marks=st.lists(st.tuples(st.integers(0, 24), st.sampled_from(Mark)), max_size=8),
    silent=st.booleans(),
)
def test_any_clocks_ways_retries_and_crashes_count_each_click_once_in_one_month(
    presses: list[Press], marks: list[tuple[int, Mark]], *, silent: bool
) -> None:
    clicks = [click for number, press in enumerate(presses) for click in press.attempts(number)]
    if silent:  # a client that says no times
        clicks = [msgspec.structs.replace(one, clicked_at=one.received_at, sent_at=None) for one in clicks]
    history: History = [*sorted(clicks, key=lambda click: click.received_at)]
    for place, mark in sorted(marks, key=lambda one: -one[0]):
        history.insert(min(place, len(history)), mark)
    played = run(history, rules=RULES)
    assert_right(played, RULES.grace_ms)
    assert_once(played)


def assert_once(played: Played) -> None:
    """No oracle needed for this: no click in two months, none counted twice, none in times to come."""
    months, counted = defaultdict(set), defaultdict(int)
    ids = ids_by_position(played)
    for row in played.ledger.raw_flattrs:
        if row["first_position"] == row["position"]:
            partition = partition_of(row["member_id"], PARTITIONS)
            months[ids[partition, row["position"]]].add(row["month"])
    for id_ in {row["click_id"] for row in played.ledger.raw_flattrs if any(row["click_id"])}:
        counted[id_] = len({row["month"] for row in played.ledger.raw_flattrs if row["click_id"] == id_})
    for (table, _, _), row in played.ledger.labelled.items():
        if table in {"duplicates", "undos"}:
            months[str(uuid.UUID(bytes=row["click_id"]))].add(row["month"])
    assert all(len(found) == 1 for found in months.values()), months
    assert set(counted.values()) <= {1}
    newest = max(click.received_at for click in played.clicks)
    assert all(row["version"] >> 20 <= newest for row in played.ledger.raw_flattrs)
    tallies = played.ledger.counted().tallies
    of = {label: sum(number for (_, name), number in tallies.items() if name == label) for _, label in tallies}
    assert of.pop("accepted") == sum(of.values()) == len(played.clicks)


def ids_by_position(played: Played) -> dict[tuple[int, int], str]:
    return {
        (number, record.offset << 16 | index): decode(line).click_id
        for number, records in played.log.items()
        for record in records
        for index, line in enumerate(record.value.split(b"\n"))
    }


@settings(max_examples=100, deadline=None)
@given(
    skew=st.sampled_from([0, 20 * S, -45 * S, 2 * MIN, -2 * MIN, DAY, -DAY, 300 * DAY, -300 * DAY]),
    undo_skew=st.none() | st.sampled_from([0, 2 * MIN, -2 * MIN, 31 * DAY]),
    gap=st.sampled_from([10 * S, 40 * S, 3 * MIN, 2 * HOUR]),
    flattr_sends=st.lists(st.tuples(st.sampled_from([0, MIN, 30 * MIN, 3 * HOUR]), st.integers(0, 9 * S)), min_size=1),
    undo_sends=st.lists(st.tuples(st.sampled_from([0, MIN, 30 * MIN, 3 * HOUR]), st.integers(0, 9 * S)), min_size=1),
    pressed=st.sampled_from([10 * DAY, HOUR, DAY]),
)
def test_undo_pressed_after_a_flattr_wins_whatever_is_retried(  # noqa: PLR0913, PLR0917 - all that may differ
    skew: int,
    undo_skew: int | None,
    gap: int,
    flattr_sends: list[tuple[int, int]],
    undo_sends: list[tuple[int, int]],
    pressed: int,
) -> None:
    """Bounds: requests under way for less than what lies between, two devices whose clocks are right or mended."""
    if undo_skew is not None and abs(skew) < MIN:
        skew = 0
    pressed += NOVEMBER_MS
    clicks = [
        attempt(pressed, skew=skew, waited=waited, way=way, number=1) for waited, way in [(0, 50), *flattr_sends]
    ] + [
        attempt(
            pressed + gap, skew=skew if undo_skew is None else undo_skew, waited=waited, way=way, undo=True, number=2
        )
        for waited, way in undo_sends
    ]
    played = run([*sorted(clicks, key=lambda click: click.received_at)], rules=RULES)
    assert set(played.ledger.counted().flattrs.values()) == {False}


def active(history: History) -> dict[int, bool]:
    """By month, whether anna's flattr of a stands."""
    played = run([one for item in history for one in (item, Mark.BLOCK)], rules=RULES)
    assert_right(played, RULES.grace_ms)
    assert_once(played)
    return {month: stands for (month, *_), stands in played.ledger.counted().flattrs.items()}


NOON = NOVEMBER_MS + 10 * DAY


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(
            [attempt(NOVEMBER_MS - DAY), attempt(NOVEMBER_MS - DAY, waited=9 * DAY)], {OCTOBER: True},
            id="a click kept by its page and sent again next month is paid once",
        ),
        pytest.param(
            [make_click(at_ms=NOVEMBER_MS - DAY, click_id=str(uuid.UUID(int=1))),
             make_click(at_ms=NOVEMBER_MS + DAY, click_id=str(uuid.UUID(int=1)))], {OCTOBER: True},
            id="the same from a client that says no time",
        ),
        pytest.param(
            [attempt(NOON, skew=2 * MIN), attempt(NOON + 30 * S, undo=True, number=1)], {NOVEMBER: False},
            id="a phone two minutes ahead, and an undo from a right laptop",
        ),
        pytest.param(
            [attempt(NOON), attempt(NOON + 30 * S, skew=-2 * MIN, undo=True, number=1)], {NOVEMBER: False},
            id="a right laptop, and an undo from a phone two minutes behind",
        ),
        pytest.param(
            [make_click(at_ms=NOON, clicked_at=NOON + 300 * DAY), attempt(NOON + MIN, undo=True, number=1)],
            {NOVEMBER: False},
            id="a flattr of times to come can be taken back",
        ),
        pytest.param(
            [make_click(at_ms=NOON, client_at=NOON + 300 * DAY), attempt(NOON + MIN, undo=True, number=1)],
            {NOVEMBER: False},
            id="the same in a record of before",
        ),
        pytest.param(
            [attempt(NOON, skew=-NOON + MIN)], {NOVEMBER: True},
            id="a clock of 1970",
        ),
        pytest.param(
            [attempt(NOVEMBER_MS - MIN), attempt(NOVEMBER_MS + 30 * MIN, undo=True, number=1)],
            {OCTOBER: False, NOVEMBER: False},
            id="taken back until the month closes",
        ),
        pytest.param(
            [attempt(NOVEMBER_MS - MIN), attempt(NOVEMBER_MS + HOUR, undo=True, number=1)],
            {OCTOBER: True, NOVEMBER: False},
            id="and not afterwards",
        ),
        pytest.param(
            [attempt(NOVEMBER_MS - MIN), attempt(NOVEMBER_MS + 10 * MIN, number=1),
             attempt(NOVEMBER_MS + 30 * MIN, undo=True, number=2)],
            {OCTOBER: True, NOVEMBER: False},
            id="an undo of this month's flattr leaves the month before alone",
        ),
        pytest.param(
            [attempt(NOVEMBER_MS - 20 * S, skew=-10 * S), attempt(NOVEMBER_MS - 20 * S, skew=-10 * S, way=52 * S)],
            {OCTOBER: True},
            id="a retry whose way makes it look like next month's",
        ),
        pytest.param(
            [attempt(NOVEMBER_MS - 20 * S, skew=-10 * S, way=52 * S),
             attempt(NOVEMBER_MS - 20 * S, skew=-10 * S, waited=MIN)],
            {NOVEMBER: True},
            id="the other way round",
        ),
        pytest.param(
            [attempt(NOVEMBER_MS - 20 * DAY), attempt(NOVEMBER_MS + 12 * DAY, skew=-31 * DAY, number=1)],
            {OCTOBER: True, NOVEMBER: True},
            id="a device a month behind flattrs in both months",
        ),
    ],
)  # fmt: skip
def test_story(history: History, expected: dict[int, bool]) -> None:
    assert active(history) == expected
    for crash in (Mark.CRASH_AFTER_1, Mark.CRASH_AFTER_2, Mark.CRASH_AFTER_3, Mark.ZOMBIE):
        assert active([*history, crash]) == expected
        assert active([*history[:1], crash, *history[1:], crash]) == expected


def test_months_that_clocks_name_are_not_read() -> None:
    asked = []

    def load(month: int) -> MonthState:
        asked.append(month)
        return MonthState()

    wild = [attempt(NOON, skew=days * DAY, number=days + 3000) for days in range(-3000, 3000, 31)]
    state = PartitionState(partition_of("anna", 1))
    count_records(
        state, [LogRecord(0, NOON + S, b"\n".join(map(encode, wild)))], replace(RULES, partitions=1), load, Rows()
    )
    assert sorted(asked) == [OCTOBER, NOVEMBER]
    assert state.tallies[NOVEMBER] == {
        "accepted": len(wild), "counted": 1, "duplicate": len(wild) - 1, "undo": 0, "rejected": 0, "late": 0,
    }  # fmt: skip


def test_near_months_are_the_records_the_one_before_and_within_a_minute_the_next() -> None:
    assert near_months(NOON) == (OCTOBER, NOVEMBER)
    assert near_months(NOVEMBER_MS - MIN) == (202609, OCTOBER, NOVEMBER)
    assert near_months(NOVEMBER_MS - MIN - 1) == (202609, OCTOBER)
    assert near_months(0) == (197001,)
    months, starts, ends = months_of(np.array([0, NOVEMBER_MS, TIME_END_MS - 1]))
    assert months.tolist() == [197001, NOVEMBER, 224809]
    assert (starts[1], ends[1]) == (NOVEMBER_MS, NOVEMBER_MS + 30 * DAY)


def test_click_keeps_its_time_in_its_row() -> None:
    click = attempt(NOON, skew=HOUR, way=0)
    rows = Rows()
    state = PartitionState(0)
    count_records(
        state, [LogRecord(0, NOON, encode(click))], replace(RULES, partitions=1), lambda _month: MonthState(), rows
    )
    assert values_of(rows.block("flattrs", NOVEMBER)["clicked_at"]) == [NOON]
    assert values_of(rows.block("retimed", NOVEMBER)["word"]) == [1 << 63 | NOON]


def test_a_member_whose_clock_says_a_thousand_months_makes_few_writes() -> None:
    # One insert each would hold up everybody's counting.
    clicks = [
        make_click("anna", "creator", str(number), at_ms=NOVEMBER_MS + DAY, clicked_at=number * 30 * DAY)
        for number in range(1000)
    ]
    state = PartitionState(partition_of("anna", PARTITIONS))
    rows = Rows()
    record = LogRecord(0, NOVEMBER_MS + DAY, b"\n".join(map(encode, clicks)))
    count_records(state, [record], RULES, lambda _month: MonthState(), rows)
    assert {month for table, month in rows.blocks if table == "late"} <= {202609, OCTOBER}
    assert set(state.tallies) <= {202609, OCTOBER, NOVEMBER}
    assert sum(tally["accepted"] for tally in state.tallies.values()) == 1000
