"""A thousand random months, closed in SQL and computed again in plain Python, to the micro-unit.

Hypothesis draws the months one by one. A hundred of them share a calendar month, each with
members and creators of its own names: nothing in a month connects two of them, so one close
decides a hundred. The next hundred follow in the next calendar month under the same names, so
that carries and expiries run on; rules change on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.payout.build import Flattr, closing, pledge, state_month
from tests.payout.test_close import close
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.split import split
from warehouse.storage.client import Warehouse

MONTHS = 1000
WORLDS = 100
CENT = 10_000


@dataclass(frozen=True)
class Member:
    pledge_cents: int | None
    paid: bool
    #: creator, thing, what became of it
    flattrs: dict[tuple[int, int], str]


THINGS = st.tuples(st.integers(0, 7), st.integers(0, 3))
MEMBER = st.builds(
    Member,
    st.none() | st.integers(1, 500) | st.integers(1, 100_000_000),
    st.sampled_from([True, True, True, False]),
    st.dictionaries(THINGS, st.sampled_from(["on", "on", "on", "undone", "never"]), max_size=14),
)
MONTH = st.lists(MEMBER, max_size=5)
RULES: list[dict[str, object]] = [
    {"close_noclick": "charity"},
    {"close_noclick": "carry", "close_noclick_expiry_months": 2, "close_fee_bps": 333},
    {"close_noclick": "carry", "close_noclick_expiry_months": 2, "close_minimum_minor": 1000},
    {"close_noclick": "carry", "close_noclick_expiry_months": 1, "close_fee_bps": 0},
    {"close_noclick": "keep", "close_minimum_minor": 0, "close_fee_bps": 9999},
]


def drawn_months() -> list[list[Member]]:
    months: list[list[Member]] = []

    @settings(max_examples=MONTHS, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(MONTH)
    def draw(month: list[Member]) -> None:
        months.append(month)

    draw()
    return months


def world_of(world: int, month: list[Member]) -> tuple[list[Flattr], dict[str, int], list[str]]:
    flattrs, pledges, unpaid = [], {}, []
    for number, member in enumerate(month):
        name = f"w{world}m{number}"
        if member.pledge_cents is not None:
            pledges[name] = member.pledge_cents * CENT
            if not member.paid:
                unpaid.append(name)
        flattrs += [
            Flattr(name, f"w{world}c{creator}", str(thing), undone=fate != "on", clicked=fate != "never")
            for (creator, thing), fate in member.flattrs.items()
        ]
    return flattrs, pledges, unpaid


@pytest.mark.timeout(300)
def test_thousand_random_months_equal_their_recomputation_in_plain_python(warehouse: Warehouse) -> None:
    months = drawn_months()
    assert len(months) >= MONTHS
    lines = 0
    for number, begin in enumerate(range(0, len(months), WORLDS)):
        month = 202501 + number % 12 + number // 12 * 100
        flattrs: list[Flattr] = []
        pledges: dict[str, int] = {}
        unpaid: list[str] = []
        for world, members in enumerate(months[begin : begin + WORLDS]):
            some_flattrs, some_pledges, some_unpaid = world_of(world, members)
            flattrs += some_flattrs
            pledges |= some_pledges
            unpaid += some_unpaid
        state_month(warehouse, month, flattrs, duplicates=number)
        pledge(warehouse, month, pledges, unpaid=unpaid)
        # Whole worlds come and go from month to month: everybody in them is an outlier.
        bounds = {"close_outlier_flattrs_min": 1 << 30, "close_outlier_earned_min_minor": 1 << 30}
        proof = close(warehouse, month, closing(**RULES[number % len(RULES)], **bounds))
        assert proof.balanced
        findings = verify_month(warehouse, month)
        assert findings.problems == []
        lines += findings.lines
    assert lines > 10 * MONTHS


def test_hundred_thousand_creators_of_one_member_share_to_the_micro_unit(warehouse: Warehouse) -> None:
    creators = {f"c{number}": 1 + number % 3 for number in range(100_000)}
    state_month(
        warehouse,
        202611,
        [Flattr("mia", creator, str(thing)) for creator, count in creators.items() for thing in range(count)],
    )
    pledge(warehouse, 202611, {"mia": 2_000_000})
    close(warehouse, 202611)
    rows = warehouse.rows("SELECT creator_id, share_micro FROM shares WHERE month = 202611")
    assert dict(rows) == split(1_800_000, creators, month=202611, member_id="mia")
