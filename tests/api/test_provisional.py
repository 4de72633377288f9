from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Migrated
from tests.payout.build import Flattr, clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.support.serving import ask
from warehouse.payout.close.close import close_month
from warehouse.payout.estimate import creator_take, member_split, month_money
from warehouse.storage.client import Warehouse

EUR = 1_000_000
MONTH = 202611
RULES = closing(close_noclick="carry")


def test_members_split_adds_up_to_the_pool(warehouse: Warehouse, api: str) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1\nleo bob 4"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR, "leo": 5 * EUR})
    body = ask(f"{api}/v1/members/mia/provisional?month=2026-11").json
    assert (body["pledge_micro"], body["fee_micro"], body["pool_micro"]) == (2 * EUR, 200_000, 1_800_000)
    assert body["shares"] == [
        {"creator_id": "ada", "flattrs": 2, "share_micro": 1_200_000},
        {"creator_id": "bob", "flattrs": 1, "share_micro": 600_000},
    ]
    assert body["currency"] == "EUR"


def test_member_without_pledge_has_no_pool_but_flattrs(warehouse: Warehouse, api: str) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR}, unpaid=["mia"])
    body = ask(f"{api}/v1/members/mia/provisional?month=2026-11").json
    assert (body["pool_micro"], body["shares"]) == (0, [{"creator_id": "ada", "flattrs": 2, "share_micro": 0}])


def test_creators_take_is_the_sum_of_its_supporters_shares(warehouse: Warehouse, api: str) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1\nleo bob 4\nzoe cat 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR, "leo": 2 * EUR})
    body = ask(f"{api}/v1/creators/bob/provisional?month=2026-11").json
    assert (body["members"], body["flattrs"], body["earned_micro"]) == (2, 5, 600_000 + 1_800_000)
    assert ask(f"{api}/v1/creators/nobody/provisional?month=2026-11").json["earned_micro"] == 0


def test_creators_take_loses_less_than_a_micro_unit_per_supporter(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 5\nmia bob 2"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    assert creator_take(warehouse, MONTH, "ada", RULES).earned_micro == 1_800_000 * 5 // 7


def test_months_money_counts_what_is_paid(warehouse: Warehouse) -> None:
    pledge(warehouse, MONTH, {"mia": 2 * EUR, "leo": 3 * EUR, "zoe": 9 * EUR}, unpaid=["zoe"])
    money = month_money(warehouse, MONTH, RULES)
    assert (money.members, money.pledged_micro, money.fee_micro) == (2, 5 * EUR, 500_000)


def test_pool_carried_from_a_month_without_flattrs_is_in_both(warehouse: Warehouse) -> None:
    pledge(warehouse, 202610, {"mia": 2 * EUR})
    state_month(warehouse, 202610, flattrs_of("leo bob 1"))
    close_month(warehouse, 202610, clock=clock_after(202610, RULES), log_ends=drained, settings=RULES)
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    state_month(warehouse, MONTH, flattrs_of("mia ada 1"))
    split = member_split(warehouse, MONTH, "mia", RULES)
    assert (split.carried_in_micro, split.pool_micro) == (1_800_000, 3_600_000)
    assert creator_take(warehouse, MONTH, "ada", RULES).earned_micro == 3_600_000


_members = st.sampled_from(["mia", "leo", "zoe", "kai"])
_creators = st.sampled_from(["ada", "bob", "cat"])
_flattrs = st.lists(
    st.builds(Flattr, _members, _creators, st.sampled_from(["a", "b", "c", "d"]), st.booleans()),
    unique_by=lambda flattr: (flattr.member_id, flattr.creator_id, flattr.thing),
    min_size=1,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(flattrs=_flattrs, pledges=st.dictionaries(_members, st.integers(1, 500).map(lambda cents: cents * 10_000)))
def test_what_is_provisional_on_the_last_day_is_what_the_close_states(
    migrated: Migrated, flattrs: list[Flattr], pledges: dict[str, int]
) -> None:
    with migrated("provisional") as warehouse:
        state_month(warehouse, MONTH, flattrs)
        pledge(warehouse, MONTH, pledges)
        members = {member: member_split(warehouse, MONTH, member, RULES) for member in {f.member_id for f in flattrs}}
        takes = {creator: creator_take(warehouse, MONTH, creator, RULES) for creator in {f.creator_id for f in flattrs}}
        close_month(
            warehouse,
            MONTH,
            clock=clock_after(MONTH, RULES),
            log_ends=drained,
            settings=RULES,
            without_pledges=not pledges,
        )
        shares = "SELECT creator_id, share_micro FROM shares WHERE member_id = %(member)s"
        for member, split in members.items():
            stated: dict[str, int] = dict(warehouse.rows(shares, {"member": member}))
            assert {share.creator_id: share.share_micro for share in split.shares} == stated
        earned: dict[str, int] = dict(warehouse.rows("SELECT creator_id, earned_micro FROM payouts"))
        for creator, take in takes.items():
            assert 0 <= earned.get(creator, 0) - take.earned_micro <= max(0, take.members - 1)
