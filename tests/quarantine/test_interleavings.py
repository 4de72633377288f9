"""Any order of clicks, undos, flags and releases ends in what an oracle counts: what stands and no flag covers.

Hypothesis draws the histories; the stream's own code counts their clicks into a real warehouse. All
histories share one month, each with names of its own, and at the end one close decides all of them.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ingest.contract.click import encode
from ingest.contract.month import month_of
from ingest.contract.thing import thing_id
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from tests.deploy.test_verify import AT_MS, click
from tests.payout.build import pledge
from tests.payout.test_close import close
from tests.quarantine.build import flag, release
from warehouse.counts import counts as queries
from warehouse.counts import rankings
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.split import split
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

MONTH = month_of(AT_MS)
HISTORIES = 12
EUR = 1_000_000
#: action, member, thing (its creator is ``creator-of-<thing>``)
Clicked = tuple[Literal["flattr", "undo"], str, str]
CLICK = st.tuples(st.sampled_from(["flattr", "flattr", "undo"]), st.sampled_from("mn"), st.sampled_from("abc"))
#: flagged, or released when it is flagged
TURN = st.one_of(
    st.builds(lambda m: ("turn", m, ""), st.sampled_from("mn")),
    st.builds(lambda t: ("turn", "", t), st.sampled_from("abc")),
    st.builds(lambda m, t: ("turn", m, t), st.sampled_from("mn"), st.sampled_from("abc")),
)
HISTORY = st.lists(st.one_of(CLICK, CLICK, TURN), min_size=2, max_size=9)


class Stream:
    """One partition, counted click by click."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._state = PartitionState(0)
        self._month = MonthState()
        self._offset = 0

    def click(self, action: str, member: str, thing: str) -> None:
        rows = Rows()
        self._offset += 1
        block = encode(click(self._offset, member, thing, action))
        record = LogRecord(self._offset, AT_MS, block)
        count_records(self._state, [record], CountingRules(1, 0, 3_600_000, "clicks"), lambda _: self._month, rows)
        add_progress(self._state, AT_MS, rows)
        Writer(self._warehouse, patience_s=5).write(rows)


def play(
    warehouse: Warehouse, stream: Stream, prefix: str, history: list[tuple[str, str, str]]
) -> set[tuple[str, str]]:
    """Let it happen, and return the oracle's (member, thing) pairs that stand and no flag covers."""
    standing: dict[tuple[str, str], bool] = {}
    flags: set[tuple[str, str]] = set()
    for action, short_member, short_thing in history:
        member, thing = (prefix + name if name else "" for name in (short_member, short_thing))
        if action == "turn":
            subject = Subject.of(member_id=member, creator_id=f"creator-of-{thing}" if thing else "")
            if (member, thing) in flags:
                release(warehouse, subject, month=MONTH)
            else:
                flag(warehouse, subject, month=MONTH, unseen=True)
            flags ^= {(member, thing)}
        else:
            stream.click(action, member, thing)
            standing[member, thing] = action == "flattr"
    if flags:  # what was clicked last joins the quarantine with the next step or scan
        again = Subject.of(member_id=f"{prefix}nobody")
        flag(warehouse, again, month=MONTH, unseen=True)
    return {
        (member, thing)
        for (member, thing), stands in standing.items()
        if stands and not {(member, ""), ("", thing), (member, thing)} & flags
    }


def check(warehouse: Warehouse, prefix: str, expected: set[tuple[str, str]]) -> None:
    things = {thing: thing_id(f"creator-of-{prefix}{thing}", f"{prefix}{thing}") for thing in "abc"}
    by_thing = Counter(thing for _, thing in expected)
    counts = queries.thing_counts(warehouse, MONTH, list(things.values()))
    assert {thing: counts[things[thing]].flattrs for thing in "abc"} == {t: by_thing[prefix + t] for t in "abc"}
    creators = queries.creator_counts(warehouse, MONTH, [f"creator-of-{prefix}{thing}" for thing in "abc"])
    assert [count.flattrs for count in creators.values()] == [by_thing[prefix + thing] for thing in "abc"]
    for member in (prefix + "m", prefix + "n"):
        own = {f"creator-of-{thing}": 1 for name, thing in expected if name == member}
        assert queries.member_counts(warehouse, MONTH, [member])[member].flattrs == len(own)
        assert {line.creator_id: line.flattrs for line in rankings.member_creators(warehouse, MONTH, member, 9)} == own


def test_any_interleaving_of_clicks_undos_flags_and_releases_ends_as_the_oracle_counts(warehouse: Warehouse) -> None:
    stream = Stream(warehouse)
    histories: list[list[tuple[str, str, str]]] = []

    @settings(max_examples=HISTORIES, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(HISTORY)
    def draw(history: list[tuple[str, str, str]]) -> None:
        histories.append(history)

    draw()
    expected: set[tuple[str, str]] = set()
    for number, history in enumerate(histories):
        ends = play(warehouse, stream, f"w{number}", history)
        check(warehouse, f"w{number}", ends)
        expected |= ends
    members = {f"w{number}{member}" for number in range(len(histories)) for member in "mn"}
    pledge(warehouse, MONTH, dict.fromkeys(members, 2 * EUR))
    close(warehouse, MONTH)
    shares = {
        (member, creator): micro
        for member in members
        for creator, micro in split(
            1_800_000,
            {f"creator-of-{thing}": 1 for name, thing in expected if name == member},
            month=MONTH,
            member_id=member,
        ).items()
    }
    rows = warehouse.rows("SELECT member_id, creator_id, share_micro FROM shares")
    assert {(member, creator): micro for member, creator, micro in rows} == shares
    assert verify_month(warehouse, MONTH).problems == []
    checks = check_warehouse(warehouse, read_reached(warehouse, 1))
    assert [one.name for one in checks if not one.holds] == []
