"""`flattr month`: close a month, check it, approve its payments. For what comes before see pledges.py."""

from __future__ import annotations

import functools
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.finance import clock, closed, log_ends, print_order, print_proof, settings, terms, warehouse

if TYPE_CHECKING:
    from warehouse.payout.close.proof import Proof
    from warehouse.payout.close.recount import Restated

#: The stream is always slightly behind the log; a status query waits only this long for it.
_STATUS_WAITS_S = 5.0
Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    month = typer.Typer(help="Close a month, and check it.", no_args_is_help=True)
    for command in (close, status, verify, proof, approve, outliers, acknowledge, compare):
        month.command(command.__name__)(command)
    app.add_typer(month, name="month")


def close(
    month: Month,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="compute and check, but publish nothing")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="store the dry run, to compare it with the final month")] = False,
    without_pledges: Annotated[bool, typer.Option("--without-pledges", help="close although nobody pledged")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before the month is sealed")] = False,
) -> None:
    """Close a month: check that everything is counted, divide every cent, publish and seal.

    A dry run of a closed month recomputes it from its data and says whether the result is the same.
    """
    from rich.console import Console
    from rich.progress import Progress

    from deploy.errors import CommandFailed
    from warehouse.payout.close.close import close_month, rehearse_month
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.close.proof import stored
    from warehouse.payout.close.recount import restated
    from warehouse.storage.archived import refuse_archived

    if keep and not dry_run:
        raise CommandFailed("--keep stores a dry run: add --dry-run.")
    number = parse_month(month)
    if dry_run:
        refuse_archived(warehouse(), number)
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(f"closing {month}", total=100)

        def step_done(step: str, percent: int) -> None:
            bars.update(bar, completed=percent, description=f"{month}: {step}")

        def confirm(figures: Proof) -> bool:
            bars.stop()
            typer.echo(f"{month} will be closed like this, for good:")
            print_proof(figures)
            return typer.confirm("Close it?")

        differing: list[Restated] = []
        rehearse = functools.partial(rehearse_month, keep=keep, differs=differing.append)
        agreed = (lambda _: True) if yes else confirm
        seal = functools.partial(close_month, without_pledges=without_pledges, confirm=agreed)
        work = rehearse if dry_run else seal
        stated = work(warehouse(), number, clock=clock(), log_ends=log_ends(), settings=settings(), progress=step_done)
    typer.echo(f"{month} would close as follows (dry run):" if dry_run else f"{month} is closed.")
    print_proof(stated)
    for found in differing:
        typer.echo(f"  a close would restate {found}")
    done = None if dry_run else restated(warehouse(), number)
    if done is not None:
        typer.echo(f"  restated {done}")
    sealed = stored(warehouse(), number)
    if dry_run and sealed is not None:
        changed = [name for name, digest in stated.digests.items() if sealed.digests.get(name) != digest]
        typer.echo(f"  differs from the sealed month in {', '.join(changed)}" if changed else "  as it was sealed")


def status(month: Month) -> None:
    """Show whether a month is closed, and if not, what is missing."""
    from warehouse.archive.notes import notes
    from warehouse.payout.books.approval import approvals
    from warehouse.payout.close.gate import pass_gate
    from warehouse.payout.close.months import parse_month
    from warehouse.payout.close.outliers import noted_outliers
    from warehouse.payout.close.proof import stored
    from warehouse.payout.errors import PayoutRefused
    from warehouse.subscriptions.standing import posted, unposted

    number = parse_month(month)
    sealed = stored(warehouse(), number)
    if sealed is not None:
        names = sorted({one.approver for one in approvals(warehouse(), sealed.month) if one.order.seal == sealed.seal})
        typer.echo(f"{month} is closed, approved by {' and '.join(names) or 'nobody yet'}.")
        print_proof(sealed)
        note = notes(warehouse()).get(number)
        if note is not None and note.is_away:
            typer.echo(f"  its flattrs and counts are {note.state}, in {note.place}: docs/archive.md")
        return
    try:
        soon = settings().model_copy(update={"close_drain_timeout_s": _STATUS_WAITS_S})
        tallies = pass_gate(warehouse(), number, clock=clock(), log_ends=log_ends(), settings=soon)
    except PayoutRefused as missing:
        typer.echo(f"{month} is open. {missing}")
    else:
        typer.echo(f"{month} is open and can be closed: {tallies.counted} flattrs are counted.")
    posted_at, flattrs = posted(warehouse(), number) or (None, 0)
    if posted_at is not None:
        typer.echo(f"  {flattrs} flattrs of subscriptions were posted, last on {posted_at:%Y-%m-%d %H:%M} UTC")
    elif unposted(warehouse(), number):
        typer.echo(f"  its subscriptions are not posted yet: run `flattr subscriptions post {month}`")
    for line in noted_outliers(warehouse(), number):
        typer.echo(f"  {line}; {f'seen by {line.who}' if line.who else 'nobody has looked at it yet'}")


def verify(month: Month) -> None:
    """Recompute a closed month in plain Python and compare every line and hash."""
    from deploy.errors import CommandFailed
    from warehouse.payout.audit.verify import verify_month
    from warehouse.payout.close.months import parse_month

    findings = verify_month(warehouse(), parse_month(month))
    if not findings.clean:
        lines = "\n".join(f"  {problem}" for problem in findings.problems)
        raise CommandFailed(f"{month} does not verify:\n{lines}")
    typer.echo(f"{month} verifies: {findings.lines} lines, every hash and the chain of seals agree.")


def proof(
    month: Month, output: Annotated[Path | None, typer.Option(help="output file; default: standard output")] = None
) -> None:
    """Print the published proof of a closed month: the text whose SHA-256 is the seal."""
    text = closed(month).text()
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)


def approve(
    month: Month,
    name: Annotated[str, typer.Option(help="who approves, as enrolled")],
    key: Annotated[Path, typer.Option(help="that person's private key (`flattr approver keygen`)")],
    on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="when the bank shall pay")],
    changed: Annotated[
        list[str] | None, typer.Option(help="a creator whose account changed of late, to be paid")
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask: the order was looked at elsewhere")] = False,
) -> None:
    """Approve the payments of a closed month: sign the bank's file, to the last byte. Two people have to."""
    from datetime import UTC

    from deploy.errors import CommandFailed
    from warehouse.payout.bank import is_target_day
    from warehouse.payout.books import approval
    from warehouse.payout.books.payment_order import changed_accounts, order_of

    private = approval.read_key(key)
    now = datetime.fromtimestamp(clock()() / 1000, UTC)
    if on.date() <= now.date() or not is_target_day(on.date()):
        raise CommandFailed(f"Banks do not settle on {on:%Y-%m-%d}: take a day from tomorrow on that TARGET works.")
    order = order_of(warehouse(), closed(month), terms(on.date(), changed or ()))
    late = changed_accounts(warehouse(), order, now, settings().close_cooling_off_days)
    unnamed = sorted(set(late) - set(order.terms.changed_accounts))
    if unnamed:
        raise CommandFailed(
            f"Accounts changed less than {settings().close_cooling_off_days} days ago: {', '.join(unnamed)}. Ask these "
            "creators whether it was them, and name each with --changed, or wait."
        )
    typer.echo(f"Payments of {month}:")
    print_order(order, late)
    if not yes and not typer.confirm(f"{name} approves exactly this?"):
        raise CommandFailed("Nothing was approved.")
    names = approval.approve(warehouse(), order, name, private)
    missing = max(0, approval.APPROVERS_NEEDED - len(names))
    typer.echo(f"{month} ({order.sha256[:16]}) is approved by {' and '.join(names)}; {missing} more needed")


def outliers(month: Month) -> None:
    """List creators, members and sites that grew beyond the configured bounds since the month before."""
    from warehouse.payout.close.outliers import find_outliers

    found = find_outliers(warehouse(), _comparable(month), settings())
    for line in found:
        typer.echo(f"{line}{f' (seen by {line.who})' if line.who else ''}")
    typer.echo(f"{len(found)} outliers in {month}")


def acknowledge(month: Month, by: Annotated[str, typer.Option(help="who has looked at them")]) -> None:
    """State that somebody has looked at a month's outliers; a close asks for that."""
    from warehouse.payout.close.outliers import acknowledge as note

    seen = note(warehouse(), _comparable(month), by, settings())
    for line in seen:
        typer.echo(f"{line}, seen by {line.who}")
    typer.echo(f"{len(seen)} outliers of {month} acknowledged by {by}")


def _comparable(month: str) -> int:
    """A month whose flattrs, and those of the month before, are in the tables."""
    from ingest.contract.month import month_before
    from warehouse.payout.close.months import parse_month
    from warehouse.storage.archived import refuse_archived

    number = parse_month(month)
    refuse_archived(warehouse(), month_before(number), number)
    return number


def compare(
    month: Month,
    run: Annotated[int | None, typer.Option(help="number of a stored dry run; default: the newest")] = None,
) -> None:
    """Explain what changed between a stored dry run and the final month."""
    from warehouse.payout.close.provisional_run import compare_run

    compared = compare_run(warehouse(), closed(month), run)
    for name, (before, after) in {**compared.totals, **compared.rules}.items():
        typer.echo(f"{name}: {before} became {after}")
    for line in compared.lines:
        typer.echo(
            f"creator {line.creator_id}: earned {line.earned_before_micro} became {line.earned_micro}, "
            f"paid {line.paid_before_micro} became {line.paid_micro}"
        )
    typer.echo(f"{len(compared.lines)} payout lines differ")
