"""The close is killed, at every step and at random moments, and taken up again."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.conftest import Migrated
from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from warehouse.payout.close import stages
from warehouse.payout.close.close import close_month, rehearse_month
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import MonthLocked
from warehouse.storage.client import Warehouse

T = TypeVar("T")
MONTH = 202611
STEPS = [
    "gate", "pools", "payouts", "ledger", "compute", "check",
    "publish pools", "publish payouts", "publish ledger", "publish", "seal",
]  # fmt: skip
MEMBERS = 40

CHILD = """
import os, signal, sys
from tests.payout.build import clock_after, closing, drained
from warehouse.storage.client import Warehouse
from warehouse.payout.close.close import close_month, rehearse_month

def step_done(step, _percent):
    print(step, flush=True)
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

settings = closing()
close_month(Warehouse(sys.argv[1]), 202611, clock=clock_after(202611, settings), log_ends=drained,
            settings=settings, progress=step_done)
"""


def fill(warehouse: Warehouse) -> None:
    lines = {f"m{m} c{(m * k) % 13}": 1 + m * k % 3 for m in range(MEMBERS) for k in range(1, 6)}
    state_month(warehouse, MONTH, flattrs_of("\n".join(f"{pair} {count}" for pair, count in lines.items())))
    pledge(warehouse, MONTH, {f"m{m}": 2_000_000 + 10_000 * m for m in range(MEMBERS + 3)})


def published(warehouse: Warehouse) -> list[object]:
    """Everything that a closed month states, in bytes that do not hang on the order of writing."""
    tables = ("pools", "payouts", "ledger")
    rows = [warehouse.rows(f"SELECT * FROM {table} WHERE month = {MONTH} ORDER BY ALL") for table in tables]
    return [*rows, warehouse.rows("SELECT month, seal, previous, proof FROM seals FINAL")]


@pytest.fixture(scope="module")
def untroubled(migrated: Migrated) -> list[object]:
    """What a close that nobody kills publishes."""
    with migrated("test_untroubled") as warehouse:
        fill(warehouse)
        close(warehouse)
        return published(warehouse)


def retried(work: Callable[[], T]) -> T:
    """Do it once the killed holder's lock is gone."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return work()
        except MonthLocked:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def start(warehouse: Warehouse, crash_after: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, warehouse.url, crash_after], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("step", STEPS)
def test_close_killed_after_a_step_resumes_to_identical_bytes(
    warehouse: Warehouse, untroubled: list[object], step: str
) -> None:
    fill(warehouse)
    with start(warehouse, step) as child:
        assert child.stdout is not None
        assert child.stdout.read().splitlines()[-1] == step
    assert (warehouse.rows("SELECT count() FROM seals") == [(1,)]) == (step == "seal")
    assert retried(lambda: close(warehouse)).balanced
    assert published(warehouse) == untroubled


def test_close_killed_at_random_moments_resumes_to_identical_bytes(
    warehouse: Warehouse, untroubled: list[object]
) -> None:
    fill(warehouse)
    chance = random.Random(5)
    for _ in range(5):
        with start(warehouse, "never") as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, 0.25))
            child.kill()
    assert retried(lambda: close(warehouse)).balanced
    assert published(warehouse) == untroubled


def test_resumed_close_does_not_compute_again(warehouse: Warehouse) -> None:
    fill(warehouse)
    steps: list[str] = []

    class Stopped(Exception):
        pass

    def stop_after_compute(step: str, _percent: int) -> None:
        if step == "compute":
            raise Stopped

    settings = closing()
    with pytest.raises(Stopped):
        close_month(
            warehouse,
            MONTH,
            clock=clock_after(MONTH, settings),
            log_ends=drained,
            settings=settings,
            progress=stop_after_compute,
        )
    close_month(
        warehouse,
        MONTH,
        clock=clock_after(MONTH, settings),
        log_ends=drained,
        settings=settings,
        progress=lambda step, _percent: steps.append(step),
    )
    assert steps == ["gate", "check", "publish pools", "publish payouts", "publish ledger", "publish", "seal"]


def test_dry_run_between_a_crash_and_its_rerun_makes_the_rerun_compute_anew(
    warehouse: Warehouse, untroubled: list[object]
) -> None:
    fill(warehouse)
    with start(warehouse, "compute") as child:
        child.wait()
    settings = closing()
    retried(
        lambda: rehearse_month(
            warehouse, MONTH, clock=clock_after(MONTH, settings), log_ends=drained, settings=settings
        )
    )
    close(warehouse)
    assert published(warehouse) == untroubled


def test_other_code_or_inputs_compute_anew_instead_of_resuming(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(warehouse)
    with start(warehouse, "compute") as child:
        child.wait()
    pledge(warehouse, MONTH, {"m0": 9_000_000})
    monkeypatch.setattr(stages, "code_sha256", lambda: "another version")
    proof = retried(lambda: close(warehouse))
    assert proof.pledged_micro == sum(2_000_000 + 10_000 * m for m in range(MEMBERS + 3)) + 7_000_000


def test_two_closes_at_once_end_in_one(warehouse: Warehouse, untroubled: list[object]) -> None:
    fill(warehouse)
    proofs: list[Proof] = []
    at_once = threading.Barrier(4)

    def one() -> None:
        own = Warehouse(warehouse.url)
        at_once.wait()
        proofs.append(retried(lambda: close(own)))
        own.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(proofs) == 4
    assert len({proof.seal for proof in proofs}) == 1
    assert warehouse.rows("SELECT count() FROM seals") == [(1,)]
    assert published(warehouse) == untroubled
