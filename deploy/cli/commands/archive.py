"""`flattr archive`: sealed months leave the tables for Parquet files, and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from deploy.cli.finance import clock, warehouse

if TYPE_CHECKING:
    from warehouse.archive.notes import Note

_MB: Final = 1e6
To = Annotated[str, typer.Option(help="a folder of this machine, or s3:https://HOST/BUCKET/FOLDER")]
Month = Annotated[str, typer.Argument(help="YYYY-MM", metavar="YYYY-MM")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    archive = typer.Typer(help="Move old months into files, and bring them back.", no_args_is_help=True)
    archive.command("month")(month)
    archive.command("older")(older)
    archive.command("restore")(restore)
    archive.command("list")(list_months)
    app.add_typer(archive, name="archive")


def month(month: Month, to: To) -> None:
    """Write a sealed month's flattrs and counts to files, read them back, and drop them from the tables."""
    from warehouse.archive.archive import archive
    from warehouse.payout.close.months import parse_month
    from warehouse.storage.settings import BackupSettings

    done = archive(warehouse(), parse_month(month), to, BackupSettings(), step_done=_say)
    typer.echo(_line(done))


def older(
    to: To,
    months: Annotated[int, typer.Option(min=1, help="how many months before this one stay")] = 13,
) -> None:
    """Do the same with every sealed month that is older, oldest first. For once a month, by cron."""
    from warehouse.archive.archive import archive, due
    from warehouse.storage.settings import BackupSettings

    database = warehouse()
    numbers = due(database, clock()(), months)
    for number in numbers:
        typer.echo(_line(archive(database, number, to, BackupSettings(), step_done=_say)))
    if not numbers:
        typer.echo(f"no sealed month is older than {months} months and still in the tables")


def restore(
    month: Month,
    source: Annotated[str, typer.Option("--from", help="where its folder is now; by default where it went")] = "",
) -> None:
    """Bring an archived month back into the tables, and verify it."""
    from warehouse.archive.archive import restore as bring
    from warehouse.payout.close.months import parse_month
    from warehouse.storage.settings import BackupSettings

    done = bring(warehouse(), parse_month(month), BackupSettings(), source=source, step_done=_say)
    typer.echo(f"{_line(done)}; every line and hash agrees with its seal")


def list_months() -> None:
    """List the months that were ever archived, how they stand, and where their files are."""
    from warehouse.archive.notes import notes

    for note in notes(warehouse()).values():
        typer.echo(_line(note))


def _say(step: str) -> None:
    typer.echo(f"  {step}", err=True)


def _line(note: Note) -> str:
    from ingest.contract.month import month_text

    size = f", {note.bytes / _MB:,.1f} MB" if note.bytes else ""
    return f"{month_text(note.month)}   {note.state} since {note.at:%Y-%m-%d %H:%M:%S} UTC   {note.place}{size}"
