from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import pytest
from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from ingest.contract.thing import thing_id
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import counted_until, put_progress, put_thing_counts
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.api.count_batcher import BatchBounds, CountBatcher
from warehouse.api.counter_cache import PATH, Asked, CounterCache
from warehouse.api.problems import Problem
from warehouse.counts.counts import Key
from warehouse.counts.lag import Lag
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable

ONE, TWO, THREE = (digit * 32 for digit in "123")


def test_counters_of_several_things_come_in_one_call_zero_included(warehouse: Warehouse, api: str) -> None:
    put_thing_counts(warehouse, [(202611, "a", ONE, 0, 4, 1), (202611, "a", ONE, 3, 2, 1), (202611, "b", TWO, 0, 1, 1)])
    body = ask(f"{api}/v1/counters?things={ONE},{TWO},{THREE}").json
    assert body["counters"] == {ONE: 6, TWO: 1, THREE: 0}
    assert body["month"] == "2026-11"


def test_counters_are_open_to_every_origin_and_cacheable(idle_api: str) -> None:
    answer = ask(f"{idle_api}/v1/counters?things={ONE}", headers={"Origin": "https://site.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"].startswith("public, max-age=5")
    assert (
        ask(f"{idle_api}/v1/counters", method="OPTIONS").headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    )


def test_counters_that_did_not_change_are_304_though_the_pipeline_went_on(warehouse: Warehouse) -> None:
    put_thing_counts(warehouse, [(202611, "a", ONE, 0, 4, 1)])
    with serving(create_app(settings_for(warehouse, api_counters_ttl_ms=0))) as api:
        first = ask(f"{api}/v1/counters?things={ONE}")
        put_progress(warehouse, 0, counted_until(9), NOON_MS)
        again = ask(f"{api}/v1/counters?things={ONE}", headers={"If-None-Match": f'"x", {first.headers["etag"]}'})
        assert (again.status, again.body) == (304, b"")
        put_thing_counts(warehouse, [(202611, "a", ONE, 0, 5, 2)])
        changed = ask(f"{api}/v1/counters?things={ONE}", headers={"If-None-Match": first.headers["etag"]})
        assert (changed.status, changed.json["counters"]) == (200, {ONE: 5})


@pytest.mark.parametrize(
    ("things", "reason"),
    [
        ("", "parameter_invalid"),
        ("xyz", "parameter_invalid"),
        (ONE.upper().replace("1", "A"), "parameter_invalid"),
        (f"{ONE},", "parameter_invalid"),
        (",".join(f"{number:032x}" for number in range(101)), "too_many"),
    ],
)
def test_list_of_things_that_is_none_is_refused(idle_api: str, things: str, reason: str) -> None:
    answer = ask(f"{idle_api}/v1/counters?things={things}")
    assert (answer.status, answer.json["reason"]) == (422, reason)


def test_counter_is_found_by_creator_and_any_spelling_of_the_address(warehouse: Warehouse, api: str) -> None:
    song = thing_id("anna", "https://anna.example/song?a=1")
    put_thing_counts(warehouse, [(202611, "anna", song, 0, 4, 1)])
    spelling = quote("HTTPS://Anna.Example:443/song?utm_source=x&a=1#top", safe="")
    other = thing_id("anna", "7")
    body = ask(f"{api}/v1/counters?creator=anna&thing={spelling}&thing=7").json
    assert body["counters"] == {song: 4, other: 0}


def test_counters_of_several_creators_come_in_one_call_with_the_things_in_the_order_asked(
    warehouse: Warehouse, api: str
) -> None:
    song, post = thing_id("anna", "https://anna.example/song"), thing_id("bob", "7")
    put_thing_counts(warehouse, [(202611, "anna", song, 0, 4, 1), (202611, "bob", post, 0, 2, 1)])
    query = "creator=bob&thing=7&creator=anna&thing=https://anna.example/song&creator=bob&thing=7"
    body = ask(f"{api}/v1/counters?{query}").json
    assert (body["things"], body["counters"]) == ([post, song, post], {post: 2, song: 4})
    body = ask(f"{api}/v1/counters?creator=bob&thing=7&thing=https://anna.example/song&thing=7").json
    assert body["things"] == [post, thing_id("bob", "https://anna.example/song"), post]
    assert body["counters"][post] == 2
    assert "things" not in ask(f"{api}/v1/counters?things={song}").json


def test_answer_in_another_order_is_another_answer(warehouse: Warehouse) -> None:
    put_thing_counts(warehouse, [(202611, "a", thing_id("a", "1"), 0, 4, 1)])
    with serving(create_app(settings_for(warehouse, api_counters_ttl_ms=60_000))) as api:
        orders = [ask(f"{api}/v1/counters?creator=a&{query}") for query in ("thing=1&thing=2", "thing=2&thing=1")]
        assert orders[0].json["things"] == orders[1].json["things"][::-1]
        assert orders[0].headers["etag"] != orders[1].headers["etag"]
        assert orders[0].json["counters"] == orders[1].json["counters"]


def test_hundred_things_of_a_hundred_creators_are_one_call_and_one_more_is_too_many(idle_api: str) -> None:
    pairs = [f"creator=c{number}&thing={number}" for number in range(101)]
    assert len(ask(f"{idle_api}/v1/counters?{'&'.join(pairs[:100])}").json["things"]) == 100
    answer = ask(f"{idle_api}/v1/counters?{'&'.join(pairs)}")
    assert (answer.status, answer.json["reason"]) == (422, "too_many")


@pytest.mark.parametrize(
    "query",
    [
        "creator=a&creator=b&thing=1&thing=2&thing=3",
        "creator=a&creator=b&thing=1",
        "creator=a&creator=%20&thing=1&thing=2",
        "creator=&thing=1",
        "creator=a&creator=b",
    ],
)
def test_creators_that_do_not_pair_with_the_things_are_refused(idle_api: str, query: str) -> None:
    answer = ask(f"{idle_api}/v1/counters?{query}")
    assert (answer.status, answer.json["reason"]) == (422, "parameter_invalid")


@pytest.mark.parametrize(
    "query", ["", "?creator=anna", "?thing=x", "?creator=anna&thing=http://", "?creator=" + "a" * 65 + "&thing=x"]
)
def test_counter_of_nothing_in_particular_is_refused(idle_api: str, query: str) -> None:
    assert ask(f"{idle_api}/v1/counters{query}").json["reason"] == "parameter_invalid"


def test_popular_page_is_answered_without_a_query(warehouse: Warehouse) -> None:
    put_thing_counts(warehouse, [(202611, "a", ONE, 0, 4, 1)])
    with serving(create_app(settings_for(warehouse, api_counters_ttl_ms=60_000, api_counters_fresh_ms=60_000))) as api:
        first = ask(f"{api}/v1/counters?things={ONE}")
        again = ask(f"{api}/v1/counters?things={ONE}")
        assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
        assert again.headers["access-control-allow-origin"] == "*"
        known = ask(f"{api}/v1/counters?things={ONE}", headers={"If-None-Match": first.headers["etag"]})
        assert (known.status, known.body) == (304, b"")
        assert ask(f"{api}/v1/counters?things=x").status == 422
        metrics = ask(f"{api}/metrics").body.decode()
        assert 'query_seconds_count{query="thing_counts"} 1.0' in metrics
        assert 'flattr_api_requests_total{route="/v1/counters",status="200"} 2.0' in metrics


class Page:
    """The route behind ``CounterCache``: answers with the number of the call, when it is told to."""

    def __init__(self, bytes_max: int = 1 << 20) -> None:
        self.now_s = 0.0
        self.calls = 0
        self.fails = False
        self.busy = True
        self.open = asyncio.Event()
        self.open.set()
        self.counter_cache = CounterCache(
            self.app,
            self.understand,
            self.answer,
            address_of=lambda scope: str(scope["client"][0]),
            ttl_s=1,
            fresh_s=0.25,
            busy=lambda: self.busy,
            bytes_max=bytes_max,
            monotonic=lambda: self.now_s,
        )

    async def app(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 422, "headers": []})
        await send({"type": "http.response.body", "body": b"the ordinary way"})

    def understand(self, query: bytes) -> Asked | None:
        things = tuple(query.decode().partition("&")[0].split(","))
        return None if query == b"nonsense" else Asked(None, things, by_address=False)

    async def answer(self, asked: Asked, address: str) -> Response:
        self.calls += 1
        made = self.calls
        if address != "favoured":
            await self.open.wait()
        if self.fails:
            raise WarehouseUnavailable("away")
        return Response(f"{made}", headers={"ETag": f'W/"{asked.thing_ids[0]}"'})

    async def get(
        self, query: bytes = b"a", if_none_match: bytes | None = None, address: str = "somebody"
    ) -> tuple[int, bytes]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def nothing() -> Message:
            return {"type": "http.request"}

        headers = [] if if_none_match is None else [(b"if-none-match", if_none_match)]
        client = (address, 1)
        scope = {
            "type": "http", "path": PATH, "method": "GET", "query_string": query, "headers": headers, "client": client
        }  # fmt: skip
        await self.counter_cache(scope, nothing, send)
        return sent[0]["status"], bytes(sent[1]["body"])


async def test_whole_answer_is_kept_for_its_time_and_only_when_it_is_one() -> None:
    page = Page()
    page.fails = True
    assert (await page.get())[0] == 503
    page.fails = False
    assert [await page.get(), await page.get()] == [(200, b"2"), (200, b"2")]
    assert await page.get(b"b") == (200, b"3")
    assert await page.get(if_none_match=b'"x", W/"a"') == (304, b"")
    page.now_s = 1.1
    assert await page.get() == (200, b"4")


async def test_answer_is_fresh_while_nobody_else_asks() -> None:
    page = Page()
    page.busy = False
    assert await page.get() == (200, b"1")
    page.now_s = 0.2
    assert await page.get() == (200, b"1")
    page.now_s = 0.3
    assert await page.get() == (200, b"2")
    page.now_s, page.busy = 0.6, True
    assert await page.get() == (200, b"2")


async def test_answer_is_kept_by_what_is_asked_for_and_not_by_how_it_is_written() -> None:
    page = Page()
    for spelling in (b"a", b"a&x=1", b"a&x=2&y=" + b"z" * 5000):
        assert await page.get(spelling) == (200, b"1")
    assert await page.get(b"nonsense") == (422, b"the ordinary way")


async def test_popular_answer_is_made_anew_once_meanwhile_and_is_never_older_than_its_time() -> None:
    page = Page()
    assert await page.get() == (200, b"1")
    page.now_s = 0.6
    page.open.clear()
    assert [await page.get(), await page.get()] == [(200, b"1"), (200, b"1")]
    await asyncio.sleep(0)
    # Making it anew takes too long: what is cached has had its time.
    page.now_s = 1.1
    late = asyncio.create_task(page.get())
    await asyncio.sleep(0)
    page.open.set()
    assert (await late, page.calls) == ((200, b"3"), 3)
    # What was asked at 0.6 and came last does not replace it.
    await asyncio.sleep(0)
    # Asked at 1.1, so at 1.5 it is answered from memory, and at 2.2 it is not.
    page.now_s = 1.5
    assert await page.get() == (200, b"3")
    page.now_s = 2.2
    assert await page.get() == (200, b"4")


async def test_reader_does_not_wait_for_the_turn_of_another_address_that_asks_the_same() -> None:
    page = Page()
    page.open.clear()
    queued = asyncio.create_task(page.get(address="flood"))
    await asyncio.sleep(0)
    assert await page.get(address="favoured") == (200, b"2")
    page.open.set()
    assert await queued == (200, b"1")


class Shop:
    """A warehouse of counters that notes what it was asked and answers when it is told to."""

    def __init__(
        self, pitch_s: float = 0, monotonic: Callable[[], float] | None = None, fresh_s: float = math.inf
    ) -> None:
        self.asked: list[list[Key]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False
        self.takes_s = 0.0
        self.now_s = 0.0
        now = monotonic or (lambda: self.now_s)
        self.cache = CountBatcher(
            self.fetch,
            ttl_s=1,
            bytes_max=1300,
            monotonic=now,
            bounds=BatchBounds(100, 60, 400),
            pitch_s=pitch_s,
            fresh_s=fresh_s,
        )

    async def fetch(self, keys: Sequence[Key]) -> tuple[Lag, Mapping[Key, int]]:
        self.asked.append(list(keys))
        await self.open.wait()
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        if self.broken:
            raise WarehouseUnavailable("away")
        return Lag(0, ()), {key: len(self.asked) for key in keys}

    async def get(self, *thing_ids: str, month: int = 202611, caller: str = "") -> dict[str, int]:
        return {key: counted.count for key, counted in (await self.cache.get(month, thing_ids, caller)).items()}

    async def busy(self) -> asyncio.Task[dict[str, int]]:
        """Let a query run until the shop opens."""
        self.open.clear()
        first = asyncio.create_task(self.get("f" * 32))
        while not self.asked:  # noqa: ASYNC110 - the shop is in this very loop
            await asyncio.sleep(0)
        return first


async def test_young_counter_is_answered_without_a_query_and_an_old_one_is_asked_anew() -> None:
    shop = Shop()
    assert await shop.get(ONE) == {ONE: 1}
    shop.now_s = 1.0
    assert await shop.get(ONE) == {ONE: 1}
    shop.now_s = 1.1
    assert await shop.get(ONE) == {ONE: 2}


async def test_freshness_costs_a_few_queries_a_second_however_many_counters_are_asked_for() -> None:
    shop = Shop(fresh_s=0.25)
    names = ["a" * 32, "b" * 32]
    assert await shop.get(*names) == dict.fromkeys(names, 1)
    for hundredth in range(100):
        shop.now_s = hundredth / 100
        for name in names:
            await shop.get(name)
    assert len(shop.asked) == 4


async def test_all_who_miss_at_a_time_share_one_query() -> None:
    shop = Shop()
    shop.open.clear()
    first = asyncio.create_task(shop.get(ONE))
    await asyncio.sleep(0)
    others = [asyncio.create_task(shop.get(ONE, TWO)) for _ in range(50)]
    await asyncio.sleep(0)
    shop.open.set()
    await asyncio.gather(first, *others)
    assert shop.asked == [[(202611, ONE)], [(202611, TWO)]]


@pytest.mark.parametrize(
    ("takes_s", "pitch_s", "apart_s"), [(0.01, 60, 0.02), (0.02, 0.03, 0.03)], ids=["as long as it took", "pitch"]
)
async def test_queries_rest_and_each_answers_what_was_asked_before_it(
    takes_s: float, pitch_s: float, apart_s: float
) -> None:
    shop = Shop(pitch_s=pitch_s, monotonic=time.monotonic)
    shop.takes_s = takes_s
    began_s = time.monotonic()
    asked_after = []
    for number in range(40):
        asked_after.append((len(shop.asked), asyncio.create_task(shop.get(f"{number:032}"))))
        await asyncio.sleep(0.002)
    for before, task in asked_after:
        # The number of the query that answered: one that began after the question.
        assert min((await asyncio.wait_for(task, 10)).values()) > before
    assert 2 <= len(shop.asked) <= (time.monotonic() - began_s) / apart_s + 1


async def test_failed_query_is_followed_by_the_next_a_whole_pitch_later() -> None:
    shop = Shop(pitch_s=0.2, monotonic=time.monotonic)
    shop.broken = True
    began_s = time.monotonic()
    for thing in (ONE, TWO):
        with pytest.raises(WarehouseUnavailable):
            await shop.get(thing)
    assert time.monotonic() - began_s >= 0.2


async def test_who_asks_alone_does_not_wait_for_the_pitch() -> None:
    shop = Shop(pitch_s=60)
    assert await asyncio.wait_for(shop.get(ONE), 5) == {ONE: 1}


async def test_reader_that_goes_away_does_not_take_the_query_from_the_others() -> None:
    shop = Shop()
    shop.open.clear()
    gone, stays = asyncio.create_task(shop.get(ONE)), asyncio.create_task(shop.get(ONE))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    shop.open.set()
    assert await stays == {ONE: 1}


async def test_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    shop = Shop()
    shop.broken = True
    answers = await asyncio.gather(shop.get(ONE), shop.get(ONE), return_exceptions=True)
    assert [type(answer) for answer in answers] == [WarehouseUnavailable] * 2
    shop.broken = False
    assert await shop.get(ONE) == {ONE: 2}


async def test_months_do_not_share_a_counter() -> None:
    shop = Shop()
    assert await shop.get(ONE, month=202610) == {ONE: 1}
    assert await shop.get(ONE, month=202611) == {ONE: 2}


async def test_oldest_counters_leave_when_the_cache_is_full() -> None:
    shop = Shop()
    await shop.get(ONE, TWO)
    await shop.get(THREE)
    await shop.get(ONE)
    assert shop.asked == [[(202611, ONE), (202611, TWO)], [(202611, THREE)], [(202611, ONE)]]


async def test_all_months_that_are_asked_for_at_a_time_go_into_one_query() -> None:
    shop = Shop()
    first = await shop.busy()
    waiting = [asyncio.create_task(shop.get(ONE, month=month)) for month in range(202601, 202613)]
    await asyncio.sleep(0)
    shop.open.set()
    await asyncio.gather(first, *waiting)
    assert [len(keys) for keys in shop.asked] == [1, 12]


async def test_who_asks_for_much_does_not_delay_who_asks_for_little() -> None:
    shop = Shop()
    first = await shop.busy()
    flood = [
        asyncio.create_task(shop.get(*(f"{request:016}{number:016}" for number in range(20)), caller="many"))
        for request in range(5)
    ]
    await asyncio.sleep(0)
    page = asyncio.create_task(shop.get(*(f"{number:032}" for number in range(100, 120)), caller="few"))
    # Also what somebody else asked for already comes in one's own turn.
    shared = asyncio.create_task(shop.get(f"{4:016}{19:016}", caller="another"))
    await asyncio.sleep(0)
    shop.open.set()
    assert {*(await page).values(), *(await shared).values()} == {2}
    await asyncio.gather(first, *flood)
    assert [len(keys) for keys in shop.asked] == [1, 81, 39]


async def test_request_of_the_same_address_does_not_wait_behind_a_great_one() -> None:
    shop = Shop()
    first = await shop.busy()
    great = asyncio.create_task(shop.get(*(f"{number:032}" for number in range(90))))
    await asyncio.sleep(0)
    small = asyncio.create_task(shop.get(ONE))
    await asyncio.sleep(0)
    shop.open.set()
    assert await small == {ONE: 2}
    await asyncio.gather(first, great)
    assert [len(keys) for keys in shop.asked] == [1, 60, 31]


async def test_what_waits_has_a_bound_for_one_address_and_room_for_others() -> None:
    shop = Shop()
    first = await shop.busy()
    waiting: list[asyncio.Task[dict[str, int]]] = []

    async def ask_for(count: int, caller: str, *, times: int = 1) -> None:
        for _ in range(times):
            names = [f"{caller}{len(waiting)}-{number}" for number in range(count)]
            waiting.append(asyncio.create_task(shop.get(*names, caller=caller)))
            await asyncio.sleep(0)

    async def refused(caller: str, count: int = 1) -> None:
        with pytest.raises(Problem) as problem:
            await shop.get(*(f"{number:032}" for number in range(count)), caller=caller)
        assert (problem.value.status, problem.value.headers) == (503, {"Retry-After": "2"})

    # Of the 400 places an address may fill a quarter, with great requests half of that.
    await ask_for(50, "a")
    await refused("a", 21)
    await ask_for(10, "a", times=5)
    await refused("a")
    for caller in "bc":
        await ask_for(10, caller, times=10)
        await refused(caller)
    # The last quarter is for who has nothing in it yet.
    await ask_for(90, "new")
    await refused("new")
    await ask_for(10, "newer")
    await refused("newest")
    shop.open.set()
    await asyncio.gather(first, *waiting)
    assert await shop.get(ONE, caller="newest")
    assert max(len(keys) for keys in shop.asked) == 100


async def test_counters_that_had_their_time_leave_with_the_next_one() -> None:
    shop = Shop()
    shop.cache = CountBatcher(shop.fetch, ttl_s=1, bytes_max=1 << 20, monotonic=lambda: shop.now_s)
    await shop.get(*(f"{number:032}" for number in range(100)))
    shop.now_s = 2.0
    await shop.get(ONE)
    assert len(shop.cache._cached) == 1
