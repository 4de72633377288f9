"""Button counters: the numbers beside the buttons on sites. Public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, Field, TypeAdapter
from starlette.datastructures import QueryParams

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from ingest.contract.thing import THING_ID, THING_LENGTH_MAX, plain
from ingest.runtime.aliases import AliasTable, thing_id
from warehouse.api.conditional import cacheable, revalidated, weak_etag
from warehouse.api.counter_cache import Asked
from warehouse.api.parameters import names_of
from warehouse.api.problems import RESPONSES, Problem, ReadReason
from warehouse.api.query_runner import NO_MONTH, QueryRunner, Runner
from warehouse.api.shapes import AsOf, QueryMonth, month_or_current

router = APIRouter(prefix="/v1", tags=["counters"], responses=RESPONSES)

T = TypeVar("T")
THINGS_MAX: Final = 100


class Counters(AsOf):
    """Counters by thing id."""

    month: str = Field(examples=["2026-11"])
    counters: dict[str, int] = Field(examples=[{"9f86d081884c7d659a2feaa0c55ad015": 17}])
    things: list[str] | None = Field(
        default=None,
        description="if asked by address: the thing id of each address, in the order given, repeated ones included",
        examples=[["9f86d081884c7d659a2feaa0c55ad015"]],
    )


def parse_things(text: str) -> tuple[str, ...]:
    """Thing ids from a comma-separated list, deduplicated and sorted. Raises ``Problem`` 422."""
    thing_ids = tuple(sorted(set(text.split(","))))
    _check_number(len(thing_ids))
    wrong = next((thing_id for thing_id in thing_ids if not THING_ID.fullmatch(thing_id)), None)
    if wrong is not None:
        raise _invalid(f"{wrong[:40]!r} is not 32 hexadecimal digits")
    return thing_ids


def named_things(
    reads: QueryRunner,
    creators: Sequence[str],
    addresses: Sequence[str],
    month: int,
    name: Callable[[str, str, AliasTable], T],
) -> tuple[T, ...]:
    """What ``name`` calls each address, in order, with the aliases of that month. Raises ``Problem`` 422.

    ``creators`` has the creator of all addresses, or one for each.
    """
    if not creators or not addresses:
        raise _invalid("give things=ID,ID or creator=ID&thing=ADDRESS")
    _check_number(len(addresses))
    if len(creators) not in {1, len(addresses)}:
        raise _invalid(
            f"{len(creators)} creators for {len(addresses)} things: give one creator for all, or one for each"
        )
    owners = creators if len(creators) == len(addresses) else [creators[0]] * len(addresses)
    try:
        table = reads.aliases.look().in_month(month)
        return tuple(name(owner, plain(address), table) for owner, address in zip(owners, addresses, strict=True))
    except ValueError as error:
        raise _invalid(f"thing is not an address or id: {error}") from None


def _check_number(things: int) -> None:
    if things > THINGS_MAX:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.TOO_MANY, f"{things} things; at most {THINGS_MAX} per call"
        )


def _invalid(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ReadReason.PARAMETER_INVALID, detail)


def asked_for(
    reads: QueryRunner, month: int, things: str | None, creators: Sequence[str], addresses: Sequence[str]
) -> Asked:
    """What a request names, by ids or else by addresses. Raises ``Problem`` 422."""
    if things is not None:
        return Asked(month, parse_things(things), by_address=False)
    return Asked(month, named_things(reads, creators, addresses, month, thing_id), by_address=True)


Things = Annotated[
    str | None,
    Query(
        description=f"thing ids, comma-separated, at most {THINGS_MAX}", examples=["9f86d081884c7d659a2feaa0c55ad015"]
    ),
]
Creators = Annotated[
    list[Annotated[str, AfterValidator(lambda sent: identifier("creator_id", sent))]],
    Query(alias="creator", description="the creator of all things, or repeated, the creator of each; with thing"),
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
    creators: Creators = [],  # noqa: B006 - FastAPI copies it
    addresses: Addresses = [],  # noqa: B006 - as above
) -> Response:
    """By id; or by creator and address, of one creator or several. Open to every origin, cacheable (`ETag`).

    0 for things that nobody flattred, and for months without data.
    """
    asked = asked_for(reads, month, things, creators, addresses)
    counted = await answer(reads, asked, reads.address_of(request.scope))
    return revalidated(counted, request.headers)


_PARAMETERS: Final = frozenset().union(
    *(names_of(route) for route in router.routes if isinstance(route, APIRoute) and route.endpoint is counters)
)
_CREATORS: Final = TypeAdapter[list[str]](Creators)
_ADDRESSES: Final = TypeAdapter[list[str]](Addresses)


def understand(reads: QueryRunner, query: bytes) -> Asked | None:
    """Parse a query string into its normalised meaning; None if the route would refuse it."""
    given = QueryParams(query)
    if not _PARAMETERS.issuperset(given):
        return None
    try:
        month = month_or_current(reads, given.get("month"))
        creators = _CREATORS.validate_python(given.getlist("creator"))
        addresses = _ADDRESSES.validate_python(given.getlist("thing"))
        asked = asked_for(reads, month, given.get("things"), creators, addresses)
    except (Problem, ValueError):
        return None
    # None instead of the current month, because the cached result may be used after the month has changed.
    return asked if "month" in given else replace(asked, month=None)


async def answer(reads: QueryRunner, asked: Asked, address: str) -> Response:
    """Answer a request for counters; ``address`` is the client's, for its share of the queue."""
    month = await reads.present(month_or_current(reads, None) if asked.month is None else asked.month)
    thing_ids = dict.fromkeys(asked.thing_ids)
    if await reads.asked_of(month) == NO_MONTH:
        lag, counts = await reads.lag(), dict.fromkeys(thing_ids, 0)
    else:
        found = await reads.counters.get(month, thing_ids, address)
        # The oldest lag applies to the whole answer.
        lag = min((counted.lag for counted in found.values()), key=lambda lag: lag.now_ms)
        counts = {thing_id: found[thing_id].count.flattrs for thing_id in thing_ids}
    stated: dict[str, Any] = {"month": month_text(month), "counters": counts}
    if asked.by_address:
        stated["things"] = asked.thing_ids
    body = {**stated, **AsOf.plain(replace(lag, now_ms=reads.clock()))}
    return cacheable(body, weak_etag(stated), reads.settings.api_counters_max_age_s)
