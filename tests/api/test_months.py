from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.contract.month import month_start_ms
from ingest.contract.position import position
from ingest.runtime.clock import system_clock
from tests.api.conftest import settings_for
from tests.api.rows import put_log_end
from tests.payout.build import PARTITIONS, clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.payout.close.close import close_month
from warehouse.payout.close.months import cutoff_ms
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.stages import Stage, log_stage
from warehouse.payout.month_status import payouts_page, read_facts, state_of
from warehouse.storage.client import Warehouse

EUR = 1_000_000
MONTH = 202611
RULES = closing()


def close(warehouse: Warehouse, month: int = MONTH) -> Proof:
    return close_month(warehouse, month, clock=clock_after(month, RULES), log_ends=drained, settings=RULES)


@pytest.fixture
def november(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1\nleo bob 4\nzoe cat 1"))
    pledge(warehouse, MONTH, {"mia": 2 * EUR, "leo": 2 * EUR, "zoe": 2 * EUR})


@pytest.mark.usefixtures("november")
def test_payouts_of_a_closed_month_name_its_seal(warehouse: Warehouse, api: str) -> None:
    proof = close(warehouse)
    body = ask(f"{api}/v1/months/2026-11/payouts").json
    paid = {line["creator_id"]: (line["paid_micro"], line["reason"]) for line in body["payouts"]}
    assert paid == {"ada": (1_200_000, "paid"), "bob": (2_400_000, "paid"), "cat": (1_800_000, "paid")}
    assert (body["seal"], body["next"]) == (proof.seal, None)


@pytest.mark.usefixtures("november")
def test_pages_of_payouts_hold_every_creator_once(warehouse: Warehouse, api: str) -> None:
    close(warehouse)
    first = ask(f"{api}/v1/months/2026-11/payouts?limit=2").json
    second = ask(f"{api}/v1/months/2026-11/payouts?limit=2&after={first['next']}").json
    creators = [line["creator_id"] for page in (first, second) for line in page["payouts"]]
    assert (creators, second["next"]) == (["ada", "bob", "cat"], None)


@pytest.mark.usefixtures("november")
@pytest.mark.parametrize("part", ["payouts", "payouts.csv", "proof"])
def test_open_month_has_no_payouts_yet(api: str, part: str) -> None:
    answer = ask(f"{api}/v1/months/2026-11/{part}")
    assert (answer.status, answer.json["reason"]) == (404, "month_not_closed")


@pytest.mark.usefixtures("november")
def test_payouts_that_are_published_and_not_sealed_are_not_told(warehouse: Warehouse, api: str) -> None:
    close(warehouse)
    assert len(payouts_page(warehouse, MONTH, 10, "")) == 3
    for table in ("seals", "seals_noted"):
        warehouse.command(f"TRUNCATE TABLE {table}")
    assert payouts_page(warehouse, MONTH, 10, "") == []
    assert ask(f"{api}/v1/months/2026-11/payouts").status == 404


@pytest.mark.usefixtures("november")
def test_seal_is_the_hash_of_the_proof_that_is_downloaded(warehouse: Warehouse, api: str) -> None:
    proof = close(warehouse)
    answer = ask(f"{api}/v1/months/2026-11/proof")
    assert hashlib.sha256(answer.body).hexdigest() == proof.seal == answer.headers["x-seal"]


@pytest.mark.usefixtures("november")
def test_downloaded_csv_has_a_line_per_creator(warehouse: Warehouse, api: str) -> None:
    close(warehouse)
    answer = ask(f"{api}/v1/months/2026-11/payouts.csv")
    lines = answer.body.decode().splitlines()
    assert lines[0].startswith("month,creator_id,currency")
    assert [line.split(",")[1] for line in lines[1:]] == ["ada", "bob", "cat"]
    assert answer.headers["content-disposition"] == 'attachment; filename="payouts-2026-11.csv"'


def status_at(warehouse: Warehouse, now_ms: int, month: str = "2026-11") -> Any:
    clock = f"{(now_ms - system_clock()) / 1000:+.3f}"
    with serving(create_app(settings_for(warehouse, clock=clock), RULES)) as url:
        return ask(f"{url}/v1/months/{month}").json


def passed(body: Any) -> dict[str, bool | None]:
    return {check["name"]: check["passed"] for check in body["checks"]}


@pytest.mark.usefixtures("november")
def test_month_that_runs_says_how_long_it_still_does(warehouse: Warehouse) -> None:
    body = status_at(warehouse, month_start_ms(202612) - 3 * 24 * 3600 * 1000)
    assert body["state"] == "open"
    assert passed(body)["over"] is False
    assert "3 d 1 h" in body["checks"][0]["detail"]


@pytest.mark.usefixtures("november")
def test_month_that_is_over_waits_for_the_partitions_that_are_behind(warehouse: Warehouse) -> None:
    cutoff = cutoff_ms(MONTH, RULES.grace_s)
    for partition in range(PARTITIONS):
        put_log_end(warehouse, partition, cutoff + 130_000, 9999 if partition == 2 else 0)
    body = status_at(warehouse, cutoff + 150_000)
    assert (passed(body)["over"], passed(body)["drained"], passed(body)["explained"]) == (True, False, True)
    assert next(check["detail"] for check in body["checks"] if check["name"] == "drained").endswith("still behind: 2.")


@pytest.mark.usefixtures("november")
def test_month_that_can_be_closed_passes_every_check_that_is_seen_from_here(warehouse: Warehouse) -> None:
    cutoff = cutoff_ms(MONTH, RULES.grace_s)
    for partition in range(PARTITIONS):
        put_log_end(warehouse, partition, cutoff + 130_000, 0)
    body = status_at(warehouse, cutoff + 150_000)
    expected = {"over": True, "in_order": True, "posted": True, "drained": True, "explained": True, "recounted": None}
    assert passed(body) == expected
    warehouse.insert(
        "subscription_orders",
        {"member_id": ["mia"], "creator_id": ["ada"], "thing_id": [b"t" * 16], "click_id": [b"c" * 16], "ends": [0],
         "version": [1 << 20], "position": [1]},
    )  # fmt: skip
    assert passed(status_at(warehouse, cutoff + 150_000)) == {**expected, "posted": False}
    assert body["tallies"]["counted"] == 8


def test_earlier_open_month_stands_in_the_way(warehouse: Warehouse) -> None:
    state_month(warehouse, 202610, flattrs_of("mia ada 1"))
    state_month(warehouse, 202611, flattrs_of("mia ada 1"))
    body = status_at(warehouse, cutoff_ms(MONTH, 3600))
    assert passed(body)["in_order"] is False
    assert "2026-10" in body["checks"][1]["detail"]


def test_unexplained_clicks_are_counted_out(warehouse: Warehouse) -> None:
    names = ("month", "accepted", "counted", "duplicate", "undo", "rejected", "late")
    row = dict(zip(names, (MONTH, 10, 5, 2, 0, 0, 0), strict=True))
    at = datetime(2026, 11, 20, tzinfo=UTC)
    warehouse.insert(
        "progress",
        {
            "partition": [0], "position": [position(0, 1, 65535)], "record_at": [at], "written_at": [at],
            **{f"tallies.{name}": [[value]] for name, value in row.items()},
        },
    )  # fmt: skip
    body = status_at(warehouse, month_start_ms(MONTH))
    assert passed(body)["explained"] is False
    assert body["tallies"]["accepted"] == 10


@pytest.mark.usefixtures("november")
def test_stages_of_a_run_show_as_they_are_done(warehouse: Warehouse) -> None:
    log_stage(warehouse, MONTH, "one", Stage.GATE)
    log_stage(warehouse, MONTH, "one", Stage.COMPUTE)
    facts = read_facts(warehouse, MONTH, RULES)
    assert ([done.stage for done in facts.stages], state_of(facts)) == ([Stage.GATE, Stage.COMPUTE], "closing")
    log_stage(warehouse, MONTH, "another", Stage.GATE)
    assert [done.stage for done in read_facts(warehouse, MONTH, RULES).stages] == [Stage.GATE]


@pytest.mark.usefixtures("november")
def test_closed_month_has_its_proof_and_all_stages(warehouse: Warehouse) -> None:
    proof = close(warehouse)
    body = status_at(warehouse, month_start_ms(202612))
    assert (body["state"], body["proof"]["seal"]) == ("closed", proof.seal)
    assert [done["stage"] for done in body["stages"]] == [stage.value for stage in Stage]


def test_months_are_listed_newest_first(warehouse: Warehouse, api: str) -> None:
    for month in (202610, 202611):
        state_month(warehouse, month, flattrs_of("mia ada 1"))
        pledge(warehouse, month, {"mia": 2_000_000})
    close(warehouse, 202610)
    assert ask(f"{api}/v1/months").json == [
        {"month": "2026-11", "closed": False},
        {"month": "2026-10", "closed": True},
    ]
