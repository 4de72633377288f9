"""Whether each service is ready, and what it says if not: for operators."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from warehouse.api import auth, service_health
from warehouse.api.problems import RESPONSES, Problem
from warehouse.api.query_runner import QueryRunner, Runner
from warehouse.api.routes.health import ping
from warehouse.api.service_health import ServiceHealth
from warehouse.keys import Role
from warehouse.storage.errors import WarehouseError

_TIMEOUT_S: Final = 2

router = APIRouter(prefix="/v1", tags=["health"], responses={**RESPONSES, **auth.RESPONSES})


class ServiceBody(BaseModel):
    """One service."""

    name: str
    ready: bool
    said: str = Field(description="what its /ready says, or why there is no answer")


class Services(BaseModel):
    """All that FLATTR_API_PARTS names, and the warehouse."""

    services: list[ServiceBody]


@router.get("/services", summary="Why a service is not ready", dependencies=[auth.needs(Role.OPERATOR)])
async def services(reads: Runner) -> Services:
    """Each is asked now. Answers while the warehouse does not."""
    others = (asyncio.to_thread(service_health.ask, *item) for item in _addresses(reads))
    found = await asyncio.gather(*others, _warehouse(reads))
    return Services(services=[ServiceBody(name=one.name, ready=one.ready, said=one.said) for one in found])


def _addresses(reads: QueryRunner) -> list[tuple[str, str]]:
    return [(name, str(url)) for name, url in reads.settings.api_parts.items()]


async def _warehouse(reads: QueryRunner) -> ServiceHealth:
    asked = asyncio.ensure_future(reads.share(ping))
    # An answer that comes too late is nobody's.
    asked.add_done_callback(lambda late: late.cancelled() or late.exception())
    try:
        # Shielded, because whoever asks /ready meanwhile waits for the same answer.
        await asyncio.wait_for(asyncio.shield(asked), _TIMEOUT_S)
    except TimeoutError:
        return ServiceHealth("warehouse", ready=False, said=f"no answer within {_TIMEOUT_S} s")
    except (WarehouseError, Problem) as error:
        return ServiceHealth("warehouse", ready=False, said=str(error))
    return ServiceHealth("warehouse", ready=True, said="ready")
