"""`flattr quarantine`: flattrs excluded from counts and payouts, by rule or by hand, until they are released."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.finance import clock, warehouse
from deploy.cli.options import limited, listening_host
from deploy.cli.output import cells

if TYPE_CHECKING:
    from deploy.cli.quarantine_metrics import QuarantineMetrics
    from warehouse.quarantine.desk import Outcome
    from warehouse.quarantine.log import Step, Subject

Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]
Member = Annotated[
    str | None, typer.Option(callback=limited, help="a member's flattrs; limited by --creator or --thing")
]
Creator = Annotated[str | None, typer.Option(callback=limited, help="a creator's flattrs; limited by --member")]
Thing = Annotated[
    str | None, typer.Option(callback=limited, help="with --member: one flattr, by the thing's id from a receipt")
]
Site = Annotated[str | None, typer.Option(callback=limited, help="a site's flattrs")]
Reason = Annotated[str, typer.Option(help="reason for the log")]
By = Annotated[str, typer.Option(envvar="FLATTR_OPERATOR", help="who takes this step; default: your user name")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    quarantine = typer.Typer(help="Exclude flattrs from counts and payouts until released.", no_args_is_help=True)
    for command in (scan, flag, release):
        quarantine.command(command.__name__)(command)
    quarantine.command("list")(list_flags)
    quarantine.command("log")(show_log)
    app.add_typer(quarantine, name="quarantine")


def scan(
    month: Annotated[str, typer.Argument(help="YYYY-MM; default: this month and the last", metavar="[YYYY-MM]")] = "",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what the rules find")] = False,
    every: Annotated[
        float | None, typer.Option(min=1, max=86_400, help="repeat at this interval, in s, until stopped")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, envvar="FLATTR_QUARANTINE_PORT", help="with --every: port for /metrics"),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            envvar="FLATTR_QUARANTINE_HOST", callback=listening_host, help="with --port: address to listen on"
        ),
    ] = "127.0.0.1",
    by: By = "",
) -> None:
    """Flag what the rules find in open months, and newer flattrs of subjects that are already flagged."""
    import time

    from deploy.cli.quarantine_metrics import QuarantineMetrics

    metrics = QuarantineMetrics()
    if every is not None and port is not None:
        metrics.serve(host, port)
    while True:
        for number in _open_months(month):
            if dry_run:
                _find(number)
            else:
                _scan(number, _who(by), metrics, patient=every is not None)
        if every is None:
            return
        time.sleep(every)


def _open_months(month: str) -> list[int]:
    """The given month, or else those of last and this month that are not closed."""
    from ingest.contract.month import month_before, month_of
    from warehouse.payout.close import proof
    from warehouse.payout.close.months import parse_month

    if month:
        return [parse_month(month)]
    now = month_of(clock()())
    return [number for number in (month_before(now), now) if proof.stored(warehouse(), number) is None]


def _find(month: int) -> None:
    from ingest.contract.month import month_text
    from warehouse.quarantine import scan as rules
    from warehouse.quarantine.settings import QuarantineSettings
    from warehouse.storage.archived import refuse_archived

    refuse_archived(warehouse(), month)
    found = rules.find(warehouse(), month, QuarantineSettings())
    for finding in found:
        typer.echo(f"{finding.rule}: {finding.subject}: {finding.reason}")
    typer.echo(f"{len(found)} findings in {month_text(month)}, nothing flagged (dry run)")


def _scan(month: int, by: str, metrics: QuarantineMetrics, *, patient: bool) -> None:
    """Scan one month once. A ``patient`` scan skips a month that is being closed until its next turn."""
    from ingest.contract.month import month_text
    from warehouse.payout.errors import MonthLocked
    from warehouse.quarantine import desk
    from warehouse.quarantine.settings import QuarantineSettings

    try:
        done = desk.scan(warehouse(), month, QuarantineSettings(), by=by, clock=clock())
    except MonthLocked as error:
        if not patient:
            raise
        typer.echo(str(error))
        return
    metrics.show(warehouse(), month, done.flattrs)
    typer.echo(f"{len(done.steps)} newly flagged in {month_text(month)}; {done.flattrs} flattrs are in quarantine")


def flag(
    month: Month,
    reason: Reason,
    member: Member = None,
    creator: Creator = None,
    thing: Thing = None,
    site: Site = None,
    by: By = "",
    *,
    unseen: Annotated[bool, typer.Option("--unseen", help="flag a name that has no flattr yet")] = False,
) -> None:
    """Quarantine a member, creator, site or flattr; in a closed month, take back what they earned."""
    from warehouse.payout.close.months import parse_month
    from warehouse.quarantine import desk

    subject = _subject(member, creator, thing, site)
    done = desk.flag(warehouse(), parse_month(month), subject, reason=reason, by=_who(by), clock=clock(), unseen=unseen)
    _tell(f"{subject} is flagged", month, done)


def release(
    month: Month,
    reason: Reason,
    member: Member = None,
    creator: Creator = None,
    thing: Thing = None,
    site: Site = None,
    by: By = "",
) -> None:
    """Release a flag; in a closed month, pay what the flattrs would have earned."""
    from warehouse.payout.close.months import parse_month
    from warehouse.quarantine import desk

    subject = _subject(member, creator, thing, site)
    done = desk.release(warehouse(), parse_month(month), subject, reason=reason, by=_who(by), clock=clock())
    _tell(f"{subject} is released", month, done)


def list_flags(month: Month) -> None:
    """List the flags in force."""
    from warehouse.payout.close.months import parse_month
    from warehouse.quarantine.log import in_force, read_steps

    flags = in_force(read_steps(warehouse(), parse_month(month)))
    _table(f"{len(flags)} flags in force in {month}", list(flags.values()))


def show_log(month: Month) -> None:
    """List every step taken, oldest first."""
    from warehouse.payout.close.months import parse_month
    from warehouse.quarantine.log import read_steps

    steps = read_steps(warehouse(), parse_month(month))
    _table(f"{len(steps)} steps in {month}", steps)


def _subject(member: str | None, creator: str | None, thing: str | None, site: str | None) -> Subject:
    from warehouse.quarantine.log import Subject

    return Subject.of(
        member_id=member or "", creator_id=creator or "", thing_id=(thing or "").lower(), site_id=site or ""
    )


def _who(by: str) -> str:
    return by or getpass.getuser()


def _tell(what: str, month: str, done: Outcome) -> None:
    from warehouse.payout.money import as_text

    number = ", ".join(map(str, done.steps))
    if not done.corrections:
        typer.echo(f"{what} in {month} (step {number}); {done.flattrs} flattrs are in quarantine")
        return
    typer.echo(f"{what} in {month} (step {number}), which is closed; these enter the ledger with the next close:")
    for entry in done.corrections:
        creator, gets = (entry.credit[1], True) if entry.credit[1] else (entry.debit[1], False)
        account = entry.debit[0] if gets else entry.credit[0]
        amount = f"{as_text(entry.amount_micro)} {entry.currency}"
        typer.echo(f"  {creator} {'gets' if gets else 'gives back'} {amount}, account {account}, citing {entry.cites}")


def _table(title: str, steps: list[Step]) -> None:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("step", "when (UTC)", "what", "subject", "rule", "reason", "by"):
        table.add_column(column, overflow="fold")
    for step in steps:
        at = datetime.fromtimestamp(step.at_ms / 1000, UTC)
        table.add_row(
            *cells(
                str(step.number),
                f"{at:%Y-%m-%d %H:%M}",
                step.action,
                str(step.subject),
                step.rule,
                step.reason,
                step.by,
            )
        )
    Console(width=None if Console().is_terminal else 160).print(table)
