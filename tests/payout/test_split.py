from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from warehouse.payout.split import split, tie_hash

FLATTRS = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 10_000), min_size=1, max_size=40)


@given(st.integers(0, 10**12), FLATTRS)
def test_shares_sum_to_the_pool_and_stay_within_one_micro_unit_of_exact(pool: int, flattrs: dict[str, int]) -> None:
    shares = split(pool, flattrs, month=202611, member_id="mia")
    total = sum(flattrs.values())
    assert sum(shares.values()) == pool
    for creator, share in shares.items():
        assert abs(share - Fraction(pool * flattrs[creator], total)) < 1


@given(st.integers(0, 10**12), FLATTRS)
def test_larger_remainder_is_never_passed_over(pool: int, flattrs: dict[str, int]) -> None:
    shares = split(pool, flattrs, month=202611, member_id="mia")
    total = sum(flattrs.values())
    rounded_up = {c for c in flattrs if shares[c] > pool * flattrs[c] // total}
    remainders = {c: pool * flattrs[c] % total for c in flattrs}
    left_out = [remainders[c] for c in flattrs if c not in rounded_up]
    assert not rounded_up or min(remainders[c] for c in rounded_up) >= max(left_out, default=0)


def test_tie_falls_to_the_smallest_hash_and_another_month_decides_anew() -> None:
    winners = set()
    for month in range(202601, 202613):
        shares = split(1, {"ada": 1, "bob": 1}, month=month, member_id="mia")
        (winner,) = (creator for creator, share in shares.items() if share == 1)
        assert winner == min(("ada", "bob"), key=lambda c: tie_hash(month, "mia", c))
        winners.add(winner)
    assert winners == {"ada", "bob"}


def test_no_flattrs_no_shares() -> None:
    assert split(1_800_000, {}, month=202611, member_id="mia") == {}
