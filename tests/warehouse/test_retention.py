"""Nothing grows for ever unsaid: every table stands in docs/retention.md, and what has a setting leaves by it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # our own files
from pathlib import Path

import pytest

from deploy.provision.topic_days import TopicSettings
from deploy.provision.topics import DAY_MS, TopicPlan, plans_of, rejected_plan
from deploy.stack.embedded import ROOT, EmbeddedWarehouse
from warehouse.storage.client import Warehouse, named
from warehouse.storage.retention import EXPIRIES, Changed, apply, expiry_days
from warehouse.storage.settings import RetentionSettings

PAGE = (ROOT / "docs/retention.md").read_text()
TABLES = PAGE.partition("## Tables")[2].partition("## Topics")[0]


def _rows_of_page() -> dict[str, str]:
    """Each table's line of the page, by name."""
    lines = [line.split("|")[1:-1] for line in TABLES.splitlines() if line.startswith("| `")]
    return {name: " ".join(line) for line in lines for name in re.findall(r"`(\w+)`", line[0])}


def test_every_table_stands_on_the_page_with_how_it_leaves(warehouse: Warehouse) -> None:
    engines: dict[str, str] = dict(
        warehouse.rows(
            "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND engine LIKE %(it)s",
            {"it": "%MergeTree"},
        )
    )
    page = _rows_of_page()
    assert page.keys() == engines.keys(), "a new table needs its line in docs/retention.md"
    assert {table for table, engine in engines.items() if " TTL " in engine} == EXPIRIES.keys() | {"erasures"}
    for table, expiry in EXPIRIES.items():
        told = "like the row" if table == "rejected_replayed" else f"`FLATTR_{expiry.setting.upper()}`"
        assert told in page[table], table


def test_a_setting_changes_the_table_once_and_its_default_is_that_of_the_migrations(warehouse: Warehouse) -> None:
    assert apply(warehouse, RetentionSettings()) == []
    shorter = RetentionSettings(retain_replays_days=7, retain_rejected_days=8, retain_provisional_days=40)
    assert apply(warehouse, shorter) == [
        Changed("rejected", 90, 8), Changed("rejected_replayed", 90, 8), Changed("replayed_flattrs", 30, 7),
        Changed("replayed_orders", 30, 7), Changed("provisional_runs", 400, 40),
        Changed("provisional_payouts", 430, 70),
    ]  # fmt: skip
    assert apply(warehouse, shorter) == []
    assert expiry_days(warehouse) == {table: expiry.days(shorter) for table, expiry in EXPIRIES.items()}


def test_only_rows_that_are_past_their_time_leave(warehouse: Warehouse) -> None:
    for month, age_days in ((202609, 29), (202610, 31)):
        warehouse.command(
            "INSERT INTO replayed_flattrs (month, member_id, stored_at) "
            f"SELECT {month}, 'mia', now('UTC') - INTERVAL {age_days} DAY"
        )
        for topic in ("clicks", "rejected"):
            warehouse.command(
                "INSERT INTO rejected (month, topic, stored_at) "
                f"SELECT {month}, '{topic}', now('UTC') - INTERVAL {age_days * 3} DAY"
            )
    for table in ("replayed_flattrs", "rejected"):
        warehouse.command(f"OPTIMIZE TABLE {table} FINAL")
    assert warehouse.rows("SELECT month FROM replayed_flattrs") == [(202609,)]
    assert warehouse.rows("SELECT month, topic FROM rejected ORDER BY month, topic") == [
        (202609, "clicks"), (202609, "rejected"), (202610, "clicks"),
    ]  # fmt: skip


def test_lines_that_an_interrupted_run_left_belong_to_no_later_run(warehouse: Warehouse) -> None:
    assert warehouse.rows(named("payout_next_run"), {"month": 202609}) == [(1,)]
    warehouse.command(
        "INSERT INTO provisional_payouts (run, line) "
        "SELECT 1, (202609, 'anna', 'EUR', 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '')"
    )
    assert warehouse.rows(named("payout_next_run"), {"month": 202609}) == [(2,)]


def test_topics_have_the_retention_that_is_set_and_existing_ones_only_if_somebody_set_it() -> None:
    plans = TopicPlan("clicks", 4), rejected_plan("rejected")
    assert plans_of(TopicSettings(), *plans) == list(plans)
    clicks, rejected = plans_of(TopicSettings(topic_clicks_days=200), *plans)
    assert (clicks.retention_ms, clicks.retention_chosen) == (200 * DAY_MS, True)
    assert rejected == plans[1]
    with pytest.raises(ValueError, match="topic_clicks_days"):
        TopicSettings(topic_clicks_days=10)


def test_the_logs_of_the_server_leave_too(tmp_path: Path) -> None:
    """With the sections of the image's configuration, in the engine of the tests."""
    ours = ET.parse(ROOT / "deploy/images/clickhouse/config.xml").getroot()
    sections = [part for part in ours if part.tag.endswith("_log")]
    for part in sections:
        for name, value in (("database", "system"), ("table", part.tag)):
            ET.SubElement(part, name).text = value

    class Logging(EmbeddedWarehouse):
        def _config(self) -> str:
            more = "".join(ET.tostring(part, "unicode") for part in sections)
            return super()._config().replace("</clickhouse>\n", f"{more}</clickhouse>\n")

    with Logging(tmp_path / "logging") as server:
        warehouse = Warehouse(f"{server.url}/default")
        warehouse.command("SYSTEM FLUSH LOGS")
        found: dict[str, str] = dict(
            warehouse.rows(
                "SELECT name, engine_full FROM system.tables WHERE database = 'system' AND name IN %(names)s",
                {"names": tuple(part.tag for part in sections)},
            )
        )
        warehouse.close()
    assert {part.tag for part in sections} - found.keys() == set()
    assert [name for name, engine in found.items() if "toIntervalDay(30)" not in engine] == []
