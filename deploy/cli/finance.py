"""Shared by the finance commands: dependencies from the environment, and printing a proof."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ingest.runtime.clock import Clock
    from warehouse.payout.books.payment_order import PaymentOrder, Terms
    from warehouse.payout.close.log_ends import LogEnds
    from warehouse.payout.close.proof import Proof
    from warehouse.payout.close.settings import CloseSettings
    from warehouse.storage.client import Warehouse

#: So many of an order's largest payments are shown to who approves it.
_LARGEST: Final = 10


@functools.cache
def settings() -> CloseSettings:
    """The settings of the close."""
    from warehouse.payout.close.settings import CloseSettings

    return CloseSettings()


@functools.cache
def warehouse() -> Warehouse:
    """The database, with the close's timeout."""
    from warehouse.storage.client import Warehouse
    from warehouse.storage.settings import WarehouseSettings

    return Warehouse(WarehouseSettings().warehouse.get_secret_value(), timeout_s=settings().close_timeout_s)


def clock() -> Clock:
    """The clock that FLATTR_CLOCK names."""
    from ingest.runtime.clock import clock_from

    return clock_from(os.environ.get("FLATTR_CLOCK", "system"))


def log_ends() -> LogEnds:
    """The ends of the clicks log."""
    from ingest.runtime.kafka_settings import BrokerSettings, client_security
    from warehouse.payout.close.log_ends import KafkaLogEnds

    log, rules = BrokerSettings(), settings()
    settle_ms = rules.close_settle_s * 1000 if rules.close_stamps_bounded else None
    return KafkaLogEnds(log.broker, log.topic_clicks, client_security(log), settle_ms=settle_ms)


def closed(month: str) -> Proof:
    """The proof of a closed month. Raises ``CommandFailed`` while it is open."""
    from deploy.errors import CommandFailed
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.close.proof import stored

    proof = stored(warehouse(), parse_month(month))
    if proof is None:
        raise CommandFailed(f"{month} is not closed: run `flattr month status {month}` to see what is missing.")
    return proof


def terms(execute_on: date, changed_accounts: Sequence[str] = ()) -> Terms:
    """What is decided about payments beside their amounts. Raises ``CommandFailed`` without the paying account."""
    from deploy.errors import CommandFailed
    from warehouse.payout.books.payment_order import Debtor, Terms

    rules = settings()
    if not rules.close_debtor_iban or not rules.close_debtor_name:
        raise CommandFailed(
            "The paying account is not set: FLATTR_CLOSE_DEBTOR_NAME, FLATTR_CLOSE_DEBTOR_IBAN and "
            "FLATTR_CLOSE_DEBTOR_BIC."
        )
    debtor = Debtor(rules.close_debtor_name, rules.close_debtor_iban, rules.close_debtor_bic)
    return Terms(debtor, execute_on, rules.close_bank_scheme, tuple(sorted(set(changed_accounts))))


def print_order(order: PaymentOrder, changed: Sequence[str]) -> None:
    """What an approver signs: the sum, the largest payments, whose account changed of late."""
    from warehouse.payout.books.payment_order import in_euro

    debtor = order.terms.debtor
    typer.echo(
        f"  {len(order.payments)} payments, EUR {in_euro(order.sum_minor)}, on {order.terms.execute_on:%A, %d %B %Y}"
    )
    typer.echo(f"  from {debtor.name}, {debtor.iban} {debtor.bic}, as {order.terms.scheme}")
    for payment in sorted(order.payments, key=lambda one: -one.amount_minor)[:_LARGEST]:
        typer.echo(f"  {in_euro(payment.amount_minor):>14}  {payment.creator_id}  {payment.name}  {payment.iban}")
    for creator_id in changed:
        typer.echo(f"  account changed of late: {creator_id}")


def print_proof(proof: Proof) -> None:
    """Print where every cent and every click went."""
    from warehouse.payout.money import as_text

    lines = {
        "charged": proof.pledged_micro,
        **{("= " if name == "paid" else "+ ") + name: micro for name, micro in proof.terms.items()},
    }
    for name, amount in lines.items():
        typer.echo(f"  {name:<10} {as_text(amount):>{30 - max(10, len(name))}} {proof.currency}")
    typer.echo(
        f"  {proof.accepted} accepted = {proof.counted} counted + {proof.duplicate} duplicate + {proof.undo} undo "
        f"+ {proof.rejected} rejected + {proof.late} late"
    )
    if proof.quarantined:
        typer.echo(f"  {proof.quarantined} flattrs in quarantine, besides the {proof.flattrs} that were paid")
    typer.echo(f"  {proof.members_unfunded} of {proof.members} members unfunded; seal {proof.seal}")
