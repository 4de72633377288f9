"""A subscription of one month pays in the next ones: by ingest, the job, the stream, the close and its audit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.embedded import ROOT
from deploy.stack.supervisor import Stack, StackPlan
from ingest.contract.month import month_after, month_of, month_start_ms, month_text
from ingest.runtime.clock import clock_from, system_clock, write_clock_file
from ingest.runtime.tokens import issue
from tests.support.waiting import wait_until
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.storage.client import Warehouse

FIRST = month_after(month_of(system_clock()))
SECOND = month_after(FIRST)
THIRD = month_after(SECOND)
FOURTH = month_after(THIRD)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
#: Dies with SIGKILL when the block of that number is to be sent, or, after the last, when the month is to be noted.
DYING = """
import os, signal, sys
from aiokafka import AIOKafkaProducer
import deploy.cli.post_subscriptions as job
sent, last, send = 0, int(sys.argv[1]), AIOKafkaProducer.send_and_wait
async def dies(*args, **kwargs):
    global sent
    if sent == last:
        os.kill(os.getpid(), signal.SIGKILL)
    sent += 1
    return await send(*args, **kwargs)
AIOKafkaProducer.send_and_wait = dies
job.note_posted = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["flattr", "subscriptions", "post"]
from deploy.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("subscriptions")
    write_clock_file(folder / "clock", month_start_ms(FIRST) + 9 * DAY_MS - system_clock())
    plan = StackPlan(folder=folder / "data", clock=f"file:{folder / 'clock'}", grace_s=3600)
    with Stack(plan, say=lambda _: None) as stack:
        yield stack


def step(stack: Stack, at_ms: int) -> None:
    write_clock_file(stack.folder.parent / "clock", at_ms - system_clock())


def click(stack: Stack, member: str, creator: str, action: str = "flattr", **fields: str) -> None:
    now_ms = clock_from(stack.plan.clock)()
    token = issue(stack.token_keys, member, audience="flattr", now_ms=now_ms, valid_s=600)
    body = {"action": action, "creator_id": creator, "thing": f"https://{creator}.example/", **fields}
    request = urllib.request.Request(
        f"{stack.ingest.url}/v1/clicks", json.dumps(body).encode(), {"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


def flattr(stack: Stack, *arguments: str) -> str:
    return python(stack, "-m", "deploy", *arguments)


def python(stack: Stack, *arguments: str, ends: int = 0) -> str:
    environment = {**os.environ, **stack.environment(), "FLATTR_CLOSE_CLAIM_REQUIRED": "false"}
    environment |= {"FLATTR_CLOSE_MINIMUM_MINOR": "1", "FLATTR_CLOSE_DRAIN_TIMEOUT_S": "60"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == ends, done.stdout + done.stderr
    return done.stdout


def counts(warehouse: Warehouse, month: int) -> dict[str, int]:
    rows = warehouse.rows(
        "SELECT creator_id, sum(active) AS n FROM flattrs FINAL WHERE month = %(month)s GROUP BY ALL HAVING n > 0",
        {"month": month},
    )
    return dict(rows)


def close(stack: Stack, folder: Path, month: int) -> None:
    file = folder / "pledges.csv"
    lines = [f"{member},{month_text(month)},2.00,EUR,yes\n" for member in ("mia", "leo", "zoe")]
    file.write_text("member_id,month,amount,currency,paid\n" + "".join(lines))
    flattr(stack, "pledges", "import", "--yes", str(file))
    flattr(stack, "month", "close", "--yes", month_text(month))
    assert "verifies" in flattr(stack, "month", "verify", month_text(month))
    assert "every row and every tally matches" in flattr(stack, "replay", "--month", month_text(month))


@pytest.mark.timeout(300)
def test_subscription_pays_in_later_months_whatever_happens_to_the_job(stack: Stack, tmp_path: Path) -> None:
    warehouse = Warehouse(stack.warehouse_url)
    click(stack, "mia", "ada", "subscribe")
    click(stack, "leo", "ada", "subscribe", until=month_text(SECOND))
    click(stack, "leo", "bob", "subscribe")
    click(stack, "zoe", "bob", "subscribe")
    click(stack, "zoe", "bob", "unsubscribe")
    wait_until(lambda: counts(warehouse, FIRST) == {"ada": 2, "bob": 2}, "the first month")

    step(stack, month_start_ms(SECOND) + 5 * HOUR_MS)
    for block in range(3):
        python(stack, "-c", DYING, str(block), ends=-signal.SIGKILL)
    assert "were there already" in flattr(stack, "subscriptions", "post")
    wait_until(lambda: counts(warehouse, SECOND) == {"ada": 2, "bob": 1}, "the second month")
    click(stack, "mia", "ada", "undo")
    click(stack, "leo", "bob", "unsubscribe")
    wait_until(lambda: counts(warehouse, SECOND) == {"ada": 1, "bob": 1}, "one is taken back")
    assert f"{month_text(SECOND)}: 0 flattrs of subscriptions posted, 3 were there already" in flattr(
        stack, "subscriptions", "post"
    )
    close(stack, tmp_path, FIRST)

    step(stack, month_start_ms(THIRD) + 5 * HOUR_MS)
    refused = python(stack, "-m", "deploy", "month", "status", month_text(THIRD))
    assert f"run `flattr subscriptions post {month_text(THIRD)}`" in refused
    assert f"{month_text(THIRD)}: 1 flattrs of subscriptions posted" in flattr(stack, "subscriptions", "post")
    wait_until(lambda: counts(warehouse, THIRD) == {"ada": 1}, "the third month")
    close(stack, tmp_path, SECOND)

    step(stack, month_start_ms(FOURTH) + 5 * HOUR_MS)
    flattr(stack, "subscriptions", "post")
    close(stack, tmp_path, THIRD)
    paid = warehouse.rows("SELECT month, creator_id, earned_micro FROM payouts ORDER BY month, creator_id")
    # EUR 2 of each member less a tenth; of the three in the first month leo gives two creators half each.
    assert paid == [
        (FIRST, "ada", 2_700_000), (FIRST, "bob", 2_700_000),
        (SECOND, "ada", 900_000), (SECOND, "bob", 900_000),
        (THIRD, "ada", 1_800_000),
    ]  # fmt: skip
    assert all(
        equation.holds for equation in check_warehouse(warehouse, read_reached(warehouse, stack.plan.partitions))
    )
    warehouse.close()
