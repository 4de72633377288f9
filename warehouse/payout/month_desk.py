"""What finance looks at around a close: outliers, entries that wait, approvals, payments, the ledger. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from warehouse.payout.books.approval import Approval, approvals
from warehouse.payout.close.outliers import Outlier, noted_outliers
from warehouse.payout.close.proof import Proof
from warehouse.storage.client import Warehouse, named

SHOWN_MAX: Final = 50


@dataclass(frozen=True)
class Waiting:
    """An adjustment that the next close enters; ``owner`` is the creator it is about, if any."""

    kind: str
    owner: str
    amount_micro: int
    currency: str
    cites: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A ledger entry; an account is its class, and its owner after a blank."""

    kind: str
    debit: str
    credit: str
    amount_micro: int
    currency: str
    cites: str


@dataclass(frozen=True)
class Payments:
    """A closed month's payments, and how many of them came back or were withheld, whole or in part."""

    count: int
    paid_micro: int
    returned: int
    returned_micro: int


@dataclass(frozen=True)
class Desk:
    """Everything beside the stages that the page of a month shows; at most ``SHOWN_MAX`` lines of each."""

    outliers: tuple[Outlier, ...]
    waiting: tuple[Waiting, ...]
    approvals: tuple[Approval, ...] = ()
    payments: Payments | None = None
    found: tuple[Entry, ...] = ()


def read_desk(warehouse: Warehouse, month: int, sealed: Proof | None, search: str) -> Desk:
    """What there is to look at in a month; ``search`` is a text that ledger entries of a closed month shall name."""
    outliers = tuple(noted_outliers(warehouse, month)[:SHOWN_MAX])
    waiting = tuple(Waiting(*row) for row in warehouse.rows(named("payout_waiting_entries"), {"limit": SHOWN_MAX}))
    if sealed is None:
        return Desk(outliers, waiting)
    (payments,) = warehouse.rows(named("payout_payment_states"), {"month": month})
    given = tuple(one for one in approvals(warehouse, month) if one.order.seal == sealed.seal)
    return Desk(outliers, waiting, given, Payments(*payments), _search(warehouse, month, search))


def _search(warehouse: Warehouse, month: int, text: str) -> tuple[Entry, ...]:
    if not text:
        return ()
    values: dict[str, Any] = {"month": month, "text": text, "limit": SHOWN_MAX}
    return tuple(
        Entry(kind, f"{debit} {of}".strip(), f"{credit} {to}".strip(), amount, currency, cites)
        for kind, debit, of, credit, to, amount, currency, cites in warehouse.rows(
            named("payout_entries_search"), values
        )
    )
