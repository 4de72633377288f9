"""`flattr topics`: the Kafka topics."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
    topics.command("create")(create)
    app.add_typer(topics, name="topics")


def create(
    broker: Annotated[str, typer.Option(envvar="FLATTR_BROKER")] = "127.0.0.1:9092",
    partitions: Annotated[int, typer.Option(min=1, help="of the topic of clicks")] = 12,
    replication: Annotated[int, typer.Option(min=1)] = 1,
    clicks: Annotated[str, typer.Option(envvar="FLATTR_TOPIC_CLICKS")] = "clicks",
    rejected: Annotated[str, typer.Option(envvar="FLATTR_TOPIC_REJECTED")] = "rejected",
) -> None:
    """Create the topics that are missing; check the others."""
    from deploy.topics import TopicPlan, create_topics
    from warehouse.kafka import client_options
    from warehouse.payout.log_ends import LogSettings

    plans = [
        TopicPlan(clicks, partitions, replication),
        TopicPlan(rejected, 1, replication),
    ]
    made = asyncio.run(create_topics(broker, plans, client_options(LogSettings())))
    for plan in plans:
        typer.echo(f"{plan.name}: {plan.partitions} partitions, {'created' if plan.name in made else 'was there'}")
