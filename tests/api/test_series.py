from __future__ import annotations

import pytest

from ingest.contract.month import month_start_ms
from tests.api.conftest import NOON_MS
from tests.api.rows import counted_until, put_flattr, put_log_end, put_progress, put_things
from tests.support.serving import ask
from warehouse.counts.series import HOUR_MS, Interval, Point, fill
from warehouse.storage.client import Warehouse

ONE, TWO = "1" * 32, "2" * 32
NOVEMBER_MS = month_start_ms(202611)
DAY_MS = 24 * HOUR_MS


def test_month_that_is_over_has_all_its_days_and_hours() -> None:
    assert len(fill([], 202611, Interval.DAY, NOVEMBER_MS + 99 * DAY_MS)) == 30
    assert len(fill([], 202602, Interval.HOUR, NOVEMBER_MS)) == 28 * 24


def test_open_month_ends_with_the_day_that_has_begun() -> None:
    points = fill([], 202611, Interval.DAY, NOON_MS)
    assert len(points) == 20
    assert points[-1].at_ms <= NOON_MS < points[-1].at_ms + DAY_MS


def test_month_begins_with_its_first_point_and_a_future_one_has_none() -> None:
    assert fill([], 202611, Interval.DAY, NOVEMBER_MS) == [Point(NOVEMBER_MS, 0)]
    assert fill([], 202611, Interval.DAY, NOVEMBER_MS - 1) == []


def test_hours_add_up_to_days() -> None:
    rows = [(NOVEMBER_MS, 1), (NOVEMBER_MS + 23 * HOUR_MS, 2), (NOVEMBER_MS + 24 * HOUR_MS, 4)]
    points = fill(rows, 202611, Interval.DAY, NOVEMBER_MS + 2 * DAY_MS - 1)
    assert [point.flattrs for point in points] == [3, 4]


def test_clicks_of_a_fast_clock_are_not_lost_from_the_sum() -> None:
    points = fill([(NOVEMBER_MS + 5 * DAY_MS, 7)], 202611, Interval.DAY, NOVEMBER_MS)
    assert [point.flattrs for point in points] == [7]


@pytest.fixture
def clicked(warehouse: Warehouse) -> None:
    hours = [("m-1", ONE, 0), ("m-2", ONE, 1), ("m-1", TWO, 30), ("m-3", TWO, 30), ("m-4", TWO, 31)]
    for place, (member, thing, hour) in enumerate(hours):
        at_ms = NOVEMBER_MS + hour * HOUR_MS + 59 * 60_000
        put_flattr(warehouse, member=member, thing=thing, click_id=None, position=place, clicked_at_ms=at_ms)
        # a replay states the same row again
        put_flattr(warehouse, member=member, thing=thing, click_id=None, position=place, clicked_at_ms=at_ms)
    put_flattr(warehouse, member="m-4", thing=TWO, click_id=None, position=50, undo=True)
    put_flattr(warehouse, creator="bob", thing="3" * 32, click_id=None, position=51, clicked_at_ms=NOVEMBER_MS)
    put_things(warehouse, [(ONE, "anna", "https://a.example/1"), (TWO, "anna", "https://a.example/2")])


@pytest.mark.usefixtures("clicked")
def test_creators_days_leave_out_what_was_taken_back(api: str) -> None:
    body = ask(f"{api}/v1/creators/anna/series?by=day").json
    assert [point["flattrs"] for point in body["points"]][:3] == [2, 2, 0]
    assert len(body["points"]) == 20
    assert body["points"][1]["at"] == "2026-11-02T00:00:00Z"


@pytest.mark.usefixtures("clicked")
def test_things_hours_are_its_own(api: str) -> None:
    points = ask(f"{api}/v1/things/{ONE}/series?by=hour").json["points"]
    assert [point["flattrs"] for point in points][:4] == [1, 1, 0, 0]
    assert sum(point["flattrs"] for point in points) == 2


def test_series_of_what_nobody_flattred_is_flat(idle_api: str) -> None:
    assert {point["flattrs"] for point in ask(f"{idle_api}/v1/things/{ONE}/series").json["points"]} == {0}


def test_lag_is_told_by_partition(warehouse: Warehouse, api: str) -> None:
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 5000)
    put_log_end(warehouse, 0, NOON_MS - 1000, 10)
    put_progress(warehouse, 1, counted_until(99), NOON_MS - 60_000)
    put_log_end(warehouse, 1, NOON_MS - 1000, 140)
    body = ask(f"{api}/v1/lag").json
    assert [(part["partition"], part["records"]) for part in body["partitions"]] == [(0, 0), (1, 40)]
    assert body["lag"]["records"] == 40
    assert body["as_of"] == body["partitions"][1]["as_of"] == "2026-11-20T11:59:00Z"
