from __future__ import annotations

from pathlib import Path

import pytest

from ingest.runtime.clock import system_clock, write_clock_file
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import counted_until, put_log_end, put_progress
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.counts.lag import Lag, PartitionLag, read_lag
from warehouse.storage.client import Warehouse


@pytest.mark.parametrize(
    ("counted", "ends", "expected"),
    [
        pytest.param((9, 500), [(1000, 10)], (0, 1000), id="level: nothing older than the last look is missing"),
        pytest.param((9, 500), [(1000, 10), (2000, 14)], (4, 1000), id="behind: true until it was last level"),
        pytest.param(
            (9, 500), [(2000, 14)], (4, 500), id="behind for longer than the history: true until its last record"
        ),
        pytest.param((9, 500), [], (None, 500), id="end not known"),
        pytest.param(None, [(2000, 14)], (14, None), id="never counted"),
        pytest.param(None, [(1000, 0), (2000, 3)], (3, 1000), id="never counted, but there was nothing until a moment"),
        pytest.param(None, [(2000, 0)], (0, 2000), id="nothing was ever written"),
    ],
)
def test_lag_of_one_partition(
    warehouse: Warehouse,
    counted: tuple[int, int] | None,
    ends: list[tuple[int, int]],
    expected: tuple[int | None, int | None],
) -> None:
    if counted:
        put_progress(warehouse, 3, counted_until(counted[0]), NOON_MS + counted[1])
    for seen_at_ms, end_offset in ends:
        put_log_end(warehouse, 3, NOON_MS + seen_at_ms, end_offset)
    lag = read_lag(warehouse, NOON_MS + 5000)
    records, as_of_ms = expected
    moment = None if as_of_ms is None else NOON_MS + as_of_ms
    assert [(part.partition, part.records, part.as_of_ms) for part in lag.partitions] == [(3, records, moment)]


def test_log_of_a_new_epoch_is_wholly_uncounted(warehouse: Warehouse) -> None:
    put_progress(warehouse, 0, counted_until(1000), NOON_MS)
    put_log_end(warehouse, 0, NOON_MS + 10, 5, epoch=1)
    assert read_lag(warehouse, NOON_MS + 20).partitions == (PartitionLag(0, 5, NOON_MS, counted_until(1000)),)


def test_slowest_partition_decides_as_of() -> None:
    lag = Lag(10_000, (PartitionLag(0, 0, 9_500), PartitionLag(1, 7, 4_000)))
    assert (lag.as_of_ms, lag.records, lag.seconds) == (4_000, 7, 6.0)


def test_partition_that_was_never_counted_leaves_no_as_of() -> None:
    lag = Lag(10_000, (PartitionLag(0, 0, 9_500), PartitionLag(1, 7, None)))
    assert (lag.as_of_ms, lag.seconds) == (None, None)


def test_lag_stands_beside_a_count(warehouse: Warehouse, api: str) -> None:
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 3000)
    put_log_end(warehouse, 0, NOON_MS - 1000, 12)
    body = ask(f"{api}/v1/creators/anna/counts").json
    assert body["as_of"] == "2026-11-20T11:59:57Z"
    assert body["lag"]["records"] == 2
    assert 3 <= body["lag"]["seconds"] < 30


def test_count_without_any_progress_says_that_it_knows_no_moment(api: str) -> None:
    body = ask(f"{api}/v1/creators/anna/counts").json
    assert (body["as_of"], body["lag"]) == (None, {"records": None, "seconds": None})


def test_kept_lag_says_its_age_as_of_the_answer(warehouse: Warehouse, tmp_path: Path) -> None:
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 3000)
    clock = tmp_path / "clock"
    write_clock_file(clock, NOON_MS - system_clock())
    settings = settings_for(warehouse, clock=f"file:{clock}", api_lag_ttl_ms=600_000)
    with serving(create_app(settings)) as url:
        ask(f"{url}/v1/creators/anna/counts")
        write_clock_file(clock, NOON_MS + 60_000 - system_clock())
        body = ask(f"{url}/v1/creators/anna/counts").json
    assert body["as_of"] == "2026-11-20T11:59:57Z"
    assert 63 <= body["lag"]["seconds"] < 90
