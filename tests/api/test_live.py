from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.types import Message

from deploy.stack.embedded import free_port
from ingest.runtime.clock import system_clock
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import counted_until, put_creator_counts, put_progress, put_thing_counts
from tests.support.serving import Listener, ask, serving
from tests.support.waiting import wait_until
from warehouse.api.app import create_app
from warehouse.api.live_board import Board, Mailbox, encoded
from warehouse.api.live_poller import Rate
from warehouse.api.settings import ApiSettings
from warehouse.keys import Role, issue, save
from warehouse.storage.client import Warehouse

ANNA = "/v1/creators/anna/live"


@pytest.fixture
def live_api(warehouse: Warehouse) -> Iterator[str]:
    with serving(create_app(settings_for(warehouse, api_poll_ms=20, api_money_ttl_ms=0))) as url:
        yield url


def count(warehouse: Warehouse, flattrs: int, position: int, creator: str = "anna", month: int = 202611) -> None:
    """State a count as the stream does: the count first, then the progress."""
    put_creator_counts(warehouse, [(month, creator, 0, flattrs, position)])
    put_progress(warehouse, 0, counted_until(position), NOON_MS)


async def take(mailbox: Mailbox) -> list[tuple[int, str]]:
    return [(event.number, event.topic) for event in await mailbox.take()]


async def test_slow_client_is_kept_the_newest_event_of_each_topic_and_no_more() -> None:
    mailbox = Mailbox({"a", "b"}, last_seen=0)
    for number in range(1, 1001):
        mailbox.put(encoded(number, "ab"[number % 2], number))
    assert await take(mailbox) == [(999, "b"), (1000, "a")]


async def test_client_that_comes_back_gets_only_what_is_newer() -> None:
    board = Board()
    with board.listen({"a", "b"}) as first:
        board.say(5, "a", 1)
        board.say(6, "b", 1)
        with board.listen({"a", "b"}, last_seen=5) as again:
            assert await take(again) == [(6, "b")]
        assert await take(first) == [(5, "a"), (6, "b")]


async def test_topic_that_nobody_hears_any_more_is_forgotten() -> None:
    board = Board()
    with board.listen({"a"}):
        board.say(1, "a", 1)
        assert (board.topics, board.silent(), board.listeners) == ({"a"}, set(), 1)
    assert (board.topics, board.listeners) == (set(), 0)
    with board.listen({"a"}):
        assert board.silent() == {"a"}


async def test_board_waits_while_nobody_listens() -> None:
    board = Board()
    with board.listen({"a"}):
        await asyncio.wait_for(board.listened(), 1)
    waiting = asyncio.create_task(board.listened())
    await asyncio.sleep(0)
    assert not waiting.done()
    with board.listen({"b"}):
        await asyncio.wait_for(waiting, 1)


def test_rate_is_over_the_last_seconds_and_starts_over_with_a_month() -> None:
    rate = Rate(window_s=10)
    assert rate.add(0, 100) is None
    assert rate.add(2, 300) == 100
    for second in range(3, 30):
        rate.add(second, 300)
    assert rate.add(30, 300) == 0
    assert rate.add(31, 5) is None


def test_creators_count_comes_first_and_then_each_new_one(warehouse: Warehouse, live_api: str) -> None:
    count(warehouse, 3, 1)
    with Listener(live_api + ANNA) as listener:
        assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
        number, name, state = listener.next()
        assert (name, state["creator_id"], state["flattrs"], state["month"]) == ("creator", "anna", 3, "2026-11")
        count(warehouse, 4, 2)
        later, _, state = listener.next()
        assert state["flattrs"] == 4
        assert later > number
        assert state["lag"]["records"] is None


def test_creator_that_nobody_flattred_starts_at_zero_and_rises(warehouse: Warehouse, live_api: str) -> None:
    with Listener(f"{live_api}/v1/creators/x/live") as listener:
        assert listener.next()[2]["flattrs"] == 0
        count(warehouse, 1, 1, creator="y")
        count(warehouse, 1, 2, creator="x")
        assert listener.next()[2]["flattrs"] == 1


def test_stream_resumes_after_the_event_that_was_seen_last(warehouse: Warehouse, live_api: str) -> None:
    count(warehouse, 3, 1)
    with Listener(live_api + ANNA) as listener:
        number, _, _ = listener.next()
        with Listener(live_api + ANNA, headers={"Last-Event-ID": str(number)}) as again:
            count(warehouse, 9, 2)
            assert again.next()[2]["flattrs"] == 9


def test_event_id_that_is_none_is_the_beginning(warehouse: Warehouse, live_api: str) -> None:
    count(warehouse, 3, 1)
    for seen in ("", "x", "-1", "9" * 40, "²"):
        with Listener(live_api + ANNA, headers={"Last-Event-ID": seen.encode().decode("latin-1")}) as listener:
            assert listener.next()[2]["flattrs"] == 3


def queries_asked(url: str) -> float:
    text = ask(f"{url}/metrics").body.decode()
    return sum(float(value) for value in re.findall(r"flattr_api_query_seconds_count\{.*\} (.*)", text))


def test_many_clients_cost_no_more_queries_than_one(warehouse: Warehouse) -> None:
    count(warehouse, 1, 1)
    with serving(create_app(settings_for(warehouse, api_poll_ms=100))) as url, ExitStack() as clients:
        listeners = [clients.enter_context(Listener(url + ANNA)) for _ in range(30)]
        assert {listener.next()[2]["flattrs"] for listener in listeners} == {1}
        before, started = queries_asked(url), time.monotonic()
        count(warehouse, 2, 2)
        assert {listener.next()[2]["flattrs"] for listener in listeners} == {2}
        polls = (time.monotonic() - started) / 0.1 + 2
        assert queries_asked(url) - before <= polls * 4


def test_nobody_who_listens_is_no_query(live_api: str) -> None:
    with Listener(live_api + ANNA) as listener:
        listener.next()
    deadline = time.monotonic() + 5
    while True:  # the server sees the client go with its next poll at the latest
        before = queries_asked(live_api)
        time.sleep(0.15)
        if queries_asked(live_api) == before:
            break
        assert time.monotonic() < deadline


def test_pulse_tells_rate_tallies_money_and_lag_by_partition(warehouse: Warehouse, live_api: str) -> None:
    count(warehouse, 3, 1)
    put_thing_counts(warehouse, [(202611, "anna", "1" * 32, 0, 3, 1)])
    with Listener(f"{live_api}/v1/live") as listener:
        events = {name: state for _, name, state in (listener.next(), listener.next())}
        assert [line["creator_id"] for line in events["top"]["creators"]] == ["anna"]
        assert [line["flattrs"] for line in events["top"]["things"]] == [3]
        pulse = events["pulse"]
        assert pulse["month"] == "2026-11"
        assert [part["partition"] for part in pulse["partitions"]] == [0]
        assert pulse["money"] == {"currency": "EUR", "members": 0, "pledged_micro": 0, "fee_micro": 0, "pool_micro": 0}
        assert pulse["tallies"]["accepted"] == 0
        assert {part["name"]: part["ready"] for part in pulse["parts"]} == {"warehouse": True, "api": True}
        assert listener.next()[1] == "pulse"


def test_top_list_that_moves_twice_at_once_ends_with_the_newest(warehouse: Warehouse, live_api: str) -> None:
    count(warehouse, 1, 1)
    with Listener(f"{live_api}/v1/live") as listener:
        shown = 0
        while shown != 1:
            _, name, state = listener.next()
            shown = state["creators"][0]["flattrs"] if name == "top" else shown
        for flattrs in (2, 3, 4):
            count(warehouse, flattrs, flattrs)
        while shown != 4:
            _, name, state = listener.next()
            shown = state["creators"][0]["flattrs"] if name == "top" else shown


def test_part_that_does_not_answer_is_told(warehouse: Warehouse, live_api: str) -> None:
    parts = {"ingest": f"{live_api}/live", "streams": f"{live_api}/nothing"}
    with serving(create_app(settings_for(warehouse, api_parts=parts))) as url, Listener(f"{url}/v1/live") as listener:
        events = {name: state for _, name, state in (listener.next(), listener.next())}
        ready = {part["name"]: part["ready"] for part in events["pulse"]["parts"]}
        assert ready == {"ingest": True, "streams": False, "warehouse": True, "api": True}


def test_operators_are_told_why_a_service_is_not_ready(warehouse: Warehouse) -> None:
    """In the service's own words, in one line, and no more than a part of them."""

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(b"Kafka has not told\nthe ends of the log" + b"x" * 10_000)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        parts = {
            "streams": f"http://127.0.0.1:{server.server_port}/ready", "ingest": f"http://127.0.0.1:{free_port()}/ready"
        }  # fmt: skip
        with serving(create_app(settings_for(warehouse, api_parts=parts))) as url:
            found = {one["name"]: one for one in ask(f"{url}/v1/services").json["services"]}
        server.shutdown()
        thread.join()
    assert {name: one["ready"] for name, one in found.items()} == {"streams": False, "ingest": False, "warehouse": True}
    assert found["streams"]["said"].startswith("Kafka has not told the ends of the logxxx")
    assert len(found["streams"]["said"]) <= 500
    assert "Connection refused" in found["ingest"]["said"]


def test_services_are_told_while_the_warehouse_is_away() -> None:
    away = ApiSettings(warehouse=SecretStr(f"clickhouse://u:hunter2@127.0.0.1:{free_port()}/x"))
    with serving(create_app(away)) as url:
        answer = ask(f"{url}/v1/services")
    ((told),) = answer.json["services"]
    assert (answer.status, told["name"], told["ready"]) == (200, "warehouse", False)
    assert "does not answer" in told["said"]
    assert "hunter2" not in told["said"]


def test_services_are_told_while_the_warehouse_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hangs = ApiSettings(warehouse=SecretStr(f"clickhouse://127.0.0.1:{mute.getsockname()[1]}/x"))
        with serving(create_app(hangs)) as url:
            began = time.monotonic()
            (told,) = ask(f"{url}/v1/services").json["services"]
            assert time.monotonic() - began < 4
    assert told == {"name": "warehouse", "ready": False, "said": "no answer within 2 s"}


def test_new_month_begins_at_zero_without_reconnecting(warehouse: Warehouse, tmp_path: Path) -> None:

    from ingest.contract.month import month_start_ms
    from ingest.runtime.clock import write_clock_file

    file = tmp_path / "clock"
    write_clock_file(file, NOON_MS - system_clock())
    count(warehouse, 7, 1)
    with (
        serving(create_app(settings_for(warehouse, api_poll_ms=20, clock=f"file:{file}"))) as url,
        Listener(url + ANNA) as listener,
    ):
        assert listener.next()[2]["flattrs"] == 7
        write_clock_file(file, month_start_ms(202612) - system_clock())
        _, _, state = listener.next()
        assert (state["month"], state["flattrs"]) == ("2026-12", 0)


def test_one_client_too_many_is_told_to_come_back(warehouse: Warehouse) -> None:
    with serving(create_app(settings_for(warehouse, api_listeners_max=1))) as url, Listener(url + ANNA) as listener:
        listener.next()
        answer = ask(url + ANNA)
        assert (answer.status, answer.json["reason"]) == (503, "queue_full")


def test_one_address_leaves_room_for_others_and_keys_have_seats_of_their_own(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    secret, key = issue("a dashboard", Role.DASHBOARD)
    save(tmp_path / "keys.json", [key])
    told = {"api_listeners_max": 4, "api_listeners_share": 0.5, "api_keys": tmp_path / "keys.json"}
    settings = settings_for(warehouse, **told)

    # The test's server takes the word of its own machine, as the real one takes that of proxies which it is told of.
    def from_address(number: int) -> dict[str, str]:
        return {"X-Forwarded-For": f"192.0.2.{number}"}

    with serving(create_app(settings)) as url, ExitStack() as clients:
        live = f"{url}/v1/live"
        strangers = [clients.enter_context(Listener(live, headers=from_address(number))) for number in (1, 1, 2)]
        assert {listener.next()[1] for listener in strangers} <= {"pulse", "top"}
        # One address has its two, and strangers together three of four.
        for number in (1, 3):
            refused = ask(live, headers=from_address(number))
            assert (refused.status, refused.json["reason"]) == (503, "queue_full")
            assert "retry-after" in refused.headers
        known = {**from_address(1), "Authorization": f"Bearer {secret}"}
        with Listener(url + ANNA, headers=known) as listener:
            assert listener.next()[1] == "creator"
            assert ask(url + ANNA, headers=known).status == 503
        strangers[0].close()
        wait_until(lambda: hears(live, from_address(3)), "the seat of one who left is free")


def hears(live: str, headers: dict[str, str]) -> bool:
    with Listener(live, headers=headers) as listener:
        return listener.answer.status == 200


async def test_listener_that_takes_nothing_is_cut_off_and_leaves_its_seat(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.api.routes.live._SEND_TIMEOUT_S", 0.2)
    app = create_app(settings_for(warehouse, api_listeners_max=1))
    never = asyncio.Event()

    async def stays() -> Message:
        await never.wait()
        return {"type": "http.disconnect"}

    async def takes_nothing(message: Message) -> None:
        if message["type"] == "http.response.body":
            await never.wait()

    scope = {
        "type": "http", "method": "GET", "path": "/v1/live", "query_string": b"", "headers": [],
        "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await asyncio.wait_for(app(scope, stays, takes_nothing), 10)
    assert app.state.board.listeners == 0
    assert app.state.reads.seats.free("127.0.0.1")
    app.state.reads.close()
