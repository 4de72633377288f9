"""The split of one pool by the largest remainder method (Hamilton's), with a deterministic hash as tie-break.

The reference implementation, pure. ``warehouse/payout/sql/payout_pools.sql`` does the same for millions of members;
``tests/payout`` compares the two to the micro-unit.
"""

from __future__ import annotations

from collections.abc import Mapping

import xxhash

_MASK = (1 << 64) - 1
#: From so many creators or flattrs of one member on, ties are broken by creator alone: the SQL orders by one number of
#: 64 bits, which then has no room for the hash.
_CREATORS_HUGE = 1 << 20
_FLATTRS_HUGE = 1 << 24


def tie_hash(month: int, member_id: str, creator_id: str) -> int:
    """The tie-break: 20 bits that order equal remainders. They vary with month and member, so nobody wins every tie.

    ``intHash64(xxh3(creator) xor xxh3('month|member')) >> 44``, from functions that ClickHouse has too. Its intHash64
    is MurmurHash3's 64-bit finalizer after an xor with a constant.
    """
    salt = xxhash.xxh3_64_intdigest(f"{month}|{member_id}".encode())
    mixed = xxhash.xxh3_64_intdigest(creator_id.encode()) ^ salt ^ 0x4CF2D2BAAE6DA887
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ mixed >> 33) * factor & _MASK
    return (mixed ^ mixed >> 33) >> 44


def split(pool_micro: int, flattrs_by_creator: Mapping[str, int], *, month: int, member_id: str) -> dict[str, int]:
    """Divide a pool in proportion to flattrs; the shares, in micro-units, sum exactly to ``pool_micro``.

    Shares are rounded down, and the remaining micro-units go one each to the largest remainders. Ties are broken by
    ``tie_hash`` (smallest first, then by creator), so reruns agree and no creator is always favoured. Without flattrs
    there are no shares.
    """
    total = sum(flattrs_by_creator.values())
    if total == 0:
        return {}
    shares = {creator: pool_micro * flattrs // total for creator, flattrs in flattrs_by_creator.items()}
    left = pool_micro - sum(shares.values())

    is_huge = len(shares) >= _CREATORS_HUGE or total >= _FLATTRS_HUGE

    def claim(creator: str) -> tuple[int, int, str]:
        remainder = pool_micro * flattrs_by_creator[creator] % total
        return -remainder, 0 if is_huge else tie_hash(month, member_id, creator), creator

    for creator in sorted(shares, key=claim)[:left]:
        shares[creator] += 1
    return shares
