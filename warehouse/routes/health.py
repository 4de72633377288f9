"""Health and metrics, for whatever watches the service."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from warehouse.client import Warehouse
from warehouse.errors import WarehouseRefused
from warehouse.problems import RESPONSES, ReadReason, unavailable
from warehouse.reads import Here

router = APIRouter(tags=["health"])


def ping(warehouse: Warehouse) -> None:
    """Ask for a table of the schema: a server that answers but was never migrated is not ready."""
    warehouse.rows("SELECT 1 FROM log_ends LIMIT 1")


@router.get("/live", summary="The process runs")
async def live() -> dict[str, str]:
    """Touches nothing: a part that is away is no reason to restart this one."""
    return {"status": "live"}


@router.get("/ready", summary="The warehouse answers", responses={503: RESPONSES[503]})
async def ready(reads: Here) -> dict[str, str]:
    """200 when queries can be answered, else 503."""
    try:
        await reads.run(ping)
    except WarehouseRefused:
        raise unavailable(
            ReadReason.SCHEMA_MISSING, "the warehouse was not migrated: run `flattr warehouse migrate`"
        ) from None
    return {"status": "ready"}


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def metrics(reads: Here) -> Response:
    """In the text format."""
    return Response(generate_latest(reads.metrics.registry), media_type=CONTENT_TYPE_LATEST)
