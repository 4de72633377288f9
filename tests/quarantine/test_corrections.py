"""After the close: what a flag takes and a release gives, to the micro-unit, in books that balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.contract.thing import thing_id
from tests.payout.build import closing, flattrs_of, pledge, state_month
from tests.payout.test_close import close, payouts
from tests.quarantine.build import MONTH, flag, release, shares_without
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.proof import Proof
from warehouse.payout.inputs.adjustments import Adjustment
from warehouse.payout.split import split
from warehouse.quarantine.corrections import Flattr, Pool, corrections
from warehouse.quarantine.log import Step, Subject
from warehouse.storage.client import Warehouse

NEXT = 202612
TABLE = "mia ada 3\nmia bob 4\nnil ada 2\nnil cat 1\nrob rex 9\nnix rex 2"
PLEDGES = {"mia": 2_000_000, "nil": 5_550_000, "rob": 9_990_000}
MIA_BOB = Subject.of(member_id="mia", creator_id="bob")
ROB = Subject.of(member_id="rob")


def closed(warehouse: Warehouse, *flags: Subject, **rules: object) -> Proof:
    state_month(warehouse, MONTH, flattrs_of(TABLE))
    pledge(warehouse, MONTH, PLEDGES)
    for subject in flags:
        flag(warehouse, subject)
    return close(warehouse, settings=closing(**rules))


def gains(entries: Iterable[Adjustment]) -> Counter[tuple[str, str]]:
    """By creator and account: what the creator gets of it."""
    found: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        creator, account = entry.credit[1] or entry.debit[1], entry.debit[0] if entry.credit[1] else entry.credit[0]
        found[creator, account] += entry.amount_micro if entry.credit[1] else -entry.amount_micro
    return found


def test_flag_after_the_close_takes_the_share_back_for_the_charity(warehouse: Warehouse) -> None:
    closed(warehouse)
    made = flag(warehouse, MIA_BOB).corrections
    bobs = shares_without(MONTH, flattrs_of(TABLE), PLEDGES)["mia", "bob"]
    assert gains(made) == {("bob", "charity"): -bobs}
    assert made[0].cites == "payouts 2026-11 bob"
    assert "step 1" in made[0].reason
    assert gains(made + release(warehouse, MIA_BOB).corrections)["bob", "charity"] == 0


def test_release_after_the_close_gives_what_never_flagged_would_have_given_from_the_fee(warehouse: Warehouse) -> None:
    closed(warehouse, MIA_BOB)
    made = release(warehouse, MIA_BOB).corrections
    bobs = shares_without(MONTH, flattrs_of(TABLE), PLEDGES)["mia", "bob"]
    assert gains(made) == {("bob", "fee"): bobs}


def test_part_of_a_creators_flattrs_moves_its_part_of_the_share(warehouse: Warehouse) -> None:
    one = Subject.of(member_id="mia", thing_id=thing_id("bob", "https://bob.example/1"))
    closed(warehouse, one)
    whole = shares_without(MONTH, flattrs_of(TABLE), PLEDGES)["mia", "bob"]
    left = shares_without(MONTH, flattrs_of(TABLE.replace("bob 4", "bob 3")), PLEDGES)["mia", "bob"]
    assert gains(release(warehouse, one).corrections) == {("bob", "fee"): whole - left}
    other = Subject.of(member_id="mia", thing_id=thing_id("bob", "https://bob.example/2"))
    assert gains(flag(warehouse, other).corrections) == {("bob", "charity"): -(left // 3)}


@pytest.mark.parametrize(("rule", "payer"), [("charity", "charity"), ("keep", "kept"), ("carry", "fee")])
def test_whoever_got_the_pool_pays_the_release(warehouse: Warehouse, rule: str, payer: str) -> None:
    closed(warehouse, ROB, close_noclick=rule)
    assert gains(release(warehouse, ROB).corrections) == {("rex", payer): 9_990_000 * 9 // 10}


def test_corrections_enter_the_next_close_and_the_books_balance(warehouse: Warehouse) -> None:
    closed(warehouse, ROB)
    sealed = warehouse.rows("SELECT * FROM payouts")
    release(warehouse, ROB)
    flag(warehouse, MIA_BOB)
    pledge(warehouse, NEXT, {"mia": 2_000_000})
    proof = close(warehouse, NEXT)
    bobs = shares_without(MONTH, flattrs_of(TABLE), PLEDGES)["mia", "bob"]
    assert proof.balanced
    assert proof.adjusted_micro == 8_991_000 - bobs
    assert payouts(warehouse, NEXT)["rex"] == (8_990_000, 1_000, 0, "paid")
    assert payouts(warehouse, NEXT)["bob"][3] == "debt"
    assert warehouse.rows(f"SELECT * FROM payouts WHERE month = {MONTH}") == sealed
    for month in (MONTH, NEXT):
        assert verify_month(warehouse, month).problems == []


def test_counts_of_a_closed_month_stay_what_was_paid_for(warehouse: Warehouse) -> None:
    closed(warehouse, ROB)
    before = warehouse.rows("SELECT * FROM quarantined ORDER BY ALL")
    release(warehouse, ROB)
    flag(warehouse, MIA_BOB)
    assert warehouse.rows("SELECT * FROM quarantined ORDER BY ALL") == before


def test_step_whose_corrections_died_with_the_process_is_made_good_by_its_repetition(warehouse: Warehouse) -> None:
    closed(warehouse)

    def die(_step: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flag(warehouse, MIA_BOB, step_done=die)
    assert warehouse.rows("SELECT count() FROM adjustments") == [(0,)]
    with pytest.raises(Exception, match="already in quarantine"):
        flag(warehouse, MIA_BOB)
    assert warehouse.rows("SELECT count() FROM adjustments") == [(1,)]
    with pytest.raises(Exception, match="already in quarantine"):
        flag(warehouse, MIA_BOB)
    assert warehouse.rows("SELECT count() FROM adjustments") == [(1,)]


MEMBERS, CREATORS, THINGS = ("m1", "m2"), ("c1", "c2", "c3"), ("t1", "t2")
FLATTR = st.builds(Flattr, st.sampled_from(MEMBERS), st.sampled_from(CREATORS), st.sampled_from(THINGS), st.just("s"))
SUBJECT = st.one_of(
    st.builds(lambda m: Subject("member", m), st.sampled_from(MEMBERS)),
    st.builds(lambda c: Subject("creator", creator_id=c), st.sampled_from(CREATORS)),
    st.builds(lambda m, c: Subject("member_creator", m, c), st.sampled_from(MEMBERS), st.sampled_from(CREATORS)),
)


def steps_of(subjects: list[Subject], begin: int) -> list[Step]:
    """Each subject in turn is flagged, or released when it is flagged."""
    standing: set[Subject] = set()
    steps = []
    for number, subject in enumerate(subjects, begin):
        action = "release" if subject in standing else "flag"
        standing ^= {subject}
        steps.append(Step(number, MONTH, action, subject, "by hand", "why", "{}", "fin", 0))
    return steps


def pools_of(flattrs: set[Flattr], left_out: set[Flattr], pool_micro: int) -> dict[str, Pool]:
    pools = {}
    for member in MEMBERS:
        divided = Counter(row.creator_id for row in flattrs - left_out if row.member_id == member)
        held = Counter(row.creator_id for row in left_out if row.member_id == member)
        shares = split(pool_micro, divided, month=MONTH, member_id=member) if divided else {}
        pools[member] = Pool(member, pool_micro, "split" if divided else "charity", divided, shares, held)
    return pools


def stated() -> Proof:
    empty: dict[str, object] = dict.fromkeys(Proof.__annotations__, 0)
    return Proof(**{**empty, "month": MONTH, "currency": "EUR"})  # type: ignore[arg-type]


@given(st.sets(FLATTR, max_size=9), st.lists(SUBJECT, max_size=3), st.lists(SUBJECT, max_size=6), st.integers(0, 10**7))
def test_any_steps_after_the_close_that_end_where_they_began_sum_to_nothing(
    flattrs: set[Flattr], before: list[Subject], path: list[Subject], pool_micro: int
) -> None:
    sealed = steps_of(before, 1)
    there_and_back = [*before, *path, *reversed(path)]
    later = steps_of(there_and_back, 1)[len(before) :]
    flags = {subject: sealed[0] for subject, count in Counter(before).items() if count % 2}
    left_out = {row for row in flattrs if row.in_quarantine(flags)}
    pools = pools_of(flattrs, left_out, pool_micro)
    made = corrections(stated(), sealed, later, sorted(flattrs, key=str), pools)
    assert not any(gains(made).values())


@given(st.sets(FLATTR, max_size=9), st.lists(SUBJECT, max_size=6), st.integers(0, 10**7))
def test_nobody_is_taken_more_from_than_the_closed_share(
    flattrs: set[Flattr], path: list[Subject], pool_micro: int
) -> None:
    pools = pools_of(flattrs, set(), pool_micro)
    made = corrections(stated(), [], steps_of(path, 1), sorted(flattrs, key=str), pools)
    shares: Counter[str] = Counter()
    for pool in pools.values():
        shares.update(pool.shares)
    for (creator, _), gain in gains(made).items():
        assert -shares[creator] <= gain <= 0
