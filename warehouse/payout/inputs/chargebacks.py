"""Charge-backs: a member's bank took a pledge back after its month was closed.

What the creators got of it was paid in good faith and stays theirs: the fee account pays. The entry cites the closed
pledge and enters the ledger with the next close, as every adjustment does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ingest.contract.month import month_text
from warehouse.payout.inputs.adjustments import Adjustment, name_of
from warehouse.payout.money import as_text
from warehouse.storage.client import Warehouse, named

REASON: Final = "charged back after the close"


class ChargeBack(NamedTuple):
    """What a bank took back: of whose pledge for which month. ``reference`` tells several of one pledge apart."""

    month: int
    member_id: str
    amount_micro: int
    reason: str = REASON
    reference: str = ""


def charge_backs(
    warehouse: Warehouse, currency: str, asked: Sequence[ChargeBack]
) -> tuple[list[Adjustment], list[str]]:
    """The entries for these, and a sentence for each that cannot be: of no closed pledge, or more than was charged.

    Writes nothing. An entry that is made already is given again, under the same id.
    """
    if not asked:
        return [], []
    keys = sorted({(one.month, one.member_id) for one in asked})
    charged = {
        (month, member): (pledge, back)
        for month, member, pledge, back in warehouse.rows(named("payout_charged"), {"asked": keys})
    }
    known = {name for (name,) in warehouse.rows("SELECT id FROM adjustments WHERE kind = 'chargeback'")}
    made, problems = [], []
    for one in asked:
        pledge, back = charged.get((one.month, one.member_id), (0, 0))
        entry = _entry(one, currency)
        new_micro = 0 if entry.id in known else one.amount_micro
        if not pledge:
            problems.append(f"{one.member_id} was charged nothing in {month_text(one.month)}")
        elif back + new_micro > pledge:
            left = as_text(pledge - back, currency)
            problems.append(
                f"{as_text(one.amount_micro, currency)} of {one.member_id} in {month_text(one.month)} is more than the "
                f"{left} that were charged and not taken back yet"
            )
        else:
            charged[one.month, one.member_id] = (pledge, back + new_micro)
            known.add(entry.id)
            made.append(entry)
    return made, problems


def _entry(one: ChargeBack, currency: str) -> Adjustment:
    cites = f"pledge {month_text(one.month)} {one.member_id}"
    name = name_of("chargeback", cites, one.reference)
    return Adjustment(name, "chargeback", ("fee", ""), ("cash", ""), one.amount_micro, currency, cites, one.reason)
