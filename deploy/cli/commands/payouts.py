"""`flattr payouts`, `flattr ledger` and `flattr statement`: the results of a closed month."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from deploy.cli.finance import clock, closed, settings, terms, warehouse
from deploy.cli.output import cells, write_out

if TYPE_CHECKING:
    from warehouse.payout.books.returns import Booked, Imported

Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]
Output = Annotated[Path | None, typer.Option(help="output file; default: standard output")]
#: So many other bookings of an account are shown.
_OTHERS_SHOWN: Final = 20
Form = Annotated[Literal["json", "csv", "html"], typer.Option("--format")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    payouts = typer.Typer(help="Payouts to creators.", no_args_is_help=True)
    for command in (show, export, withhold, returns, answers):
        payouts.command(command.__name__)(command)
    app.add_typer(payouts, name="payouts")
    ledger = typer.Typer(help="The books.", no_args_is_help=True)
    ledger.command("export")(beancount)
    ledger.command("correct")(correct)
    app.add_typer(ledger, name="ledger")
    statement = typer.Typer(help="Statements of members and creators, traceable to clicks.", no_args_is_help=True)
    statement.command("member")(member)
    statement.command("creator")(creator)
    app.add_typer(statement, name="statement")


def show(month: Month, top: Annotated[int, typer.Option(min=1, help="how many creators")] = 20) -> None:
    """Print the payouts of a closed month, largest first."""
    from rich.console import Console
    from rich.table import Table

    from warehouse.payout.closed_months import top_payouts
    from warehouse.payout.money import as_text

    proof = closed(month)
    table = Table("creator", "members", "flattrs", "earned", "paid", "carried", "held", "why", title=f"payouts {month}")
    for line in top_payouts(warehouse(), proof.month, top):
        amounts = (line.earned_micro, line.paid_micro, line.carried_out_micro, line.held_out_micro)
        table.add_row(
            *cells(
                line.creator_id,
                str(line.members),
                str(line.flattrs),
                *(as_text(amount, proof.currency) for amount in amounts),
                line.reason,
            )
        )
    Console().print(table)


def export(
    month: Month,
    form: Annotated[Literal["csv", "parquet", "draft", "pain.001"], typer.Option("--format")] = "csv",
    output: Output = None,
    on: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="draft: when the bank shall pay")] = None,
) -> None:
    """Write the payouts of a closed month.

    `pain.001` is the bank's file, as two people have approved it. `draft` is the same as CSV, before anybody has.
    """
    from deploy.errors import CommandFailed
    from warehouse.payout.books import export as exports
    from warehouse.payout.books.approval import approved_file
    from warehouse.payout.books.payment_order import order_of
    from warehouse.payout.closed_months import all_payouts

    proof = closed(month)
    if form == "csv":
        write_out(output, "".join(exports.csv_text(all_payouts(warehouse(), proof.month))).encode())
    elif form == "parquet":
        if output is None:
            raise CommandFailed("Parquet is binary: add --output FILE.")
        exports.write_parquet(all_payouts(warehouse(), proof.month), output)
    elif form == "draft":
        if on is None:
            raise CommandFailed("A draft needs --on YYYY-MM-DD: the day on which the bank shall pay.")
        write_out(output, exports.draft_text(order_of(warehouse(), proof, terms(on.date()))).encode())
    else:
        if on is not None:
            raise CommandFailed("pain.001 is executed on the approved date: leave out --on.")
        today = datetime.fromtimestamp(clock()() / 1000, UTC).date()
        write_out(output, approved_file(warehouse(), proof, today))


def withhold(
    month: Month, creator_id: str, reason: Annotated[str, typer.Option(help="why, for the creator and the books")]
) -> None:
    """Leave a creator's payment out of the bank's file; its amount is credited again with the next close."""
    from warehouse.payout.inputs.adjustments import withhold as leave_out

    made = leave_out(warehouse(), closed(month).month, creator_id, reason)
    typer.echo(f"{made.cites} is withheld and credited with the next close as {made.id}; approvals so far lapse")


def returns(
    file: Annotated[
        Path, typer.Argument(help="what the bank sends: pain.002, camt.053, camt.054; or a CSV of your own")
    ],
) -> None:
    """Book what the bank rejected or returned: credit its creators with the next close, hold whose account is dead.

    A CSV has the columns payment_id, amount, reason, and may have reference. The same file twice changes nothing.
    """
    from warehouse.payout.books.returns import import_answers

    print_imported(import_answers(warehouse(), file))


def print_imported(imported: Imported) -> None:
    """What an import of a bank's answers did, answer by answer, and the sums."""
    from warehouse.payout.money import as_text

    for line in imported.lines:
        typer.echo(f"  {_booked(line)}")
    for other in imported.others[:_OTHERS_SHOWN]:
        fact = other.fact
        amount = f" {as_text(fact.amount_micro)} {fact.currency}" if fact.amount_micro is not None else ""
        typer.echo(f"  {fact.end_to_end_id or fact.file_id or 'no reference'!r}{amount}: {other.why}")
    if len(imported.others) > _OTHERS_SHOWN:
        typer.echo(f"  and {len(imported.others) - _OTHERS_SHOWN} more from which nothing follows")
    new = sum(line.is_new for line in imported.lines)
    sums = " and ".join(f"{as_text(micro, name)} {name}" for name, micro in imported.credited.items() if micro)
    held = len({line.creator_id for line in imported.lines if line.action})
    typer.echo(f"answers: {new} new, {len(imported.lines) - new} known, {len(imported.others)} of no concern")
    typer.echo(f"credited with the next close: {sums or 'nothing'}; creators put on hold: {held}")


def _booked(line: Booked) -> str:
    """What became of an answer, in one line."""
    from warehouse.payout.inputs.reason_codes import Action
    from warehouse.payout.money import as_text

    answer = line.answer
    amount = as_text(answer.amount_micro, answer.currency)
    said = f"{answer.payment_id} {line.creator_id}: {answer.kind} {amount} {answer.currency}, {answer.reason}"
    done = [] if line.is_new else ["known already"]
    if line.credited_micro:
        done.append(f"{as_text(line.credited_micro, answer.currency)} credited")
    elif line.is_new:
        done.append("nothing more to credit")
    if line.action == Action.RENEW:
        done.append("held until another account is imported")
    elif line.action == Action.ASK:
        done.append("held until somebody has asked and releases it")
    return f"{said}: {'; '.join(done)}"


def answers(
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; without: all that the bank has answered")] = None,
) -> None:
    """List payments and how they stand: signed, withheld, rejected, returned, returned in part."""
    from rich.console import Console
    from rich.table import Column, Table

    from warehouse.payout.books.payment_states import payment_standings
    from warehouse.payout.money import as_text

    table = Table(
        Column("payment", no_wrap=True), "creator", "paid", "state", "came back", "credited", "why", title="payments"
    )
    for one in payment_standings(warehouse(), closed(month).month if month else None):
        amounts = (one.payment.paid_micro, one.came_back_micro, one.credited_micro)
        paid, back, credited = (as_text(amount, one.payment.currency) for amount in amounts)
        why = "; ".join(dict.fromkeys(str(answer.reason) for answer in one.answers))
        table.add_row(*cells(one.payment.payment_id, one.payment.creator_id, paid, one.state, back, credited, why))
    Console().print(table)


def beancount(month: Month, output: Output = None) -> None:
    """Write the books from the first closed month to this one in Beancount syntax."""
    from warehouse.payout.books.beancount import beancount_text
    from warehouse.payout.close.proof import stored_until

    proofs = stored_until(warehouse(), closed(month).month)
    write_out(output, "".join(beancount_text(warehouse(), proofs)).encode())


def correct(
    month: Month,
    creator_id: str,
    amount: Annotated[str, typer.Argument(help="such as 12.34; add --take to take it back")],
    reason: Annotated[str, typer.Option(help="reason for the books")],
    against: Annotated[Literal["fee", "charity", "kept"], typer.Option(help="account that bears it")] = "fee",
    *,
    take: Annotated[bool, typer.Option("--take", help="take the amount back from the creator")] = False,
) -> None:
    """Correct a creator's line of a closed month through a new entry in the next close."""
    from deploy.errors import CommandFailed
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.inputs import adjustments
    from warehouse.payout.money import AmountError, parse_amount

    try:
        amount_micro = parse_amount(amount, settings().close_currency)
    except AmountError as error:
        raise CommandFailed(str(error)) from None
    made = adjustments.correct(
        warehouse(), creator_id, -amount_micro if take else amount_micro,
        against=against, month=parse_month(month), reason=reason,
    )  # fmt: skip
    typer.echo(f"{made.id} enters the ledger with the next close, citing {made.cites}")


def member(month: Month, member_id: str, form: Form = "json", output: Output = None) -> None:
    """Show where a member's pledge went."""
    from warehouse.payout.books import statements

    statement = statements.member_statement(warehouse(), closed(month), member_id)
    write_out(output, statements.render(statement, form).encode())


def creator(month: Month, creator_id: str, form: Form = "json", output: Output = None) -> None:
    """Show where a creator's money came from, by day and thing; it names no member and can be handed out."""
    from warehouse.payout.books import statements
    from warehouse.payout.books.creator_statement import creator_statement

    statement = creator_statement(warehouse(), closed(month), creator_id)
    write_out(output, statements.render(statement, form).encode())
