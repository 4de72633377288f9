"""`flattr backup` and `flattr restore`: copies of the whole warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from deploy.cli.finance import warehouse

if TYPE_CHECKING:
    from warehouse.storage.backup import Backup, Stages

_MB: Final = 1e6


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def stages() -> Stages:
    """What streams write in an order: a backup copies it against that order, labels with all the rest."""
    from streams.sink.flush_rows import STEPS

    return tuple(reversed(STEPS))[:-1]


def backup(
    name: Annotated[str, typer.Argument(help="default: the time, such as 20261127T013000Z")] = "",
    *,
    known: Annotated[bool, typer.Option("--list", help="only list the backups that the warehouse knows of")] = False,
) -> None:
    """Copy the whole warehouse to FLATTR_BACKUP_TO, while everything runs. For once a day, and after every close."""
    from datetime import UTC, datetime

    from warehouse.payout.close.lock import CLOSE, locked
    from warehouse.storage.backup import back_up, backups
    from warehouse.storage.backup_target import Target
    from warehouse.storage.settings import BackupSettings

    if known:
        listed = backups(warehouse())
        for one in listed:
            typer.echo(_line(one))
        if not listed:
            typer.echo("The warehouse knows of no backup.", err=True)
        return
    target = Target.of(BackupSettings())
    name = name or f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with locked(warehouse(), CLOSE) as held:
        made = back_up(held, target, name, stages(), after=lambda part: typer.echo(f"copied {part}", err=True))
    typer.echo(f"{_line(made)}   in {target}")


def restore(name: Annotated[str, typer.Argument(help="the backup's name")]) -> None:
    """Bring a backup into an empty database, and verify every closed month. Then start the services: they count on.

    A backup of one server also comes into a cluster.
    """
    from deploy.errors import CommandFailed
    from ingest.contract.month import month_text
    from warehouse.payout.audit.verify import verify_month
    from warehouse.payout.closed_months import sealed_months
    from warehouse.storage.archived import archived_months
    from warehouse.storage.backup_target import Target
    from warehouse.storage.migrate import migrate
    from warehouse.storage.restore import restore as bring
    from warehouse.storage.settings import BackupSettings

    database = warehouse()
    made = bring(
        database,
        Target.of(BackupSettings()),
        name,
        stages(),
        after=lambda part: typer.echo(f"restored {part}", err=True),
    )
    for migration in migrate(database):
        typer.echo(f"applied {migration.name}")
    typer.echo(_line(made))
    wrong = 0
    archived = archived_months(database)
    for month in sealed_months(database):
        if month in archived:
            typer.echo(f"{month_text(month)}: archived; `flattr archive restore` brings it back and verifies it")
            continue
        findings = verify_month(database, month)
        typer.echo(f"{month_text(month)}: {'sealed, and every line agrees' if findings.clean else 'DIFFERS'}")
        for problem in findings.problems:
            typer.echo(f"  {problem}")
        wrong += not findings.clean
    if wrong:
        raise CommandFailed(
            f"{wrong} closed months are not as they were sealed: export nothing, keep it, try an older one."
        )
    typer.echo("Start the services now: streams count again what the log has beyond the backup.")


def _line(backup: Backup) -> str:
    from datetime import UTC, datetime

    begun = datetime.fromtimestamp(backup.begun_ms / 1000, UTC)
    took_s = (backup.finished_ms - backup.begun_ms) / 1000
    return (
        f"{backup.name}   of {begun:%Y-%m-%d %H:%M:%S} UTC, {backup.bytes / _MB:,.1f} MB in {took_s:.1f} s, "
        f"{len(backup.positions)} partitions, migration {backup.migration:04}"
    )
