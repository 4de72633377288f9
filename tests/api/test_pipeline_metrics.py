from __future__ import annotations

import re

from ingest.contract.month import month_start_ms
from ingest.runtime.clock import system_clock
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import counted_until, put_log_end, put_progress
from tests.payout.build import flattrs_of, state_month
from tests.support.serving import ask, serving
from tests.support.waiting import wait_until
from warehouse.api.app import create_app
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.backup import back_up
from warehouse.storage.backup_target import Target
from warehouse.storage.client import Warehouse

_CLOSE = CloseSettings()
GRACE_AND_SETTLE_S = _CLOSE.grace_s + _CLOSE.close_settle_s


def metric(url: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (.+)$", ask(f"{url}/metrics").body.decode(), flags=re.MULTILINE)
    assert found, name
    return float(found[1])


def test_lag_is_measured_from_the_warehouse_by_partition(warehouse: Warehouse, api: str) -> None:
    put_progress(warehouse, 3, counted_until(9), NOON_MS - 60_000)
    put_log_end(warehouse, 3, NOON_MS, 14)
    assert metric(api, 'flattr_pipeline_lag_records{partition="3"}') == 4
    assert 60 <= metric(api, 'flattr_pipeline_lag_seconds{partition="3"}') < 90


def test_close_is_overdue_from_when_the_oldest_open_month_could_be_closed(warehouse: Warehouse) -> None:
    state_month(warehouse, 202610, flattrs_of("mia ada 1"))
    state_month(warehouse, 202611, flattrs_of("mia ada 1"))
    now_ms = month_start_ms(202611) + (GRACE_AND_SETTLE_S + 500) * 1000
    with serving(create_app(settings_for(warehouse, clock=f"{(now_ms - system_clock()) / 1000:+.3f}"))) as url:
        assert 500 <= metric(url, "flattr_pipeline_close_overdue_seconds") < 530


def test_no_close_is_overdue_while_the_month_runs(warehouse: Warehouse, api: str) -> None:
    state_month(warehouse, 202611, flattrs_of("mia ada 1"))
    assert metric(api, "flattr_pipeline_close_overdue_seconds") == 0


def test_backup_is_as_old_as_the_newest_whole_one_or_as_the_database(warehouse: Warehouse, api: str) -> None:
    ((made_s,),) = warehouse.rows("SELECT toUnixTimestamp(min(applied_at)) FROM migrations")
    shown = metric(api, "flattr_backup_last_timestamp_seconds")
    assert made_s <= shown < made_s + 1
    target = Target("disk", "backups")
    first, second = (back_up(warehouse, target, f"{warehouse.database}-{day}", ()) for day in ("mon", "tue"))
    assert first.begun_ms < second.begun_ms
    wait_until(
        lambda: metric(api, "flattr_backup_last_timestamp_seconds") == second.begun_ms / 1000, "the newest is shown"
    )
