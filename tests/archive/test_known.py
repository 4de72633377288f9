"""Whoever asks for an archived month is told so: nobody miscounts it, and nobody cries wolf."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.cli.promises import check_answers
from deploy.stack.embedded import HOST, ROOT
from ingest.contract.click import encode
from ingest.contract.month import month_start_ms
from ingest.runtime.clock import system_clock
from streams.counting.count_batch import CountingRules, count_records
from streams.replay import replay
from streams.settings import StreamsSettings
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from tests.api.conftest import settings_for
from tests.archive.build import AFTER, BEFORE, MONTH, books, fill, rows
from tests.conftest import Migrated
from tests.payout.build import PARTITIONS
from tests.security.test_roles import PASSWORD, ROLES, GuardedWarehouse
from tests.support.clicks import make_click
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.archive.archive import archive, restore
from warehouse.counts.equations import check_log, check_warehouse, read_reached
from warehouse.erasure.erase import erase
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.books.statements import member_statement
from warehouse.payout.close.proof import stored
from warehouse.quarantine import desk
from warehouse.quarantine.log import Subject
from warehouse.storage.archived import MonthArchived
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate
from warehouse.storage.settings import BackupSettings

#: Where clocks of these tests stand: after the last closed month.
NOW_MS = month_start_ms(202701)
THING = "0" * 32


@pytest.fixture(scope="module")
def away(migrated: Migrated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Three closed months, the one in the middle archived."""
    with migrated("test_archive_known") as warehouse:
        fill(warehouse)
        archive(warehouse, MONTH, str(tmp_path_factory.mktemp("archive")), BackupSettings())
        yield warehouse


@pytest.fixture(scope="module")
def api(away: Warehouse) -> Iterator[str]:
    clock = f"{(NOW_MS - system_clock()) / 1000:+.3f}"
    with serving(create_app(settings_for(away, clock=clock))) as url:
        yield url


@pytest.mark.parametrize(
    "path",
    [
        "/v1/creators/ada/counts?month=2026-10",
        "/v1/creators/ada/counts?month=2026-10&month=2026-10",
        f"/v1/things/{THING}/counts?month=2026-10",
        "/v1/members/mia/counts?month=2026-10",
        f"/v1/counters?month=2026-10&things={THING}",
        "/v1/creators/ada/series?month=2026-10",
        "/v1/creators/ada/things?month=2026-10",
        "/v1/creators/ada/provisional?month=2026-10",
        "/v1/top/creators?month=2026-10",
        "/v1/exports/creators?since=2026-09&until=2026-11",
        "/v1/receipts/00000000-0000-0000-0000-000000000001?month=2026-10",
        "/v1/months/2026-10/members/mia/statement",
        "/v1/months/2026-10/creators/ada/statement",
    ],
)
def test_reads_of_what_left_are_gone_with_a_reason(api: str, path: str) -> None:
    answer = ask(f"{api}{path}")
    assert (answer.status, answer.json["reason"]) == (410, "month_archived")
    assert answer.json["detail"].startswith("2026-10 is archived: restore it first")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/months",
        "/v1/months/2026-10",
        "/v1/months/2026-10/payouts",
        "/v1/months/2026-10/payouts.csv",
        "/v1/months/2026-10/proof",
        "/v1/months/2026-10/ledger",
        "/v1/months/2026-10/quarantine",
        "/v1/creators/ada/counts?month=2026-09",
        "/v1/months/2026-11/members/mia/statement",
        "/v1/exports/creators?since=2026-11&until=2026-11",
    ],
)
def test_books_and_other_months_answer_as_before(api: str, path: str) -> None:
    assert ask(f"{api}{path}").status == 200


def test_all_time_says_which_months_it_is_without(api: str) -> None:
    found = ask(f"{api}/v1/creators/ada/months").json
    assert [one["month"] for one in found["months"]] == ["2026-09", "2026-11"]
    assert found["archived"] == ["2026-10"]
    assert ask(f"{api}/v1/months/2026-10").json["archived"]
    assert not ask(f"{api}/v1/months/2026-09").json["archived"]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/creators?month=2026-10", 410, "2026-10 is archived: restore it first"),
        ("/creators/ada?month=2026-10", 410, "2026-10 is archived: restore it first"),
        ("/creators/ada?month=2026-09", 200, "Archived, and not counted here: 2026-10."),
        ("/months/2026-10", 200, "Its flattrs and counts are archived"),
    ],
)
def test_pages_say_the_same(api: str, path: str, status: int, sentence: str) -> None:
    answer = ask(f"{api}{path}", headers={"Accept": "text/html"})
    assert answer.status == status
    assert sentence in answer.body.decode()


class Log:
    """A log that remembers since when its records are looked up."""

    since_ms = 0

    async def ends(self, partitions: int) -> list[tuple[int, int]]:
        return [(0, 1 << 30)] * partitions

    async def sample(self, offsets: Sequence[int], records: int, since_ms: int) -> list[str]:
        del offsets, records
        self.since_ms = since_ms
        return []


def test_equations_hold_without_the_rows_that_left(away: Warehouse) -> None:
    reached = read_reached(away, PARTITIONS)
    checks = check_warehouse(away, reached, months=3)
    assert [check for check in checks if not check.holds] == []
    assert sum(check.name.startswith("202610") for check in checks) == 1
    assert sum(check.name.startswith("202609") for check in checks) == 7
    log = Log()
    assert all(check.holds for check in asyncio.run(check_log(away, reached, log)))
    assert log.since_ms == month_start_ms(202612)
    with pytest.raises(MonthArchived):
        check_answers(away, reached, Path("answers"))


@pytest.mark.parametrize("month", [BEFORE, MONTH, AFTER])
def test_replay_of_the_month_and_of_those_beside_it_is_refused(
    away: Warehouse, monkeypatch: pytest.MonkeyPatch, month: int
) -> None:
    monkeypatch.setenv("FLATTR_WAREHOUSE", away.url)
    with pytest.raises(MonthArchived, match="2026-10 is archived: restore it first"):
        asyncio.run(replay(StreamsSettings(), month, PARTITIONS))


def test_flags_and_statements_are_refused_before_anything_is_written(away: Warehouse) -> None:
    before = books(away)
    mia = Subject.of(member_id="mia", creator_id="", thing_id="", site_id="")
    with pytest.raises(MonthArchived):
        desk.flag(away, MONTH, mia, reason="no person", by="eve", clock=lambda: NOW_MS)
    proof = stored(away, MONTH)
    assert proof is not None
    with pytest.raises(MonthArchived):
        member_statement(away, proof, "mia")
    assert books(away) == before


def run(warehouse: Warehouse, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as an operator gives it."""
    command = [sys.executable, "-m", "deploy", *words]
    environment = {"FLATTR_WAREHOUSE": warehouse.url, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_month_goes_and_comes_back_by_commands(migrated: Migrated, tmp_path: Path) -> None:
    with migrated("test_archive_commands") as warehouse:
        fill(warehouse)
        before = rows(warehouse)
        gone = run(warehouse, "archive", "month", "2026-10", "--to", str(tmp_path / "there"))
        assert gone.returncode == 0, gone.stderr
        assert gone.stdout.startswith("2026-10   archived since ")
        assert "dropped flattrs" in gone.stderr
        again = run(warehouse, "archive", "month", "2026-10", "--to", str(tmp_path / "there"))
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == f"flattr: 2026-10 is archived in {tmp_path}/there/2026-10 already.\n"
        (tmp_path / "there").rename(tmp_path / "moved")
        lost = run(warehouse, "archive", "restore", "2026-10")
        assert "there/2026-10 has no manifest.json" in lost.stderr
        back = run(warehouse, "archive", "restore", "2026-10", "--from", str(tmp_path / "moved"))
        assert back.returncode == 0, back.stderr
        assert "every line and hash agrees with its seal" in back.stdout
        assert rows(warehouse) == before


def test_commands_say_in_a_sentence_where_the_month_is(away: Warehouse) -> None:
    def flattr(*words: str) -> subprocess.CompletedProcess[str]:
        return run(away, *words)

    for words in (
        ("month", "verify", "2026-10"),
        ("month", "close", "2026-10", "--dry-run"),
        ("month", "outliers", "2026-11"),
        ("statement", "creator", "2026-10", "ada"),
    ):
        done = flattr(*words)
        assert done.returncode == 1
        assert done.stderr.startswith("flattr: 2026-10 is archived: restore it first, with `flattr archive restore")
    assert "its flattrs and counts are archived, in " in flattr("month", "status", "2026-10").stdout
    listed = flattr("archive", "list").stdout
    assert listed.startswith("2026-10   archived since ")
    assert "flattr: 2026-12 is not closed" in flattr("archive", "month", "2026-12", "--to", "/nowhere").stderr
    assert "is not a month" in flattr("archive", "month", "../2026", "--to", "/nowhere").stderr


def test_worker_that_gets_a_click_of_the_month_counts_it_late_without_asking_for_the_month() -> None:
    """Once the next month is closed, no record can reach back to this one."""
    asked: set[int] = set()

    def load(month: int) -> MonthState:
        asked.add(month)
        return MonthState()

    state, found = PartitionState(0), Rows()
    old = make_click("mia", at_ms=month_start_ms(MONTH), received_at=NOW_MS, sent_at=NOW_MS)
    record = LogRecord(0, NOW_MS, encode(old))
    count_records(state, [record], CountingRules(1, 0, 3_600_000, "clicks"), load, found)
    assert {table for table, _ in found.blocks} == {"late"}
    assert MONTH not in asked


def test_member_who_was_erased_meanwhile_does_not_come_back(migrated: Migrated, tmp_path: Path) -> None:
    with migrated("test_archive_erased") as warehouse:
        fill(warehouse)
        before = rows(warehouse)
        archive(warehouse, MONTH, str(tmp_path), BackupSettings())
        erase(warehouse, "mia", PARTITIONS, log_days=1, settle_s=0)
        # The list forgets its hashes when Kafka has forgotten the clicks; the archive may be older.
        warehouse.command("TRUNCATE TABLE erasures")
        restore(warehouse, MONTH, BackupSettings())
        after = rows(warehouse)
        for table in ("duplicates", "undos"):
            members = warehouse.rows(f"SELECT DISTINCT member_id FROM {table} ORDER BY member_id")
            assert members == [("",), ("nil",)]
            assert len(after.pop(table)) == len(before.pop(table))
        assert after == before
        assert verify_month(warehouse, MONTH).clean


def test_the_migrator_has_the_rights_and_finance_has_not(tmp_path: Path) -> None:
    server = GuardedWarehouse(tmp_path / "server")
    server.environment |= {f"FLATTR_DB_PASSWORD_{role.upper()}": PASSWORD for role in ROLES}
    with server:
        admin = Warehouse(f"{server.url}/default")
        admin.command("CREATE DATABASE flattr")
        admin.close()
        url = f"clickhouse://flattr_{{}}:{PASSWORD}@{HOST}:{server.port}/flattr"
        migrator, finance, closer = (Warehouse(url.format(role)) for role in ("migrate", "finance", "close"))
        migrate(migrator)
        fill(migrator, closer)
        before = rows(migrator)
        archive(migrator, MONTH, str(tmp_path / "archive"), BackupSettings())
        restore(migrator, MONTH, BackupSettings())
        assert rows(migrator) == before
        with pytest.raises(Exception, match="Not enough privileges"):
            archive(finance, MONTH, str(tmp_path / "archive"), BackupSettings())
        assert rows(migrator) == before
        for user in (migrator, finance, closer):
            user.close()
