"""The lock: one holder at a time, and no write of a holder who has lost it without knowing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_close import close
from warehouse.payout.books.returns import import_answers
from warehouse.payout.close import lock as lock_module
from warehouse.payout.close.compute import drop_staging
from warehouse.payout.close.lock import CLOSE, LEASE_S, Held, locked
from warehouse.payout.errors import MonthLocked
from warehouse.payout.inputs import adjustments
from warehouse.payout.inputs.adjustments import write
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError

NAME = "tried"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_PATIENCE_S", 0)


def lose(held: Held, warehouse: Warehouse) -> None:
    """What a minute of standing still does: nobody renews, the rows grow old, another takes the lock."""
    held._done.set()
    held._renewing.join()
    warehouse.command(
        "ALTER TABLE locks UPDATE state = 'released' WHERE holder = %(holder)s SETTINGS mutations_sync = 1", held._claim
    )
    with locked(warehouse, held._fence["lock"]):
        pass


def test_of_many_that_come_at_once_one_holds(warehouse: Warehouse) -> None:
    inside, most, taken = 0, 0, 0
    guard = threading.Lock()

    def take() -> None:
        nonlocal inside, most, taken
        for _ in range(5):
            try:
                with locked(warehouse, NAME):
                    with guard:
                        inside += 1
                        taken += 1
                        most = max(most, inside)
                    time.sleep(0.05)
                    with guard:
                        inside -= 1
            except MonthLocked:
                pass
        warehouse.close()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken > 5
    numbers = [
        n for (n,) in warehouse.rows("SELECT DISTINCT number FROM locks WHERE state = 'held' AND name = 'tried'")
    ]
    assert len(numbers) == taken


@pytest.mark.usefixtures("impatient")
def test_release_ends_nobody_elses_hold(warehouse: Warehouse) -> None:
    with locked(warehouse, NAME) as first:
        lose(first, warehouse)
        with locked(warehouse, NAME) as second:
            first.release()
            second.check()
            with pytest.raises(MonthLocked), locked(warehouse, NAME):
                pass


def test_who_lost_the_lock_without_knowing_writes_nothing(warehouse: Warehouse) -> None:
    row: dict[str, list[object]] = {
        "creator_id": ["ada"],
        "version": [1],
        "claimed": [True],
        "name": ["Ada"],
        "iban": [""],
        "bic": [""],
    }
    with locked(warehouse, NAME) as held:
        held.insert("creators", row)
        lose(held, warehouse)
        with pytest.raises(MonthLocked, match="lost the close's lock"):
            held.insert("creators", {**row, "version": [2]})
        with pytest.raises(MonthLocked, match="lost the close's lock"):
            held.command("ALTER TABLE creators DELETE WHERE 1")
        with pytest.raises(MonthLocked, match="lost the close's lock"):
            held.check()
    assert warehouse.rows("SELECT version FROM creators") == [(1,)]


def test_holder_whose_renewals_do_not_get_through_stops_by_its_own_clock(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked(warehouse, NAME) as held:
        monkeypatch.setattr(held, "_renewed_at", time.monotonic() - LEASE_S)
        with pytest.raises(MonthLocked):
            held.check()


@pytest.mark.usefixtures("impatient")
def test_claim_of_another_machine_ends_with_its_lease(warehouse: Warehouse) -> None:
    row = (
        "INSERT INTO locks (name, holder, state, number, host, process, at) VALUES ('tried', 'it', 'held', 7, 'far', 1,"
    )
    warehouse.command(f"{row} now64(6) - {LEASE_S - 10})")
    with pytest.raises(MonthLocked, match="process 1 on far"), locked(warehouse, NAME):
        pass
    warehouse.command("ALTER TABLE locks DELETE WHERE 1 SETTINGS mutations_sync = 1")
    warehouse.command(f"{row} now64(6) - {LEASE_S + 1})")
    with locked(warehouse, NAME) as held:
        assert held._fence["number"] == 8


def test_a_stopped_holder_comes_back_and_is_refused(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: SIGSTOP, another process holds and writes, SIGCONT."""
    monkeypatch.setattr(lock_module, "LEASE_S", 1)
    script = tmp_path / "holder.py"
    script.write_text(
        "import sys\nfrom warehouse.storage.client import Warehouse\n"
        "from warehouse.payout.close import lock\n"
        "from warehouse.payout.errors import MonthLocked\n"
        "lock.LEASE_S, lock._RENEW_S = 1, 0.2\n"
        "with lock.locked(Warehouse(sys.argv[1]), 'tried') as held:\n"
        "    print('held', flush=True)\n    sys.stdin.readline()\n"
        "    lock.LEASE_S = 3600\n"  # it must be the server that refuses
        "    try:\n        held.insert('close_log', {'month': [1], 'run': ['late'], 'stage': ['gate']})\n"
        "        print('written', flush=True)\n"
        "    except MonthLocked:\n        print('refused', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), warehouse.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while True:
        try:
            with locked(warehouse, NAME):
                break
        except MonthLocked:
            assert time.monotonic() < deadline
    process.send_signal(signal.SIGCONT)
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"refused\n"
    process.wait(20)
    process.stdin.close()
    process.stdout.close()
    assert warehouse.rows("SELECT count() FROM close_log") == [(0,)]


def test_staging_ends_what_a_close_that_lost_its_lock_still_writes(warehouse: Warehouse) -> None:
    ended: list[WarehouseError] = []

    def write_on() -> None:
        try:
            warehouse.command(
                "INSERT INTO payouts_staging (month, creator_id) SELECT 202611, toString(sleepEachRow(0.02)) "
                "FROM numbers(3000) SETTINGS max_block_size = 10"
            )
        except WarehouseError as error:
            ended.append(error)
        warehouse.close()

    writing = threading.Thread(target=write_on)
    writing.start()
    running = (
        "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND current_database = currentDatabase()"
    )
    while warehouse.rows(running) == [(0,)]:
        assert writing.is_alive()
    drop_staging(warehouse, 202611)
    writing.join(20)
    assert len(ended) == 1
    assert warehouse.rows("SELECT count() FROM payouts_staging") == [(0,)]


def test_return_entered_beside_a_close_lands_in_the_next(warehouse: Warehouse, tmp_path: Path) -> None:
    """Finding M5: by versions, an entry written while a close ran could fall between two closes."""

    def following(month: int) -> list[str]:
        state_month(warehouse, month, flattrs_of("mia bob 1"))
        pledge(warehouse, month, {"mia": 2_000_000})
        return close(warehouse, month).adjustments

    state_month(warehouse, 202611, flattrs_of("mia ada 1"))
    pledge(warehouse, 202611, {"mia": 2_000_000})
    assert close(warehouse, 202611).adjustments == []
    corrected = adjustments.correct(warehouse, "ada", 250_000, against="fee", month=202611, reason="lost")
    assert following(202612) == [corrected.id]
    ((payment,),) = warehouse.rows("SELECT payment_id FROM payouts WHERE month = 202611 AND payment_id != ''")
    file = tmp_path / "returns.csv"
    file.write_text(f"payment_id,amount,reason\n{payment},1.80,AC04\n")
    import_answers(warehouse, file)
    ((returned,),) = warehouse.rows("SELECT id FROM adjustments WHERE kind = 'return'")
    # As if its version had been taken before December's close read the newest, and its row written after.
    warehouse.command("INSERT INTO adjustments SELECT * REPLACE (toUInt64(1) AS version) FROM adjustments")
    warehouse.command("ALTER TABLE adjustments DELETE WHERE version > 1 SETTINGS mutations_sync = 1")
    warehouse.command("OPTIMIZE TABLE adjustments FINAL DEDUPLICATE")
    assert following(202701) == [returned]
    assert following(202702) == []
    assert warehouse.rows("SELECT month FROM ledger WHERE kind = 'return'") == [(202701,)]


def test_imports_write_under_the_number_of_their_lock(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each import loses its lock right after it has read, and must write nothing."""
    file = tmp_path / "pledges.csv"
    file.write_text("member_id,month,amount,currency,paid\nmia,2026-11,2.00,EUR,yes\n")
    acquire = Held.acquire

    def stopped(held: Held) -> None:
        acquire(held)
        monkeypatch.setattr(Held, "acquire", acquire)
        lose(held, warehouse)

    monkeypatch.setattr(Held, "acquire", stopped)
    with pytest.raises(MonthLocked):
        import_pledges(warehouse, file, "EUR")
    assert warehouse.rows("SELECT count() FROM pledges") == [(0,)]
    with locked(warehouse, CLOSE) as held:
        lose(held, warehouse)
        made = adjustments.Adjustment("x", "correct", ("fee", ""), ("creator", "ada"), 1, "EUR", "c", "r")
        with pytest.raises(MonthLocked):
            write(held, [made])
    assert warehouse.rows("SELECT count() FROM adjustments") == [(0,)]
