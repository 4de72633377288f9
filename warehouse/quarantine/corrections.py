"""Flags and releases after the close: corrections that cite the closed line, never a change of it.

What a creator is entitled to out of one member's pool is a function of the sealed month and of the
flags that stand, so the steps between two states may come in any order: their corrections sum to
the difference of the two, and to nothing when the state is the sealed one again.

- Flagged after the close: the part of the closed share that these flattrs brought is taken back,
  rounded down. It goes to the charity: the platform must not gain by its own flags, and the other
  creators' lines are closed.
- In quarantine at the close and released: what the share would have been with everything that was in
  quarantine, less what it was, in proportion to what is released. The charity pays where it had got
  the pool; otherwise the fee account, since the others were paid in good faith and the flag was the platform's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ingest.contract.month import month_text
from warehouse.payout.close.proof import Proof
from warehouse.payout.inputs import adjustments
from warehouse.payout.inputs.adjustments import Adjustment
from warehouse.payout.split import split
from warehouse.quarantine.log import Step, Subject, in_force, read_steps
from warehouse.storage.client import Warehouse, named

TAKEN_TO: Final = "charity"
#: Who pays a release, by the rule that decided on the pool.
PAID_BY: Final = {"charity": "charity", "keep": "kept"}
_OTHERWISE: Final = "fee"


@dataclass(frozen=True)
class Pool:
    """A member's closed pool: flattrs and micro-units by creator, and the flattrs that it left out."""

    member_id: str
    pool_micro: int
    rule: str
    flattrs: Mapping[str, int]
    shares: Mapping[str, int]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Flattr:
    """A flattr that stands and that some subject of the log covers."""

    member_id: str
    creator_id: str
    thing_id: str
    site_id: str

    def in_quarantine(self, flags: Mapping[Subject, Step]) -> bool:
        """Whether one of the flags covers it."""
        return any(flag.covers(self.member_id, self.creator_id, self.thing_id, self.site_id) for flag in flags)


def entitled(pool: Pool, creator_id: str, flagged: int, released: int, *, month: int) -> dict[str, int]:
    """By account, what a creator is to have of the pool beyond the closed share, in micro-units.

    ``flagged`` of the flattrs that were divided are in quarantine now, ``released`` of those left out are not.
    """
    shared, divided = pool.shares.get(creator_id, 0), pool.flattrs.get(creator_id, 0)
    found: Counter[str] = Counter()
    if flagged:
        found[TAKEN_TO] -= shared * flagged // divided
    if released:
        whole = Counter(pool.flattrs) + Counter(pool.left_out)
        never_flagged = split(pool.pool_micro, whole, month=month, member_id=pool.member_id)[creator_id]
        gain = max(0, never_flagged - shared) * released // pool.left_out[creator_id]
        found[PAID_BY.get(pool.rule, _OTHERWISE)] += gain
    return dict(found)


def settle(warehouse: Warehouse, proof: Proof) -> list[Adjustment]:
    """Enter the corrections of every step that was taken after the close and return those that were missing.

    A correction's id is made of its step, so what is entered already is left out: a run that died between
    a step and its corrections is made good by the next. The caller holds the close's lock.
    """
    steps = read_steps(warehouse, proof.month)
    sealed = [step for step in steps if step.number <= proof.snapshot.get("quarantine_step", 0)]
    later = steps[len(sealed) :]
    if not later:
        return []
    made = corrections(proof, sealed, later, *_read(warehouse, proof, sealed))
    return adjustments.write(warehouse, made)


def corrections(
    proof: Proof, sealed: Sequence[Step], later: Sequence[Step], flattrs: Sequence[Flattr], pools: Mapping[str, Pool]
) -> list[Adjustment]:
    """What each later step changes in what the creators are entitled to, as adjustments. Pure."""
    made = []
    left_out = {flattr for flattr in flattrs if flattr.in_quarantine(in_force(sealed))}
    before = _entitlements(proof.month, left_out, left_out, flattrs, pools)
    for place, step in enumerate(later, 1):
        flags = in_force([*sealed, *later[:place]])
        now = {flattr for flattr in flattrs if flattr.in_quarantine(flags)}
        after = _entitlements(proof.month, left_out, now, flattrs, pools)
        for creator, account in sorted({*before, *after}):
            amount = after.get((creator, account), 0) - before.get((creator, account), 0)
            if amount:
                made.append(_adjustment(proof, step, creator, account, amount))
        before = after
    return made


def _entitlements(
    month: int, left_out: set[Flattr], now: set[Flattr], flattrs: Sequence[Flattr], pools: Mapping[str, Pool]
) -> dict[tuple[str, str], int]:
    """By creator and account, over all members."""
    flagged: Counter[tuple[str, str]] = Counter()
    released: Counter[tuple[str, str]] = Counter()
    for flattr in flattrs:
        place = (flattr.member_id, flattr.creator_id)
        flagged[place] += flattr in now and flattr not in left_out
        released[place] += flattr in left_out and flattr not in now
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for member, creator in flagged:
        if member in pools:  # a member without money has no pool to have a part of
            counts = (flagged[member, creator], released[member, creator])
            for account, amount in entitled(pools[member], creator, *counts, month=month).items():
                sums[creator, account] += amount
    return sums


def _adjustment(proof: Proof, step: Step, creator: str, account: str, amount: int) -> Adjustment:
    accounts = [(account, ""), ("creator", creator)]
    debit, credit = accounts if amount > 0 else accounts[::-1]
    cites = f"payouts {month_text(proof.month)} {creator}"
    name = adjustments.name_of("quarantine", str(step.number), creator, account)
    reason = f"quarantine step {step.number}, {step.action} of {step.subject}: {step.reason}"
    return Adjustment(name, "correct", debit, credit, abs(amount), proof.currency, cites, reason)


def _read(warehouse: Warehouse, proof: Proof, sealed: Sequence[Step]) -> tuple[list[Flattr], dict[str, Pool]]:
    """The flattrs that any subject of the month's log covers, and the closed pools of their members."""
    values = {"month": proof.month}
    flattrs = [Flattr(*row) for row in warehouse.rows(named("quarantine_flattrs"), values)]
    flags = in_force(sealed)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for flattr in flattrs:
        if flattr.in_quarantine(flags):
            left_out[flattr.member_id][flattr.creator_id] += 1
    rows = warehouse.rows(named("quarantine_pools"), values)
    pools = {
        member: Pool(
            member, pool, rule, dict(zip(creators, counts, strict=True)), dict(zip(creators, micros, strict=True)),
            left_out[member],
        )
        for member, pool, rule, creators, counts, micros in rows
    }  # fmt: skip
    return flattrs, pools
