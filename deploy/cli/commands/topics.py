"""`flattr topics`: create the Kafka topics and their access rights."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

#: States of a whole month are read and written in one statement.
_WAREHOUSE_TIMEOUT_S = 3600.0
_Clicks = Annotated[str, typer.Option(envvar="FLATTR_TOPIC_CLICKS")]
_Rejected = Annotated[str, typer.Option(envvar="FLATTR_TOPIC_REJECTED")]
_Group = Annotated[str, typer.Option(envvar="FLATTR_STREAMS_GROUP", help="consumer group of the stream workers")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="Kafka topics and access rights.", no_args_is_help=True)
    topics.command("create")(create)
    topics.command("allow")(allow)
    topics.command("grow")(grow)
    app.add_typer(topics, name="topics")


def create(
    broker: Annotated[str, typer.Option(envvar="FLATTR_BROKER")] = "127.0.0.1:9092",
    partitions: Annotated[int, typer.Option(min=1, help="partitions of the clicks topic")] = 12,
    replication: Annotated[int, typer.Option(min=1)] = 1,
    clicks: _Clicks = "clicks",
    rejected: _Rejected = "rejected",
    group: _Group = "flattr-streams",
    *,
    rights: Annotated[bool, typer.Option("--rights", help="then run `topics allow`")] = False,
) -> None:
    """Create missing topics, check existing ones, and set the bounds on their records' timestamps.

    Existing topics get another retention only by FLATTR_TOPIC_CLICKS_DAYS and FLATTR_TOPIC_REJECTED_DAYS.
    """
    from deploy.provision.topic_days import TopicSettings
    from deploy.provision.topics import TopicPlan, bring_to_plan, create_topics, plans_of, rejected_plan
    from ingest.runtime.kafka_settings import BrokerSettings, client_security

    plans = plans_of(TopicSettings(), TopicPlan(clicks, partitions, replication), rejected_plan(rejected, replication))
    client = client_security(BrokerSettings())
    made = asyncio.run(create_topics(broker, plans, client))
    changed = asyncio.run(bring_to_plan(broker, [plan for plan in plans if plan.name not in made], client))
    for plan in plans:
        typer.echo(
            f"{plan.name}: {plan.partitions} partitions, {'created' if plan.name in made else 'already present'}"
        )
    for change in changed:
        typer.echo(f"{change.topic}: {change.setting} changed from {change.before} to {change.after}")
    if rights:
        allow(broker, clicks, rejected, group)


def allow(
    broker: Annotated[str, typer.Option(envvar="FLATTR_BROKER")] = "127.0.0.1:9092",
    clicks: _Clicks = "clicks",
    rejected: _Rejected = "rejected",
    group: _Group = "flattr-streams",
) -> None:
    """Grant each service's Kafka user the rights it needs, and no others. Needs a super user; safe to repeat."""
    from deploy.provision import acl
    from ingest.runtime.kafka_settings import BrokerSettings, client_security

    granted = acl.rights(clicks, rejected, group)
    asyncio.run(acl.allow(broker, granted, client_security(BrokerSettings())))
    for right in granted:
        typer.echo(f"{right.user} may {right.operation.lower()} {right.name}")


def grow(
    partitions: Annotated[
        int, typer.Argument(min=1, help="twice or four times as many as there are", show_default=False)
    ] = 0,
    *,
    to: Annotated[str, typer.Option("--to", help="name of the new topic; default: the old one's, with the epoch")] = "",
    rights: Annotated[bool, typer.Option("--rights", help="also grant the rights on the new topic")] = False,
    wait: Annotated[
        float, typer.Option(min=0, max=86_400, help="how long to wait for streams to catch up, and to stop, in s")
    ] = 600.0,
    again: Annotated[
        bool, typer.Option("--again", help="the log had moved there before an older backup was restored")
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="although a month ends within a day")] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="give up a move that was begun; the old topic opens")
    ] = False,
) -> None:
    """Move the log to a new topic with more partitions. Safe to repeat, also after an interruption.

    Ingest keeps clicks in its spool meanwhile. Needs Apache Kafka, a super user there, and the migrator's warehouse.
    """
    import contextlib

    from deploy.errors import CommandFailed
    from deploy.provision.grow import Growth, Places, Wishes
    from ingest.runtime.clock import clock_from
    from ingest.runtime.kafka_settings import client_security
    from streams.settings import StreamsSettings
    from warehouse.moves.notes import new_settings
    from warehouse.storage.client import Warehouse

    settings = StreamsSettings()
    client = client_security(settings)
    with contextlib.closing(Warehouse(settings.warehouse_url, timeout_s=_WAREHOUSE_TIMEOUT_S)) as warehouse:
        places = Places(
            settings.broker, client, settings.topic_clicks, settings.log_epoch, settings.streams_group, warehouse
        )
        growth = Growth(places, typer.echo)
        if abandon:
            move = growth.abandon()
            typer.echo(f"abandoned; {move.from_topic} takes clicks again. Nothing is in {move.topic}: delete it.")
            return
        if not partitions:
            raise CommandFailed("Say how many partitions the new topic shall have: `flattr topics grow PARTITIONS`.")
        wishes = Wishes(partitions, to, again=again, anyway=anyway, wait_s=wait)
        move = growth.grow(wishes, clock_from(settings.clock), settings.grace_s)
    if rights:
        allow(settings.broker, move.topic, settings.topic_rejected, settings.streams_group)
    typer.echo(f"The log has moved {move}.")
    typer.echo(f"Now {new_settings(move)}; then start them.")
