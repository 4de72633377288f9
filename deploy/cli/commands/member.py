"""`flattr member erase`: erase a member from everything that is open."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    member = typer.Typer(help="A member's data, and their erasure.", no_args_is_help=True)
    member.callback()(_group)
    member.command("erase")(erase)
    app.add_typer(member, name="member")


def _group() -> None:
    """Commands about one member."""


def erase(
    member_id: str,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="list the member's data and what would happen to them")
    ] = False,
    log_days: Annotated[
        int | None,
        typer.Option(min=1, help="days for which Kafka retains clicks; default: what the broker says of the topic"),
    ] = None,
) -> None:
    """Erase a member: open months get a pseudonym, unpaid entries lose the name; closed months stay as sealed.

    Safe to repeat, also after an interruption. docs/erasure.md says what remains where, and why.
    """
    import asyncio

    from deploy.cli.finance import warehouse
    from deploy.errors import CommandFailed
    from deploy.provision.topic_days import TopicSettings
    from deploy.provision.topics import retention_days
    from ingest.contract.month import month_text
    from ingest.runtime.kafka_settings import client_security
    from streams.app import partitions_of
    from streams.settings import StreamsSettings
    from streams.source.log_partitions import check_log
    from warehouse.erasure.erase import erase as erase_member
    from warehouse.erasure.erase import find
    from warehouse.storage.archived import archived_months

    if dry_run:
        found = find(warehouse(), member_id)
        for entry in found:
            month = month_text(entry.month) if entry.month else "always"
            typer.echo(f"{entry.table:<17} {month:<7} {entry.rows:>9} rows  {entry.fate}")
        rows = sum(entry.rows for entry in found if entry.fate == "goes")
        typer.echo(f"{rows} rows would be removed; nothing was changed")
        for archived in sorted(archived_months(warehouse())):
            typer.echo(f"{month_text(archived)} is archived and was not looked at: docs/erasure.md")
        return
    settings = StreamsSettings()
    if log_days is None:
        log_days = asyncio.run(retention_days(settings.broker, settings.topic_clicks, client_security(settings)))
    if log_days is None:
        log_days = TopicSettings().topic_clicks_days
    if not log_days:
        raise CommandFailed(
            f"Kafka keeps the topic {settings.topic_clicks!r} for ever, and the member's clicks in it: bound it with "
            "FLATTR_TOPIC_CLICKS_DAYS and `flattr topics create`, or say with --log-days when they will be deleted."
        )
    check_log(warehouse(), settings.log_epoch)
    partitions = asyncio.run(partitions_of(settings))

    def say(step: str, rows: int) -> None:
        typer.echo(f"  {step}: {rows}")

    done = erase_member(warehouse(), member_id, partitions, log_days=log_days, step_done=say)
    typer.echo(f"erased: {done.id}, proof {done.proof}")
    typer.echo(f"Kafka deletes the member's clicks within {log_days} days; docs/erasure.md says what else remains.")
