"""Button counters: the numbers beside the buttons on sites. Public."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, Field, TypeAdapter
from starlette.datastructures import QueryParams

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from ingest.contract.thing import THING_ID, THING_LENGTH_MAX, plain
from ingest.runtime.aliases import thing_id
from warehouse.api.conditional import revalidated, weak_etag
from warehouse.api.counter_cache import Asked
from warehouse.api.problems import RESPONSES, Problem, ReadReason
from warehouse.api.query_runner import NO_MONTH, QueryRunner, Runner
from warehouse.api.routes.public import PREFLIGHT, cacheable
from warehouse.api.shapes import AsOf, QueryMonth, month_or_current

router = APIRouter(prefix="/v1", tags=["counters"], responses=RESPONSES)

THINGS_MAX: Final = 100


class Counters(AsOf):
    """Counters by thing id."""

    month: str = Field(examples=["2026-11"])
    counters: dict[str, int] = Field(examples=[{"9f86d081884c7d659a2feaa0c55ad015": 17}])


def parse_things(text: str) -> list[str]:
    """Thing ids from a comma-separated list, deduplicated and sorted. Raises ``Problem`` 422."""
    thing_ids = sorted(set(text.split(",")))
    if len(thing_ids) > THINGS_MAX:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.TOO_MANY,
            f"{len(thing_ids)} things; at most {THINGS_MAX} per call",
        )
    wrong = next((thing_id for thing_id in thing_ids if not THING_ID.fullmatch(thing_id)), None)
    if wrong is not None:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.PARAMETER_INVALID,
            f"{wrong[:40]!r} is not 32 hexadecimal digits",
        )
    return thing_ids


def named_things(reads: QueryRunner, creator_id: str | None, addresses: list[str], month: int) -> list[str]:
    """The ids of a creator's things by address, with the aliases of that month. Raises ``Problem`` 422."""
    if creator_id is None or not addresses:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.PARAMETER_INVALID,
            "give things=ID,ID or creator=ID&thing=ADDRESS",
        )
    if len(addresses) > THINGS_MAX:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ReadReason.TOO_MANY,
            f"{len(addresses)} things; at most {THINGS_MAX} per call",
        )
    try:
        table = reads.aliases.look().in_month(month)
        return list(dict.fromkeys(thing_id(creator_id, plain(address), table) for address in addresses))
    except ValueError as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.PARAMETER_INVALID, f"thing is not an address or id: {error}"
        ) from None


Things = Annotated[
    str | None,
    Query(
        description=f"thing ids, comma-separated, at most {THINGS_MAX}", examples=["9f86d081884c7d659a2feaa0c55ad015"]
    ),
]
Creator = Annotated[
    Annotated[str, AfterValidator(lambda sent: identifier("creator_id", sent))] | None,
    Query(description="the creator of the things; use with thing, instead of things"),
]
Addresses = Annotated[
    list[Annotated[str, Field(max_length=THING_LENGTH_MAX)]],
    Query(alias="thing", description="with creator: an address, as in a click; may be repeated"),
]


@router.get(
    "/counters",
    summary="Counters of up to 100 things",
    response_model=Counters,
    responses={304: {"description": "Unchanged since the ETag in If-None-Match."}},
)
async def counters(  # noqa: PLR0913, PLR0917 - one parameter each of the address
    request: Request,
    reads: Runner,
    month: QueryMonth,
    things: Things = None,
    creator: Creator = None,
    thing: Addresses = [],  # noqa: B006 - FastAPI copies it
) -> Response:
    """By id; or by creator and address, in the given order. Open to every origin, cacheable (`ETag`, `Cache-Control`).

    0 for things that nobody flattred, and for months without data.
    """
    thing_ids = named_things(reads, creator, thing, month) if things is None else parse_things(things)
    counted = await answer(reads, (month, tuple(thing_ids)), reads.address_of(request.scope))
    return revalidated(counted, request.headers)


_CREATOR: Final = TypeAdapter[str | None](Creator)
_ADDRESSES: Final = TypeAdapter[list[str]](Addresses)


def understand(reads: QueryRunner, query: bytes) -> Asked | None:
    """Parse a query string into its normalised meaning; None if the route would refuse it."""
    given = QueryParams(query)
    things = given.get("things")
    try:
        month = month_or_current(reads, given.get("month"))
        creator_id = _CREATOR.validate_python(given.get("creator"))
        addresses = _ADDRESSES.validate_python(given.getlist("thing"))
        thing_ids = named_things(reads, creator_id, addresses, month) if things is None else parse_things(things)
    except (Problem, ValueError):
        return None
    # None instead of the current month, because the cached result may be used after the month has changed.
    return month if "month" in given else None, tuple(thing_ids)


async def answer(reads: QueryRunner, asked: Asked, address: str) -> Response:
    """Answer a request for counters; ``address`` is the client's, for its share of the queue."""
    month, thing_ids = asked
    if month is None:
        month = month_or_current(reads, None)
    if await reads.asked_of(month) == NO_MONTH:
        lag, counts = await reads.lag(), dict.fromkeys(thing_ids, 0)
    else:
        found = await reads.counters.get(month, thing_ids, address)
        # The oldest lag applies to the whole answer.
        lag = min((counted.lag for counted in found.values()), key=lambda lag: lag.now_ms)
        counts = {thing_id: found[thing_id].count.flattrs for thing_id in thing_ids}
    body: dict[str, Any] = {
        "month": month_text(month), "counters": counts, **AsOf.plain(replace(lag, now_ms=reads.clock()))
    }  # fmt: skip
    return cacheable(body, weak_etag((month, counts)), reads.settings.api_counters_max_age_s)


@router.options("/counters", include_in_schema=False)
async def preflight() -> Response:
    """CORS preflight, for clients that send further headers."""
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=PREFLIGHT)
