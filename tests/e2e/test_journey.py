"""One click travels the whole way, on the embedded broker and on Apache Kafka, past a kill -9 of the stream worker."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.proving.traffic import Traffic, TrafficRequest, requests
from deploy.stack.embedded import EmbeddedWarehouse, ServiceProcess
from deploy.stack.supervisor import Stack, StackPlan
from ingest.contract.month import month_after, month_of, month_start_ms, month_text
from ingest.runtime.clock import clock_from, system_clock, write_clock_file
from ingest.runtime.tokens import issue
from ingest.settings import IngestSettings
from tests.e2e.oracle import Oracle, items_of
from tests.support.waiting import wait_until
from warehouse.payout.close.close import close_month
from warehouse.payout.close.gate import read_tallies
from warehouse.payout.close.log_ends import KafkaLogEnds
from warehouse.payout.close.settings import CloseSettings
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.storage.client import Warehouse

TRAFFIC = Traffic(members=60, creators=12, clicks=1500, seed=11)
MONTH = month_of(system_clock())
END_MS = month_start_ms(month_after(MONTH))
SETTINGS = CloseSettings(grace_s=60, close_minimum_minor=0, close_claim_required=False)


@pytest.fixture
def stack(broker: ServiceProcess, warehouse_server: EmbeddedWarehouse, topic: str, tmp_path: Path) -> Iterator[Stack]:
    """All services on each broker, with a clock an hour before the month's end."""
    write_clock_file(tmp_path / "clock", END_MS - 3_600_000 - system_clock())
    plan = StackPlan(
        folder=tmp_path / "stack",
        broker=broker.address,
        warehouse=f"{warehouse_server.url}/{topic.replace('-', '_')}",
        topic_clicks=topic,
        topic_rejected=f"{topic}-rejected",
        clock=f"file:{tmp_path / 'clock'}",
        grace_s=SETTINGS.grace_s,
        environment={"FLATTR_INGEST_IDEMPOTENCE": "true" if broker.name == "kafka" else "false"},
    )
    with Stack(plan, print) as stack:
        yield stack


@pytest.mark.timeout(180)
def test_every_accepted_click_is_counted_once_and_paid_to_the_micro_euro(stack: Stack, tmp_path: Path) -> None:
    warehouse = Warehouse(stack.warehouse_url)
    oracle = Oracle()
    todo = list(requests(TRAFFIC))

    for number, request in enumerate(todo):
        if number == len(todo) // 2:
            wait_until(lambda: read_tallies(warehouse, MONTH).accepted > 0, "the first counts")
            stack.services["streams"].kill()
        if number == len(todo) * 3 // 4:
            wait_until(lambda: list(stack.watch()) == ["streams"], "streams is back")
        post(stack, request, oracle)

    wait_until(lambda: read_tallies(warehouse, MONTH).accepted >= oracle.accepted, "all counted", timeout_s=60)
    tallies = read_tallies(warehouse, MONTH)
    assert tallies.accepted == oracle.accepted
    assert tallies.counted == len(oracle.keys)
    assert tallies.unexplained == 0
    for creator, flattrs in oracle.flattrs_by_creator().items():
        assert get(stack, f"/v1/creators/{creator}/counts")["flattrs"] == flattrs

    check_close(stack, warehouse, oracle, tmp_path)
    warehouse.close()


def check_close(stack: Stack, warehouse: Warehouse, oracle: Oracle, folder: Path) -> None:
    clock = clock_from(stack.plan.clock)
    members = sorted({member for member, _, _ in oracle.keys} | {"silent-member"})
    pledges = folder / "pledges.csv"
    pledges.write_text(
        "member_id,month,amount,currency,paid\n"
        + "".join(f"{member},{MONTH // 100}-{MONTH % 100:02},2,EUR,yes\n" for member in members)
    )
    import_pledges(warehouse, pledges, "EUR")
    log_ends = KafkaLogEnds(stack.broker_address, stack.plan.topic_clicks, settle_ms=None)

    with pytest.raises(PayoutRefused, match="is not over"):
        close_month(warehouse, MONTH, clock=clock, log_ends=log_ends, settings=SETTINGS)
    write_clock_file(folder / "clock", END_MS + 600_000 - system_clock())
    proof = close_month(warehouse, MONTH, clock=clock, log_ends=log_ends, settings=SETTINGS)

    assert proof.balanced
    assert proof.pledged_micro == 2_000_000 * len(members)
    assert proof.fee_micro == 200_000 * len(members)
    assert proof.charity_micro == 1_800_000
    assert proof.flattrs == len(oracle.keys)
    earned: dict[str, int] = dict(
        warehouse.rows("SELECT creator_id, earned_micro FROM payouts WHERE month = %(month)s", {"month": MONTH})
    )
    exact = oracle.exact_shares(set(members))
    assert set(earned) == set(exact)
    for creator, share in exact.items():
        assert abs(earned[creator] - share) < len(members), creator
    assert sum(earned.values()) == 1_800_000 * (len(members) - 1)


def post(stack: Stack, request: TrafficRequest, oracle: Oracle) -> None:
    token = issue(
        stack.token_keys,
        request.member_id,
        audience=IngestSettings().token_audience,
        now_ms=clock_from(stack.plan.clock)(),
        valid_s=600,
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": request.content_type}
    question = urllib.request.Request(f"{stack.ingest.url}/v1/clicks", request.body, headers)
    try:
        with urllib.request.urlopen(question, timeout=30) as answer:
            assert answer.status == 202
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            assert 400 <= error.code < 500
            assert json.load(error)["reason"]
        return
    oracle.take(request.member_id, items_of(request.body, request.content_type), body["receipts"])


def get(stack: Stack, path: str, month: int = MONTH) -> dict[str, Any]:
    with urllib.request.urlopen(f"{stack.api.url}{path}?month={month_text(month)}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found
