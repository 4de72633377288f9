"""Health and metrics, for monitoring."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from warehouse.api.problems import RESPONSES, Problem, ReadReason, unavailable
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.routes.live import TheBoard
from warehouse.payout import month_status
from warehouse.payout.close.months import cutoff_ms
from warehouse.storage.backup import backed_up_ms
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError, WarehouseRefused

router = APIRouter(tags=["health"])
#: A warehouse that hangs must not make this service look dead: a probe waits three seconds, Prometheus five.
_WAREHOUSE_S: Final = 2


def ping(warehouse: Warehouse) -> None:
    """Read a table of the schema, because a server that answers but was never migrated is not ready."""
    warehouse.rows("SELECT 1 FROM log_ends LIMIT 1")


@router.get("/live", summary="The process is running")
async def live() -> dict[str, str]:
    """Depends on nothing else: if another service is down, restarting this one does not help."""
    return {"status": "live"}


@router.get("/ready", summary="The warehouse answers", responses={503: RESPONSES[503]})
async def ready(reads: Runner) -> dict[str, str]:
    """200 if queries can be answered, otherwise 503."""
    try:
        async with asyncio.timeout(_WAREHOUSE_S):
            await reads.share(ping)
    except TimeoutError:
        raise unavailable(
            ReadReason.WAREHOUSE_UNAVAILABLE, f"the warehouse has not answered within {_WAREHOUSE_S} s"
        ) from None
    except WarehouseRefused:
        raise unavailable(
            ReadReason.SCHEMA_MISSING, "the warehouse has no schema: run `flattr warehouse migrate`"
        ) from None
    return {"status": "ready"}


async def look_at_pipeline(reads: QueryRunner) -> None:
    """Set the pipeline's metrics. Raises ``WarehouseError``, or ``Problem`` if too many queries wait."""
    lag, known = await reads.keep_whole(month_status.months)
    for part in lag.partitions:
        label = str(part.partition)
        reads.metrics.lag_records.labels(label).set(math.nan if part.records is None else part.records)
        seconds = lag.seconds_of(part)
        reads.metrics.lag_seconds.labels(label).set(math.nan if seconds is None else seconds)
    rules, now_ms = reads.rules, reads.clock()
    due_ms = [cutoff_ms(month, rules.grace_s) + rules.close_settle_s * 1000 for month, closed in known if not closed]
    reads.metrics.close_overdue_seconds.set(max((now_ms - due for due in due_ms if due < now_ms), default=0) / 1000)
    reads.metrics.backed_up_at.set(await reads.share(backed_up_ms) / 1000)


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(reads: Runner, board: TheBoard) -> Response:
    """In the text format. While the warehouse does not answer, the pipeline's metrics keep their last values."""
    reads.metrics.listeners.set(board.listeners)
    with contextlib.suppress(WarehouseError, Problem, TimeoutError):
        async with asyncio.timeout(_WAREHOUSE_S):
            await look_at_pipeline(reads)
    return Response(generate_latest(reads.metrics.registry), media_type=CONTENT_TYPE_LATEST)
