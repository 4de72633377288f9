"""`flattr topics`: the Kafka topics."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

_Clicks = Annotated[str, typer.Option(envvar="FLATTR_TOPIC_CLICKS")]
_Rejected = Annotated[str, typer.Option(envvar="FLATTR_TOPIC_REJECTED")]
_Group = Annotated[str, typer.Option(envvar="FLATTR_STREAMS_GROUP", help="consumer group of the stream workers")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
    topics.command("create")(create)
    topics.command("allow")(allow)
    app.add_typer(topics, name="topics")


def create(
    broker: Annotated[str, typer.Option(envvar="FLATTR_BROKER")] = "127.0.0.1:9092",
    partitions: Annotated[int, typer.Option(min=1, help="of the topic of clicks")] = 12,
    replication: Annotated[int, typer.Option(min=1)] = 1,
    clicks: _Clicks = "clicks",
    rejected: _Rejected = "rejected",
    group: _Group = "flattr-streams",
    *,
    rights: Annotated[bool, typer.Option("--rights", help="then do as `topics allow` does")] = False,
) -> None:
    """Create the topics that are missing; check the others and bound their records' stamps as planned."""
    from deploy.provision.topics import TopicPlan, bring_to_plan, create_topics, rejected_plan
    from ingest.runtime.kafka_settings import BrokerSettings, client_security

    plans = [
        TopicPlan(clicks, partitions, replication),
        rejected_plan(rejected, replication),
    ]
    client = client_security(BrokerSettings())
    made = asyncio.run(create_topics(broker, plans, client))
    changed = asyncio.run(bring_to_plan(broker, [plan for plan in plans if plan.name not in made], client))
    for plan in plans:
        typer.echo(f"{plan.name}: {plan.partitions} partitions, {'created' if plan.name in made else 'was there'}")
    for change in changed:
        typer.echo(f"{change.topic}: {change.setting} was {change.before}, is {change.after}")
    if rights:
        allow(broker, clicks, rejected, group)


def allow(
    broker: Annotated[str, typer.Option(envvar="FLATTR_BROKER")] = "127.0.0.1:9092",
    clicks: _Clicks = "clicks",
    rejected: _Rejected = "rejected",
    group: _Group = "flattr-streams",
) -> None:
    """Allow each service's user of Kafka its work and nothing else. Wants a super user; twice does no harm."""
    from deploy.provision import acl
    from ingest.runtime.kafka_settings import BrokerSettings, client_security

    granted = acl.rights(clicks, rejected, group)
    asyncio.run(acl.allow(broker, granted, client_security(BrokerSettings())))
    for right in granted:
        typer.echo(f"{right.user} may {right.operation.lower()} {right.name}")
