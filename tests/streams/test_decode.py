"""What is wrong is refused with its reason; nothing else suffers."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract.click import Click, decode, encode
from ingest.contract.position import position
from ingest.contract.rejection import Reason
from ingest.contract.times import AHEAD_MAX_MS, TIME_END_MS
from streams.clicks.decode import ClickLine, Columns, read
from streams.clicks.fields import UNSAID
from streams.counting.count_batch import CountingRules, count_records
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, make_click
from tests.support.packed import values_of

AT = NOVEMBER_MS + 1000
DECEMBER_MS = NOVEMBER_MS + 30 * 24 * 3_600_000


def line(**fields: object) -> bytes:
    return encode(make_click(**fields))  # type: ignore[arg-type]


def raw(**fields: object) -> bytes:
    """A click as JSON with fields replaced; None leaves the field out."""
    values = {**json.loads(line()), **fields}
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


def lines_of(laid: Columns) -> list[ClickLine]:
    return list(laid.lines(range(len(laid))))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", Reason.JSON_MALFORMED),
        (b"\xff\xfe", Reason.JSON_MALFORMED),
        (b"[" * 5000, Reason.FIELD_TYPE),
        (b"[]", Reason.FIELD_TYPE),
        (raw(member_id=None), Reason.FIELD_MISSING),
        (raw(member_id=7), Reason.FIELD_TYPE),
        (raw(action="like"), Reason.FIELD_TYPE),
        (raw(v=2), Reason.VERSION_UNKNOWN),
        (raw(member_id=""), Reason.FIELD_VALUE),
        (raw(creator_id="x" * 65), Reason.FIELD_TOO_LONG),
        (raw(thing="x" * 2049), Reason.FIELD_TOO_LONG),
        (raw(click_id="x" * 36), Reason.FIELD_VALUE),
        (raw(click_id="00000000000000000000000000000000"), Reason.FIELD_VALUE),
        (raw(thing_id="g" * 32), Reason.FIELD_VALUE),
        (raw(member_id="an na"), Reason.FIELD_VALUE),
        (raw(creator_id="bärt"), Reason.FIELD_VALUE),
        (raw(site_id="a\n"), Reason.FIELD_VALUE),
        (raw(thing=""), Reason.FIELD_VALUE),
        (raw(clicked_at=-1), Reason.FIELD_VALUE),
        (raw(received_at=1 << 43), Reason.FIELD_VALUE),
        (raw(sent_at=-1), Reason.FIELD_VALUE),
        (raw(clicked_at=1 << 43), Reason.FIELD_VALUE),
        (raw(client_at=-1), Reason.FIELD_VALUE),
    ],
)
def test_wrong_click_is_refused_with_its_reason_and_its_neighbours_are_read(bad: bytes, reason: Reason) -> None:
    block = b"\n".join([line(member="anna"), bad, line(member="bert", creator="carl")])
    laid = read([LogRecord(4, AT, block), LogRecord(5, AT, line(member="dora"))], epoch=1)
    assert [click.member_id for click in lines_of(laid)] == ["anna", "bert", "dora"]
    assert laid.positions.tolist() == [position(1, 4, 0), position(1, 4, 2), position(1, 5, 0)]
    (refused,) = laid.refused
    assert (refused.position, refused.reason, refused.raw) == (position(1, 4, 1), reason, bad)


def test_field_of_a_newer_version_does_no_harm() -> None:
    assert len(read([LogRecord(0, AT, raw(later="x"))], 0)) == 1


def test_empty_record_is_refused() -> None:
    laid = read([LogRecord(0, AT, b""), LogRecord(1, AT, line())], 0)
    assert [one.reason for one in laid.refused] == [Reason.BODY_EMPTY]
    assert len(laid) == 1


LINES = st.sampled_from([line(), raw(v=2), b"{", line() + line(), b"", line() + b"\n" + line(), b"}\n{"])


@given(st.lists(LINES, min_size=1, max_size=6))
def test_reading_records_together_reads_what_reading_them_one_by_one_does(values: list[bytes]) -> None:
    records = [LogRecord(offset, AT, value) for offset, value in enumerate(values)]
    joined = read(records, 0)
    alone = [read([record], 0) for record in records]
    assert lines_of(joined) == [click for laid in alone for click in lines_of(laid)]
    assert joined.positions.tolist() == [at for laid in alone for at in laid.positions.tolist()]
    assert [one.position for one in joined.refused] == [one.position for laid in alone for one in laid.refused]


NAME = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
TIME = st.integers(0, TIME_END_MS - 1)
CLICKS = st.builds(
    msgspec.structs.replace,
    st.builds(make_click, member=NAME, creator=NAME, action=st.sampled_from(["flattr", "undo"])),
    site_id=st.just("") | NAME,
    thing=st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
    clicked_at=TIME,
    received_at=TIME,
    sent_at=st.none() | TIME,
    client_at=st.none() | TIME,
)


@given(st.lists(st.lists(CLICKS, min_size=1, max_size=4), min_size=1, max_size=4), st.sampled_from([b"", b"{"]))
def test_columns_are_what_the_clicks_say(blocks: list[list[Click]], more: bytes) -> None:
    records = [LogRecord(at, AT, b"\n".join([*map(encode, block), more])) for at, block in enumerate(blocks)]
    clicks = [click for block in blocks for click in block]
    laid = read(records, 0)
    everything = np.arange(len(clicks))
    for column, name in (
        (laid.members, "member_id"), (laid.creators, "creator_id"), (laid.sites, "site_id"), (laid.things, "thing"),
    ):  # fmt: skip
        assert values_of(column.packed(everything)) == [getattr(click, name) for click in clicks]
    assert [one.hex() for one in laid.thing_ids.tolist()] == [click.thing_id for click in clicks]
    assert [one.hex() for one in laid.click_ids.tolist()] == [click.click_id.replace("-", "") for click in clicks]
    assert laid.clicked_at_ms.tolist() == [click.clicked_at for click in clicks]
    assert laid.received_at_ms.tolist() == [click.received_at for click in clicks]
    for times, name in ((laid.sent_at_ms, "sent_at"), (laid.client_at_ms, "client_at")):
        said = [getattr(click, name) for click in clicks]
        assert (times.tolist() if times is not None else [UNSAID] * len(said)) == [
            UNSAID if at is None else at for at in said
        ]
    assert [bool(mark & 1 << 19) for mark in laid.marks.tolist()] == [click.action == "undo" for click in clicks]
    assert lines_of(laid) == [ClickLine(**msgspec.structs.asdict(click)) for click in clicks]


def test_late_clicks_are_kept_in_their_own_words() -> None:
    clicks = [make_click(f"member-{number}") for number in range(3)]
    value = b"\n".join([encode(clicks[0]), b"{", encode(clicks[1])])
    records = [LogRecord(0, DECEMBER_MS + 3_600_000, value), LogRecord(1, DECEMBER_MS + 3_600_000, encode(clicks[2]))]
    rows = Rows()
    count_records(
        PartitionState(0), records, CountingRules(1, 0, 3_600_000, "clicks"), lambda _month: MonthState(), rows
    )
    (late,) = rows.of("late")
    assert [decode(click) for click in values_of(late["click"])] == clicks
    assert values_of(late["position"]) == [position(0, 0, 0), position(0, 0, 2), position(0, 1, 0)]


def labelled(clicks: list[Click], *, record_at_ms: int = AT, number: int = 0, partitions: int = 1) -> PartitionState:
    state = PartitionState(number)
    rules = CountingRules(partitions, 0, 3_600_000, "clicks")
    records = [LogRecord(offset, record_at_ms, encode(click)) for offset, click in enumerate(clicks)]
    count_records(state, records, rules, lambda _month: MonthState(), Rows())
    return state


@pytest.mark.parametrize(
    ("click", "record_at_ms", "label", "month"),
    [
        pytest.param(make_click(), AT, "counted", NOVEMBER, id="a flattr"),
        pytest.param(make_click(action="undo"), AT, "undo", NOVEMBER, id="an undo"),
        pytest.param(make_click("bert", "bert"), AT, "rejected", NOVEMBER, id="one's own thing"),
        pytest.param(make_click(), DECEMBER_MS + 3_599_999, "counted", NOVEMBER, id="the last moment of the grace"),
        pytest.param(make_click(), DECEMBER_MS + 3_600_000, "late", NOVEMBER, id="the first moment after it"),
        pytest.param(
            make_click(at_ms=AT + AHEAD_MAX_MS), AT, "counted", NOVEMBER, id="received as far ahead as may be"
        ),
        pytest.param(make_click(at_ms=AT + AHEAD_MAX_MS + 1), AT, "rejected", NOVEMBER, id="received in times to come"),
        pytest.param(make_click(at_ms=1_861_920_000_000), AT, "rejected", NOVEMBER, id="a record of 2029"),
        pytest.param(make_click(at_ms=0), 0, "counted", 197001, id="the first moment of all"),
        pytest.param(make_click(clicked_at=0), AT, "late", 202609, id="a clock that was never set"),
        pytest.param(make_click("bert", "bert"), DECEMBER_MS, "rejected", 202612, id="refused in its record's month"),
    ],
)
def test_click_is_labelled(click: Click, record_at_ms: int, label: str, month: int) -> None:
    tallies = labelled([click], record_at_ms=record_at_ms).tallies[month]
    assert {name for name, clicks in tallies.items() if clicks} == {"accepted", label}


def test_click_in_a_partition_that_is_not_its_members_is_refused() -> None:
    states = [labelled([make_click("anna")], number=number, partitions=3) for number in range(3)]
    assert sorted(state.tallies[NOVEMBER]["counted"] for state in states) == [0, 0, 1]
    assert sorted(state.tallies[NOVEMBER]["rejected"] for state in states) == [0, 1, 1]
