"""`flattr verify`: check that acknowledged = in the log = distinct = live = payout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from deploy.cli.options import listening_host

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
    every: Annotated[
        float | None, typer.Option(min=1, max=86_400, help="repeat at this interval, in s, until stopped")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="with --every: port for /metrics")] = None,
    host: Annotated[str, typer.Option(callback=listening_host, help="with --port: address to listen on")] = "127.0.0.1",
) -> None:
    """Compare log, tallies, rows, counts and payouts as of one moment. Read-only; fails if they differ."""
    from deploy.errors import CommandFailed

    if every is not None:
        _keep_checking(every, answers, as_json=as_json, show=None if port is None else _serve(host, port))
    checks = _checks(answers)
    _tell(checks, as_json=as_json)
    wrong = [check for check in checks if not check.holds]
    if wrong:
        raise CommandFailed(f"{len(wrong)} of {len(checks)} equations do not hold; see docs/runbooks.md")


def _keep_checking(
    every_s: float, answers: Path | None, *, as_json: bool, show: Callable[[Sequence[Equation]], None] | None
) -> NoReturn:
    """Check until stopped. An answer that does not come is said, and asked for again at the next turn."""
    import time

    from aiokafka.errors import KafkaError

    from streams.errors import StreamStopped
    from warehouse.storage.errors import WarehouseError

    while True:
        try:
            checks = _checks(answers)
        except (KafkaError, OSError, StreamStopped, WarehouseError) as error:
            typer.echo(f"the equations could not be checked: {type(error).__name__}: {error}", err=True)
        else:
            if show is not None:
                show(checks)
            _tell(checks, as_json=as_json)
        time.sleep(every_s)


def _tell(checks: Sequence[Equation], *, as_json: bool) -> None:
    import json

    from warehouse.counts.equations import shown

    if as_json:
        typer.echo(json.dumps(shown(checks)))
        return
    for check in checks:
        sides = f"{check.left:,} = {check.right:,}" if check.holds else f"{check.left:,} is not {check.right:,}"
        typer.echo(f"{'ok   ' if check.holds else 'WRONG'}  {check.name}: {sides} {check.detail}".rstrip())


def _checks(answers: Path | None) -> list[Equation]:
    import asyncio
    import contextlib

    from deploy.cli.promises import check_answers
    from ingest.runtime.kafka_settings import client_security
    from streams.app import partitions_of
    from streams.settings import StreamsSettings
    from streams.source.log_partitions import check_log as check_current
    from warehouse.counts.equations import KafkaLog, check_log, check_warehouse, read_reached
    from warehouse.storage.client import Warehouse

    settings = StreamsSettings()
    with contextlib.closing(Warehouse(settings.warehouse_url)) as warehouse:
        check_current(warehouse, settings.log_epoch)
        partitions = asyncio.run(partitions_of(settings))
        reached = read_reached(warehouse, partitions, settings.log_epoch)
        checks = check_warehouse(warehouse, reached)
        checks += asyncio.run(
            check_log(warehouse, reached, KafkaLog(settings.broker, settings.topic_clicks, client_security(settings)))
        )
        if answers is not None:
            checks.append(check_answers(warehouse, reached, answers))
    return checks


def _serve(host: str, port: int) -> Callable[[Sequence[Equation]], None]:
    """Serve gauges: how many equations were compared, how many do not hold, and when."""
    from prometheus_client import CollectorRegistry, Gauge, start_http_server

    registry = CollectorRegistry()
    asked = Gauge("flattr_verify_equations", "Equations in the last comparison.", registry=registry)
    wrong = Gauge("flattr_verify_wrong", "Equations that did not hold in the last comparison.", registry=registry)
    at = Gauge("flattr_verify_last_timestamp_seconds", "Time of the last comparison.", registry=registry)
    start_http_server(port, addr=host, registry=registry)

    def show(checks: Sequence[Equation]) -> None:
        asked.set(len(checks))
        wrong.set(sum(not check.holds for check in checks))
        at.set_to_current_time()

    return show
