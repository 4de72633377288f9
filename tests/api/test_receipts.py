from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from ingest.contract.position import position
from tests.api.conftest import NOON_MS
from tests.api.rows import at, counted_until, put_flattr, put_progress, put_refused
from tests.support.serving import ask
from warehouse.api.problems import Problem
from warehouse.api.throttle import Throttle
from warehouse.storage.client import Warehouse

SONG = "9f86d081884c7d659a2feaa0c55ad015"
CLICK = UUID("0193504e-8a5b-7c1d-9e2f-00ff00ff0000")


def receipt(api: str, click_id: UUID, query: str = "") -> dict[str, Any]:
    answer = ask(f"{api}/v1/receipts/{click_id}{query}")
    assert answer.status == 200, answer.body
    assert isinstance(answer.json, dict)
    return answer.json


def test_counted_click_is_found_by_its_id(warehouse: Warehouse, api: str) -> None:
    put_flattr(warehouse, thing=SONG, click_id=CLICK, position=position(0, 42, 7))
    body = receipt(api, CLICK)
    assert (body["status"], body["month"], body["offset"], body["thing_id"]) == ("counted", "2026-11", 42, SONG)
    assert body["stands"] is True


def test_counted_click_that_was_taken_back_does_not_stand(warehouse: Warehouse, api: str) -> None:
    put_flattr(warehouse, thing=SONG, click_id=CLICK, position=position(0, 42, 0))
    put_flattr(warehouse, thing=SONG, click_id=None, position=position(0, 50, 0), undo=True)
    body = receipt(api, CLICK)
    assert (body["status"], body["stands"], body["offset"]) == ("counted", False, 42)


def test_click_of_the_month_before_is_found_without_naming_it(warehouse: Warehouse, api: str) -> None:
    put_flattr(warehouse, month=202610, thing=SONG, click_id=CLICK, position=position(0, 1, 0))
    assert receipt(api, CLICK)["month"] == "2026-10"


def test_older_click_is_found_by_naming_its_month(warehouse: Warehouse, api: str) -> None:
    put_flattr(warehouse, month=202601, thing=SONG, click_id=CLICK, position=position(0, 1, 0))
    assert ask(f"{api}/v1/receipts/{CLICK}").status == 404
    assert receipt(api, CLICK, "?month=2026-01")["status"] == "counted"


def test_duplicate_names_the_click_that_counted(warehouse: Warehouse, api: str) -> None:
    first = uuid4()
    put_flattr(warehouse, thing=SONG, click_id=first, position=position(0, 1, 0))
    put_refused(warehouse, "duplicates", CLICK, position(0, 9, 0), thing=SONG)
    body = receipt(api, CLICK)
    assert (body["status"], body["duplicate_of"], body["offset"]) == ("duplicate", str(first), 9)


def test_click_that_counted_and_was_retried_is_counted(warehouse: Warehouse, api: str) -> None:
    put_flattr(warehouse, thing=SONG, click_id=CLICK, position=position(0, 1, 0))
    put_refused(warehouse, "duplicates", CLICK, position(0, 9, 0), thing=SONG)
    assert receipt(api, CLICK)["status"] == "counted"


def test_undo_is_told(warehouse: Warehouse, api: str) -> None:
    put_refused(warehouse, "undos", CLICK, position(0, 9, 0), thing=SONG)
    assert receipt(api, CLICK)["status"] == "undo"


def test_late_click_is_found_in_its_bytes(warehouse: Warehouse, api: str) -> None:
    click = f'{{"v":1,"click_id":"{CLICK}","action":"flattr"}}'
    warehouse.insert("late", {"month": [202611], "partition": [0], "position": [position(0, 3, 0)], "click": [click]})
    assert receipt(api, CLICK)["status"] == "late"


def test_rejected_click_says_why(warehouse: Warehouse, api: str) -> None:
    names = ("month", "topic", "partition", "position", "rejected_at", "reason", "detail", "raw")
    for place, raw in enumerate(
        [f'{{"click_id":"{CLICK}"}}', '{"click_id": 7', "\udcff".encode("utf-8", "surrogateescape")]
    ):
        row = (202611, "rejected", 0, position(0, place, 0), at(NOON_MS), "own_thing", "anna is the creator", raw)
        warehouse.insert("rejected", {name: [value] for name, value in zip(names, row, strict=True)})
    body = receipt(api, CLICK)
    assert (body["status"], body["reason"], body["detail"]) == ("rejected", "own_thing", "anna is the creator")


def test_accepted_click_waits_until_progress_has_passed_its_offset(warehouse: Warehouse, api: str) -> None:
    put_progress(warehouse, 2, counted_until(9), NOON_MS)
    assert receipt(api, CLICK, "?partition=2&offset=10")["status"] == "accepted"
    assert ask(f"{api}/v1/receipts/{CLICK}?partition=2&offset=9").status == 404
    assert receipt(api, CLICK, "?partition=3&offset=0")["status"] == "accepted"


def test_unknown_click_is_404_and_told_how_to_ask_better(idle_api: str) -> None:
    answer = ask(f"{idle_api}/v1/receipts/{CLICK}")
    assert (answer.status, answer.json["reason"]) == (404, "click_unknown")
    assert "partition and offset" in answer.json["detail"]
    assert answer.headers["access-control-allow-origin"] == "*"


def test_click_id_that_is_none_is_refused(idle_api: str) -> None:
    assert ask(f"{idle_api}/v1/receipts/anna").json["reason"] == "parameter_invalid"


async def test_who_asks_alone_does_not_wait_and_the_next_one_waits_for_the_rest() -> None:
    lane = Throttle(waiting_max=8)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with lane.turn("a"):
        assert loop.time() - began < 0.05
        await asyncio.sleep(0.05)
        ended = loop.time()
    async with lane.turn("a"):
        assert loop.time() - ended >= 0.14


async def test_addresses_take_turns_for_receipts_and_each_may_have_few_waiting() -> None:
    lane = Throttle(waiting_max=16)
    order: list[str] = []

    async def ask_once(address: str) -> None:
        async with lane.turn(address):
            order.append(address)

    async with lane.turn("x"):
        waiting = [asyncio.create_task(ask_once(address)) for address in "aaaab"]
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await ask_once("a")
        assert refused.value.status == 503
        waiting[0].cancel()
    await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    # The first of a's turns was his who went away.
    assert order == ["b", "a", "a", "a"]
