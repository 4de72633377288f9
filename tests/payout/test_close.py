from __future__ import annotations

import pytest

from tests.payout.build import NEVER, Flattr, clock_after, closing, drained, flattrs_of, pledge, state_month
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close import compute
from warehouse.payout.close.close import close_month, rehearse_month
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.close.snapshot import take_snapshot
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.split import split
from warehouse.storage.client import Warehouse, named

EUR = 1_000_000
MONTH = 202611


def close(warehouse: Warehouse, month: int = MONTH, settings: CloseSettings | None = None) -> Proof:
    rules = settings or closing()
    return close_month(warehouse, month, clock=clock_after(month, rules), log_ends=drained, settings=rules)


def payouts(warehouse: Warehouse, month: int = MONTH) -> dict[str, tuple[int, int, int, str]]:
    rows = warehouse.rows(
        f"SELECT creator_id, paid_micro, carried_out_micro, held_out_micro, reason FROM payouts WHERE month = {month}"
    )
    return {creator: tuple(rest) for creator, *rest in rows}


def test_two_euros_less_fee_are_shared_in_proportion_to_flattrs(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    proof = close(warehouse)
    assert payouts(warehouse) == {"ada": (1_200_000, 0, 0, "paid"), "bob": (600_000, 0, 0, "paid")}
    assert (proof.pledged_micro, proof.fee_micro, proof.paid_micro) == (2 * EUR, 200_000, 1_800_000)
    assert proof.balanced


def test_sub_cent_remainder_is_carried_and_joins_the_next_month(warehouse: Warehouse) -> None:
    for month in (202611, 202612):
        state_month(
            warehouse, month, flattrs_of("mia ada 1\nmia bob 1\nmia cat 1\nmia dan 1\nmia eve 1\nmia fay 1\nmia gus 1")
        )
        pledge(warehouse, month, {"mia": 2 * EUR})
    first = close(warehouse, 202611)
    assert {row[0] for row in payouts(warehouse, 202611).values()} == {250_000}
    assert first.carried_micro == 1_800_000 - 7 * 250_000
    second = close(warehouse, 202612)
    assert second.paid_micro + second.carried_micro == 1_800_000
    assert second.carried_balance_micro == first.carried_micro + second.carried_micro
    assert second.previous == first.seal
    assert second.balanced


def test_less_than_the_minimum_is_carried_until_it_is_reached(warehouse: Warehouse) -> None:
    settings = closing(close_minimum_minor=300)
    for month in (202611, 202612):
        state_month(warehouse, month, flattrs_of("mia ada 1"))
        pledge(warehouse, month, {"mia": 2 * EUR})
    assert close(warehouse, 202611, settings).paid_micro == 0
    assert payouts(warehouse, 202611) == {"ada": (0, 1_800_000, 0, "below_minimum")}
    second = close(warehouse, 202612, settings)
    assert (second.paid_micro, second.carried_micro) == (3_600_000, -1_800_000)
    assert second.balanced


def test_undone_flattr_and_undo_without_flattr_pay_nothing(warehouse: Warehouse) -> None:
    state_month(
        warehouse,
        MONTH,
        [
            Flattr("mia", "ada", "a"),
            Flattr("mia", "bob", "b", undone=True),
            Flattr("mia", "cat", "c", undone=True, clicked=False),
        ],
    )
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    assert close(warehouse).flattrs == 1
    assert payouts(warehouse) == {"ada": (1_800_000, 0, 0, "paid")}


def test_unfunded_member_is_counted_and_listed_and_pays_nothing(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 1\nnil ada 3\nnix bob 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR, "nil": 2 * EUR}, unpaid=["nil"])
    proof = close(warehouse)
    assert (proof.members_unfunded, proof.flattrs, proof.pledged_micro) == (2, 5, 2 * EUR)
    assert payouts(warehouse) == {"ada": (1_800_000, 0, 0, "paid"), "bob": (0, 0, 0, "nothing")}


@pytest.mark.parametrize(
    ("rule", "fee", "charity", "carried"),
    [("charity", 200_000, 1_800_000, 0), ("keep", 2_000_000, 0, 0), ("carry", 200_000, 0, 1_800_000)],
)
def test_pool_without_flattrs_goes_where_the_rule_says(
    warehouse: Warehouse, rule: str, fee: int, charity: int, carried: int
) -> None:
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    proof = close(warehouse, settings=closing(close_noclick=rule))
    assert (proof.fee_micro, proof.charity_micro, proof.carried_micro) == (fee, charity, carried)
    assert proof.balanced


def test_carried_pool_is_spent_with_the_next_flattr(warehouse: Warehouse) -> None:
    settings = closing(close_noclick="carry")
    pledge(warehouse, 202611, {"mia": 2 * EUR})
    close(warehouse, 202611, settings)
    pledge(warehouse, 202612, {"mia": 2 * EUR})
    state_month(warehouse, 202612, flattrs_of("mia ada 1"))
    second = close(warehouse, 202612, settings)
    assert payouts(warehouse, 202612) == {"ada": (3_600_000, 0, 0, "paid")}
    assert second.carried_balance_micro == 0


def test_carried_pool_expires_to_the_charity_by_month_of_origin(warehouse: Warehouse) -> None:
    settings = closing(close_noclick="carry", close_noclick_expiry_months=2)
    charity = []
    for month in (202611, 202612, 202701, 202702):
        pledge(warehouse, month, {"mia": 2 * EUR if month < 202701 else 3 * EUR})
        charity.append(close(warehouse, month, settings).charity_micro)
    assert charity == [0, 0, 1_800_000, 1_800_000]


def test_closing_again_gives_the_same_proof_and_other_rules_are_refused(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    assert close(warehouse) == close(warehouse)
    with pytest.raises(PayoutRefused, match=r"closed under different rules \(fee_bps\)"):
        close(warehouse, settings=closing(close_fee_bps=500))


def test_dry_run_states_the_close_and_writes_nothing(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    settings = closing()
    dry = rehearse_month(warehouse, MONTH, clock=clock_after(MONTH, settings), log_ends=drained, settings=settings)
    for table in (
        "pools",
        "payouts",
        "ledger",
        "seals",
        "seals_noted",
        "close_log",
        "payouts_staging",
        "pools_staging",
    ):
        assert warehouse.rows(f"SELECT count() FROM {table}") == [(0,)]
    assert dry == close(warehouse)


def rehearse(warehouse: Warehouse, settings: CloseSettings) -> Proof:
    return rehearse_month(warehouse, MONTH, clock=lambda: 0, log_ends=drained, settings=settings)


def test_closed_month_is_rehearsed_on_its_own_inputs_and_stays_as_it_is(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 5\nnil ada 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR, "nil": 3 * EUR})
    sealed = close(warehouse)
    pledge(warehouse, MONTH, {"mia": 9 * EUR})
    assert rehearse(warehouse, closing()) == sealed
    assert rehearse(warehouse, closing(close_fee_bps=500)).fee_micro == sealed.fee_micro // 2
    assert close(warehouse) == sealed


@pytest.mark.parametrize("pledging", [range(25), range(15, 30), range(0)], ids=["most", "the last", "none"])
def test_members_in_ranges_give_the_same_month(warehouse: Warehouse, pledging: range) -> None:
    def name(member: int) -> str:
        return f"{member}'%s\\{member % 3}"

    table = "\n".join(f"{name(member)} c{member * k % 7} {k}" for member in range(20) for k in (1, 2, 4))
    state_month(warehouse, MONTH, dict.fromkeys(flattrs_of(table)))
    pledge(warehouse, MONTH, {name(member): 2 * EUR + member * 10_000 for member in pledging})
    whole = rehearse(warehouse, closing(close_memory_max_bytes=compute.RANGE_MEMORY_BYTES))
    assert whole.members == len({*range(20), *pledging})
    for shards in (1, 2, 40):
        assert rehearse(warehouse, closing(close_shards=shards)).digests == whole.digests


def test_ranges_of_members_divide_a_month_evenly(warehouse: Warehouse) -> None:
    pledge(warehouse, MONTH, {f"m{member:02}": EUR for member in range(40)})
    ((bounds,),) = warehouse.rows(named("payout_ranges"), {"month": MONTH, "ranges": 4})
    assert bounds == ["m10", "m20", "m30"]


def test_rows_that_are_not_merged_give_the_same_month_as_merged_ones(warehouse: Warehouse) -> None:
    table = "\n".join(f"m{member} c{member * k % 7} {k}" for member in range(20) for k in (1, 2, 4))
    warehouse.command("SYSTEM STOP MERGES flattrs")
    state_month(warehouse, MONTH, dict.fromkeys(flattrs_of(table)))
    pledge(warehouse, MONTH, {f"m{member}": 2 * EUR + member * 10_000 for member in range(25)})
    replayed = "INSERT INTO flattrs SELECT * FROM flattrs WHERE member_id IN ('m3', 'm7')"
    older_word = (
        f"INSERT INTO flattrs SELECT * REPLACE ({NEVER} AS first_position, version - {1 << 20} AS version) "
        "FROM flattrs WHERE member_id IN ('m4', 'm7')"
    )
    for rows_again in (replayed, older_word):
        warehouse.command(rows_again)
    digests = close(warehouse).digests
    assert warehouse.rows("SELECT count() > (SELECT count() FROM flattrs FINAL) FROM flattrs") == [(1,)]
    warehouse.command("SYSTEM START MERGES flattrs")
    warehouse.command("OPTIMIZE TABLE flattrs FINAL")
    assert rehearse(warehouse, closing()).digests == digests
    assert verify_month(warehouse, MONTH).clean


def test_member_of_more_creators_than_fit_the_packed_order_is_divided_as_the_reference_does(
    warehouse: Warehouse,
) -> None:
    """Finding M9: at 2^20 creators of one member, 20 bits of place overflowed and the close stopped."""
    creators = (1 << 20) + 1
    warehouse.command(
        "INSERT INTO flattrs (month, member_id, creator_id, thing_id, first_position, position, version, click_id, "
        "site_id, clicked_at) SELECT 202611, 'mia', concat('c', leftPad(toString(number), 7, '0')), "
        "reinterpretAsFixedString(toUInt128(number)), number, number, 1048576, reinterpretAsFixedString(toUInt128(1)), "
        "'site', now() FROM numbers(%(creators)s)",
        {"creators": creators},
    )
    pledge(warehouse, MONTH, {"mia": 2 * EUR})
    compute.stage(warehouse, MONTH, closing(), take_snapshot(warehouse, MONTH), ["pools"])
    ((names, shares),) = warehouse.rows("SELECT creators, creator_micro FROM pools_staging")
    expected = split(1_800_000, dict.fromkeys(names, 1), month=MONTH, member_id="mia")
    assert len(names) == creators
    assert dict(zip(names, shares, strict=True)) == expected
