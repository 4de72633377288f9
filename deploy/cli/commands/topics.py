"""`flattr topics`: create the Kafka topics and their access rights."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

_Clicks = Annotated[str, typer.Option(envvar="FLATTR_TOPIC_CLICKS")]
_Rejected = Annotated[str, typer.Option(envvar="FLATTR_TOPIC_REJECTED")]
_Group = Annotated[str, typer.Option(envvar="FLATTR_STREAMS_GROUP", help="consumer group of the stream workers")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="Kafka topics and access rights.", no_args_is_help=True)
    topics.command("create")(create)
    topics.command("allow")(allow)
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
    from deploy.provision.topics import TopicPlan, TopicSettings, bring_to_plan, create_topics, plans_of, rejected_plan
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
