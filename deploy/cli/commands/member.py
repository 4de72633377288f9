"""`flattr member erase`: take a member out of everything that is open."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.provision.topics import DAY_MS, TopicPlan


def register(app: typer.Typer) -> None:
    """Add the commands."""
    member = typer.Typer(help="What there is of a member, and its erasure.", no_args_is_help=True)
    member.callback()(_group)
    member.command("erase")(erase)
    app.add_typer(member, name="member")


def _group() -> None:
    """Commands about one member."""


def erase(
    member_id: str,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what there is and what would become of it")] = False,
    log_days: Annotated[
        int, typer.Option(min=1, help="how long the topics keep a record (retention.ms), in days")
    ] = TopicPlan("", 1).retention_ms // DAY_MS,
) -> None:
    """Erase a member: a pseudonym in the open months, no name in what is not paid; closed months stay as sealed.

    Safe to repeat, and to be repeated when it was interrupted. docs/erasure.md says what is left where, and why.
    """
    import asyncio

    from deploy.cli.finance import warehouse
    from ingest.contract.month import month_text
    from streams.app import partitions_of
    from streams.settings import StreamsSettings
    from warehouse.erasure.erase import erase as erase_member
    from warehouse.erasure.erase import find

    if dry_run:
        found = find(warehouse(), member_id)
        for one in found:
            typer.echo(f"{one.table:<17} {month_text(one.month)} {one.rows:>9} rows  {one.fate}")
        typer.echo(f"{sum(one.rows for one in found if one.fate == 'goes')} rows would go; nothing was changed")
        return
    settings = StreamsSettings()
    partitions = asyncio.run(partitions_of(settings, settings.topic_clicks))

    def say(step: str, rows: int) -> None:
        typer.echo(f"  {step}: {rows}")

    done = erase_member(warehouse(), member_id, partitions, log_days=log_days, step_done=say)
    typer.echo(f"erased: {done.id}, proof {done.proof}")
    typer.echo(
        f"Kafka's log forgets the member's clicks within {log_days} days; docs/erasure.md says what else is left."
    )
