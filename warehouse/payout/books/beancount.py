"""The ledger in Beancount's syntax, so that an independent tool can check that the books balance.

Each entry is a transaction on the last day of its month, exact to six decimals. After each month come assertions of
the balances in the sealed proofs.
"""

from __future__ import annotations

import calendar
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from warehouse.payout.close.proof import Proof
from warehouse.payout.money import as_text
from warehouse.storage.client import Warehouse, named

_ROOTS: Final = {
    "cash": "Assets:Cash",
    "members": "Liabilities:Carried:Members",
    "pool": "Liabilities:Pool",
    "creator": "Liabilities:Carried:Creators",
    "held": "Liabilities:Held",
    "payable": "Liabilities:Payable",
    "charity": "Liabilities:Charity",
    "fee": "Income:Fee",
    "kept": "Income:Kept",
}


def account_name(kind: str, owner: str) -> str:
    """An account's name in Beancount; a character it does not allow becomes ``-CODE-``, in hexadecimal."""
    if not owner:
        return _ROOTS[kind]
    return f"{_ROOTS[kind]}:C-{re.sub(r'[^A-Za-z0-9]', lambda sign: f'-{ord(sign[0]):X}-', owner)}"


def beancount_text(warehouse: Warehouse, proofs: list[Proof]) -> Iterator[str]:
    """The ledger of the closed months, oldest first, in a form that ``bean-check`` accepts."""
    if not proofs:
        return
    currency = proofs[0].currency
    yield f'option "title" "Flattr"\noption "operating_currency" "{currency}"\n\n'
    begin = _days(proofs[0].month)[0]
    opened: set[str] = set()

    def opening(*accounts: str) -> Iterator[str]:
        for account in accounts:
            if account not in opened:
                opened.add(account)
                yield f"{begin} open {account} {currency}\n"

    stated: dict[str, int] = defaultdict(int)
    for proof in proofs:
        last = _days(proof.month)[1]
        for line in warehouse.stream(named("payout_entries"), {"month": proof.month}):
            _, kind, owner, debit_class, debit_owner, credit_class, credit_owner, amount, _, cites = line
            debit = account_name(debit_class, debit_owner)
            credit = account_name(credit_class, credit_owner)
            yield from opening(debit, credit)
            text = as_text(amount)
            what = " ".join(part for part in (kind, owner, cites) if part)
            yield f"{last} * {_quoted(what)}\n  {debit}  {text} {currency}\n  {credit}  -{text} {currency}\n"
        for account, micro in _stated(proof, stated).items():
            yield from opening(account)
            yield f"{last + timedelta(days=1)} balance {account}  {as_text(micro)} ~ 0 {currency}\n"


def _stated(proof: Proof, sums: dict[str, int]) -> dict[str, int]:
    """The balances after a month, from its proof and those before it; updates ``sums`` in place."""
    sums["Assets:Cash"] += proof.pledged_micro - proof.charged_back_micro
    sums["Liabilities:Payable"] -= proof.paid_micro
    sums["Liabilities:Charity"] -= proof.charity_micro
    sums["Income:Kept"] -= proof.kept_micro
    sums["Income:Fee"] -= proof.fee_micro - proof.kept_micro
    sums["Liabilities:Held"] = -proof.held_balance_micro
    sums["Liabilities:Carried"] = -proof.carried_balance_micro
    sums["Liabilities:Pool"] = 0
    return sums


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _days(month: int) -> tuple[date, date]:
    year, number = divmod(month, 100)
    return date(year, number, 1), date(year, number, calendar.monthrange(year, number)[1])
