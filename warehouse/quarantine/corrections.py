"""Flags and releases after the close: corrections that cite the closed line and never change it.

What a creator is entitled to from one member's pool is a function of the sealed month and the flags in force. So the
order of steps does not matter: between any two states their corrections sum to the difference, and to zero once the
sealed state is restored.

- Flagged after the close: the part of the closed share that these flattrs earned is taken back, rounded down. It goes
  to the charity, because the platform must not profit from its own flags and the other creators' lines are closed.
- In quarantine at the close and released later: the creator gets the difference to the share with nothing in
  quarantine, in proportion to the flattrs released. The charity pays if it received the pool; otherwise the fee
  account does, because the others were paid in good faith and the flag was the platform's.
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
#: The account that pays for a release, by the rule applied to the pool.
PAID_BY: Final = {"charity": "charity", "keep": "kept"}
_OTHERWISE: Final = "fee"


@dataclass(frozen=True)
class Pool:
    """A member's closed pool: flattrs and micro-units by creator, and the flattrs left out."""

    member_id: str
    pool_micro: int
    rule: str
    flattrs: Mapping[str, int]
    shares: Mapping[str, int]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Flattr:
    """An active flattr that some subject in the log covers or once covered."""

    member_id: str
    creator_id: str
    thing_id: str
    site_id: str

    def in_quarantine(self, flags: Mapping[Subject, Step]) -> bool:
        """Whether any of the flags covers it."""
        return any(flag.covers(self.member_id, self.creator_id, self.thing_id, self.site_id) for flag in flags)


def entitled(pool: Pool, creator_id: str, flagged: int, released: int, *, month: int) -> dict[str, int]:
    """By paying account, what a creator is due from the pool beyond the closed share, in micro-units; may be negative.

    ``flagged`` is how many flattrs that were paid are in quarantine now, ``released`` how many that were left out are
    not.
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
    """Enter the corrections of every step taken after the close and return those that were missing.

    A correction's id derives from its step, so this is idempotent, and completes a run that crashed between a step
    and its corrections. The caller must hold the close's lock.
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
    """The adjustments by which each later step changes what creators are entitled to. Pure."""
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
    """What creators are due over all members, by creator and paying account."""
    flagged: Counter[tuple[str, str]] = Counter()
    released: Counter[tuple[str, str]] = Counter()
    for flattr in flattrs:
        place = (flattr.member_id, flattr.creator_id)
        flagged[place] += flattr in now and flattr not in left_out
        released[place] += flattr in left_out and flattr not in now
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for member, creator in flagged:
        if member in pools:  # a member without money has no pool
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
    """The flattrs that any subject in the month's log covers or covered, and the closed pools of their members."""
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
