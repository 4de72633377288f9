"""The commands of `flattr pledges` that collect what members owe, and take in what the bank answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from deploy.cli.finance import clock, settings, warehouse
from deploy.cli.output import write_out
from deploy.cli.previews import asking, named

if TYPE_CHECKING:
    from warehouse.payout.collecting.answers import Taken
    from warehouse.payout.collecting.collection import Due, Terms

Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]
_LARGEST: Final = 10


def register(pledges: typer.Typer) -> None:
    """Add the commands."""
    for command in (collect, results, booked, debits):
        pledges.command(command.__name__)(command)


def collect(  # noqa: PLR0913 - a command has as many options as it has
    month: Month,
    on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="when the bank shall collect")],
    form: Annotated[Literal["pain.008", "draft"], typer.Option("--format")] = "pain.008",
    output: Annotated[Path | None, typer.Option(help="output file; default: standard output")] = None,
    notified: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="when the members were told; default: today")
    ] = None,
    *,
    more: Annotated[bool, typer.Option("--more", help="from those who have had no debit for this month yet")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask: for scripts")] = False,
) -> None:
    """Write the bank's file of direct debits for a month's unpaid pledges.

    Nobody is debited twice for a month. The same command gives the same file again. `draft` is a CSV of who would be
    collected from, to tell the members from: it notes nothing.
    """
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.collecting import collection

    number, day = parse_month(month), on.date()
    if form == "draft":
        found = collection.due(warehouse(), number, settings(), day)
        write_out(output, collection.draft_text(found, day, settings().close_creditor_id).encode())
        return
    terms = _terms(day, notified.date() if notified else today())
    file = collection.collect(
        warehouse(), number, terms, today(), more=more, confirm=asking(_show_due(terms), "Collect this?", yes=yes)
    )
    write_out(output, file)


def results(
    file: Annotated[Path, typer.Argument(help="the bank's XML, or CSV: end_to_end_id,amount,result,reason")],
) -> None:
    """Take in what became of debits: collected ones are paid; failed and returned ones are not, or charged back."""
    from warehouse.payout.collecting.answers import import_results

    _show_taken(import_results(warehouse(), file))


def booked(
    month: Month, on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="the day of the debits")]
) -> None:
    """The bank booked a month's debits of a day as one sum: all that have not failed are collected."""
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.collecting.answers import take_booking

    _show_taken(take_booking(warehouse(), parse_month(month), on.date()))


def debits(month: Month) -> None:
    """List a month's debits, and what became of each."""
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.collecting.collection import read_debits
    from warehouse.payout.money import as_text

    found = read_debits(warehouse(), [parse_month(month)])
    for one in found:
        amount = f"{as_text(one.amount_micro, one.currency)} {one.currency}"
        typer.echo(f"{one.collect_on}  {one.end_to_end_id}  {one.member_id}  {amount}  {one.sequence}  {one.state}")
    typer.echo(f"{len(found)} debits for {month}")


def today() -> date:
    """The day (UTC) by the clock that FLATTR_CLOCK names."""
    return datetime.fromtimestamp(clock()() / 1000, UTC).date()


def _terms(collect_on: date, notified_on: date) -> Terms:
    from deploy.errors import CommandFailed
    from warehouse.payout.collecting.collection import Terms
    from warehouse.payout.collecting.pain008 import Creditor

    rules = settings()
    name = rules.close_creditor_name or rules.close_debtor_name
    iban = rules.close_creditor_iban or rules.close_debtor_iban
    bic = rules.close_creditor_bic or ("" if rules.close_creditor_iban else rules.close_debtor_bic)
    missing = {
        "FLATTR_CLOSE_CREDITOR_ID": rules.close_creditor_id,
        "FLATTR_CLOSE_CREDITOR_NAME": name,
        "FLATTR_CLOSE_CREDITOR_IBAN": iban,
        "FLATTR_CLOSE_CREDITOR_BIC": bic or rules.close_debit_scheme != "pain.008.001.02",
    }
    unset = [variable for variable, value in missing.items() if not value]
    if unset:
        raise CommandFailed(f"Who collects is not set: {', '.join(unset)}.")
    return Terms(Creditor(name, iban, bic, rules.close_creditor_id), collect_on, notified_on, rules)


def _show_due(terms: Terms) -> Callable[[Due], None]:
    from warehouse.payout.money import as_text, minor_micro

    def show(due: Due) -> None:
        typer.echo(
            f"{len(due.debits)} debits, EUR {as_text(due.sum_micro, 'EUR')}, on {terms.collect_on:%A, %d %B %Y}; "
            f"members told on {terms.notified_on}",
            err=True,
        )
        for debit in sorted(due.debits, key=lambda one: -one.amount_minor)[:_LARGEST]:
            amount = as_text(debit.amount_minor * minor_micro("EUR"), "EUR")
            typer.echo(f"  {amount:>14}  {debit.mandate.member_id}  {debit.mandate.name}  {debit.mandate}", err=True)
        for names, why in (
            (due.without_mandate, "have no mandate"),
            (due.too_small, "pledge less than is collected"),
            (due.lapsed, "have a mandate that lapsed: it was not used for 36 months"),
        ):
            if names:
                typer.echo(f"  not collected from: {len(names)} members {why}: {named(names)}", err=True)
        if due.waiting:
            typer.echo(f"  {due.waiting} more for another day, with --more: a file has its bounds", err=True)

    return show


def _show_taken(taken: Taken) -> None:
    from ingest.contract.month import month_text
    from warehouse.payout.money import as_text

    counts = ", ".join(f"{taken.count(state)} {state}" for state in ("collected", "failed", "returned"))
    typer.echo(f"{taken.new} new answers; of these debits now {counts}")
    for one in taken.debits:
        if one.state in {"failed", "returned"}:
            typer.echo(
                f"  {one.state}: {one.member_id} in {month_text(one.month)}, {as_text(one.amount_micro, 'EUR')} EUR"
            )
    for entry in taken.charged_back:
        typer.echo(f"  charged back with the next close: {as_text(entry.amount_micro, 'EUR')} EUR, {entry.cites}")
    for one in taken.late:
        typer.echo(
            f"  came in after {month_text(one.month)} was closed, and is in no pool: {one.member_id}, "
            f"{as_text(one.amount_micro, 'EUR')} EUR. Pay it back, or import it as a pledge of an open month."
        )
    for sentence in taken.refused:
        typer.echo(f"  not charged back: {sentence}")
    for sentence in taken.remarks:
        typer.echo(f"  not taken in: {sentence}")
    if taken.contradictory:
        names = [one.end_to_end_id for one in taken.contradictory]
        typer.echo(f"  failed, the bank says, and did not: {named(names)}. They count as not paid: ask the bank.")
