"""What finance looks at around a close: outliers, entries that wait, approvals, payments, the ledger. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from warehouse.payout.books.approval import APPROVERS_NEEDED, Approval, approvals
from warehouse.payout.books.pain001 import file_name
from warehouse.payout.books.payment_order import PaymentOrder
from warehouse.payout.books.payment_states import PaymentState, came_back_by_state
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
    """A closed month's payments, and of those that did not arrive as made the number and sum, by state."""

    count: int
    paid_micro: int
    back: dict[PaymentState, tuple[int, int]]


@dataclass(frozen=True)
class PaymentFile:
    """A bank's file that somebody has signed: its name there, and whose signatures hold."""

    name: str
    order: PaymentOrder
    approvals: tuple[Approval, ...]

    @property
    def state(self) -> str:
        """What it waits for."""
        missing = APPROVERS_NEEDED - len({one.approver for one in self.approvals})
        return f"waits for {missing} more" if missing > 0 else "can be exported"


@dataclass(frozen=True)
class Desk:
    """Everything beside the stages that the page of a month shows; at most ``SHOWN_MAX`` lines of each."""

    outliers: tuple[Outlier, ...]
    waiting: tuple[Waiting, ...]
    files: tuple[PaymentFile, ...] = ()
    payments: Payments | None = None
    found: tuple[Entry, ...] = ()


def read_desk(warehouse: Warehouse, month: int, sealed: Proof | None, search: str) -> Desk:
    """What there is to look at in a month; ``search`` is a text that ledger entries of a closed month shall name."""
    outliers = tuple(noted_outliers(warehouse, month)[:SHOWN_MAX])
    waiting = tuple(Waiting(*row) for row in warehouse.rows(named("payout_waiting_entries"), {"limit": SHOWN_MAX}))
    if sealed is None:
        return Desk(outliers, waiting)
    ((count, paid_micro),) = warehouse.rows(named("payout_payment_sums"), {"month": month})
    payments = Payments(count, paid_micro, came_back_by_state(warehouse, month))
    return Desk(outliers, waiting, _files(warehouse, sealed), payments, _search(warehouse, month, search))


def _files(warehouse: Warehouse, sealed: Proof) -> tuple[PaymentFile, ...]:
    signed: dict[str, list[Approval]] = {}
    for one in approvals(warehouse, sealed.month):
        if one.order.seal == sealed.seal:
            signed.setdefault(one.file_sha256, []).append(one)
    return tuple(PaymentFile(file_name(ones[0].order), ones[0].order, tuple(ones)) for ones in signed.values())


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
