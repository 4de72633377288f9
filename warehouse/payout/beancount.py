"""The ledger in Beancount's syntax: a second tool, written by others, checks that the books balance.

One transaction per entry on the last day of its month, amounts exact to six decimals, and at
the end of each month a balance assertion per class of account, taken from the sealed proof.
"""

from __future__ import annotations

import calendar
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from warehouse.client import Warehouse, named
from warehouse.money import as_text
from warehouse.payout.proof import Proof

_ROOTS: Final = {
    "cash": "Assets:Cash",
    "members": "Liabilities:Members",
    "pool": "Liabilities:Pool",
    "creator": "Liabilities:Creators",
    "held": "Liabilities:Held",
    "payable": "Liabilities:Payable",
    "charity": "Liabilities:Charity",
    "fee": "Income:Fee",
    "kept": "Income:Kept",
}


def account_name(kind: str, owner: str) -> str:
    """An account as Beancount writes it. An owner's sign that it does not allow becomes -, its code in hexadecimal, -."""
    if not owner:
        return _ROOTS[kind]
    return f"{_ROOTS[kind]}:C-{re.sub(r'[^A-Za-z0-9]', lambda sign: f'-{ord(sign[0]):X}-', owner)}"


def beancount_text(warehouse: Warehouse, proofs: list[Proof]) -> Iterator[str]:
    """The ledger of closed months in order, beginning with the first; ``bean-check`` accepts it."""
    if not proofs:
        return
    currency = proofs[0].currency
    yield f'option "title" "Flattr"\noption "operating_currency" "{currency}"\n\n'
    begin = _days(proofs[0].month)[0]
    opened: set[str] = set()
    balances: dict[str, int] = defaultdict(int)
    for proof in proofs:
        last = _days(proof.month)[1]
        for line in warehouse.stream(named("payout_entries"), {"month": proof.month}):
            _, kind, owner, debit_class, debit_owner, credit_class, credit_owner, amount, _, cites = line
            debit = account_name(debit_class, debit_owner)
            credit = account_name(credit_class, credit_owner)
            for account in (debit, credit):
                if account not in opened:
                    opened.add(account)
                    yield f"{begin} open {account} {currency}\n"
            balances[debit_class] += amount
            balances[credit_class] -= amount
            text = as_text(amount)
            what = " ".join(part for part in (kind, owner, cites) if part)
            yield f"{last} * {_quoted(what)}\n  {debit}  {text} {currency}\n  {credit}  -{text} {currency}\n"
        for kind, balance in sorted(balances.items()):
            if _ROOTS[kind] not in opened:
                opened.add(_ROOTS[kind])
                yield f"{begin} open {_ROOTS[kind]} {currency}\n"
            yield f"{last + timedelta(days=1)} balance {_ROOTS[kind]}  {as_text(balance)} ~ 0 {currency}\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _days(month: int) -> tuple[date, date]:
    year, number = divmod(month, 100)
    return date(year, number, 1), date(year, number, calendar.monthrange(year, number)[1])
