"""`flattr verify`: check that acknowledged = in the log = distinct = live = payout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from warehouse.counts.equations import Equation


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    *,
    answers: Annotated[Path | None, typer.Option(help="also check the answers recorded in this folder")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    every: Annotated[float | None, typer.Option(min=1, help="repeat at this interval, in s, until stopped")] = None,
    port: Annotated[int | None, typer.Option(help="with --every: port for /metrics")] = None,
) -> None:
    """Compare log, tallies, rows, counts and payouts as of one moment. Read-only; fails if they differ."""
    import json
    import time

    from deploy.errors import CommandFailed
    from warehouse.counts.equations import shown

    gauges = _serve(port) if port is not None else None
    while True:
        checks = _checks(answers)
        wrong = [check for check in checks if not check.holds]
        if gauges is not None:
            gauges(checks)
        if as_json:
            typer.echo(json.dumps(shown(checks)))
        else:
            for check in checks:
                sides = f"{check.left:,} = {check.right:,}" if check.holds else f"{check.left:,} is not {check.right:,}"
                typer.echo(f"{'ok   ' if check.holds else 'WRONG'}  {check.name}: {sides} {check.detail}".rstrip())
        if every is None:
            break
        time.sleep(every)
    if wrong:
        raise CommandFailed(f"{len(wrong)} of {len(checks)} equations do not hold; see docs/runbooks.md")


def _checks(answers: Path | None) -> list[Equation]:
    import asyncio
    import contextlib

    from deploy.cli.promises import check_answers
    from ingest.runtime.kafka_settings import client_security
    from streams.app import partitions_of
    from streams.settings import StreamsSettings
    from warehouse.counts.equations import KafkaLog, check_log, check_warehouse, read_reached
    from warehouse.storage.client import Warehouse

    settings = StreamsSettings()
    partitions = asyncio.run(partitions_of(settings))
    with contextlib.closing(Warehouse(settings.warehouse_url)) as warehouse:
        reached = read_reached(warehouse, partitions, settings.log_epoch)
        checks = check_warehouse(warehouse, reached)
        checks += asyncio.run(
            check_log(warehouse, reached, KafkaLog(settings.broker, settings.topic_clicks, client_security(settings)))
        )
        if answers is not None:
            checks.append(check_answers(warehouse, reached, answers))
    return checks


def _serve(port: int) -> Callable[[Sequence[Equation]], None]:
    """Serve gauges: how many equations were compared, how many do not hold, and when."""
    from prometheus_client import CollectorRegistry, Gauge, start_http_server

    registry = CollectorRegistry()
    asked = Gauge("flattr_verify_equations", "Equations in the last comparison.", registry=registry)
    wrong = Gauge("flattr_verify_wrong", "Equations that did not hold in the last comparison.", registry=registry)
    at = Gauge("flattr_verify_last_timestamp_seconds", "Time of the last comparison.", registry=registry)
    start_http_server(port, addr="127.0.0.1", registry=registry)

    def show(checks: Sequence[Equation]) -> None:
        asked.set(len(checks))
        wrong.set(sum(not check.holds for check in checks))
        at.set_to_current_time()

    return show
