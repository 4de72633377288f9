"""A sealed month leaves the tables and comes back to the last byte; nothing leaves before it was read back."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.contract.month import month_after, month_start_ms
from ingest.runtime.setting_error import SettingError
from tests.archive.build import AFTER, ALL, BEFORE, MONTH, books, fill, rows
from tests.conftest import Migrated
from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.payout.test_crash import retried
from warehouse.archive import manifest, tables
from warehouse.archive.archive import archive, due, restore
from warehouse.archive.manifest import ArchiveRefused
from warehouse.archive.notes import notes
from warehouse.archive.place import Place
from warehouse.archive.tables import TABLES, staging
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.errors import MonthLocked
from warehouse.storage.archived import MonthArchived, archived_months
from warehouse.storage.client import Warehouse
from warehouse.storage.settings import BackupSettings

SETTINGS = BackupSettings()
CHILD = """
import os, signal, sys
from warehouse.archive.archive import archive, restore
from warehouse.storage.client import Warehouse
from warehouse.storage.settings import BackupSettings

def step_done(step):
    print(step, flush=True)
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[4] == "archive":
    archive(Warehouse(sys.argv[1]), 202610, sys.argv[2], BackupSettings(), step_done=step_done)
else:
    restore(Warehouse(sys.argv[1]), 202610, BackupSettings(), step_done=step_done)
"""
#: Of the steps of each table those of the first, one in the middle and the last.
SOME = ("flattrs", "counts_by_thing", "quarantine_set")
ARCHIVE_STEPS = [
    "verified", "archiving", *(f"wrote {table}" for table in SOME), "written", "compared", "leaving",
    *(f"dropped {table}" for table in SOME), "archived",
]  # fmt: skip
RESTORE_STEPS = ["restoring", "compared", *(f"replaced {table}" for table in SOME), "verified", "restored"]


@pytest.fixture(scope="module")
def closed(migrated: Migrated) -> Iterator[Warehouse]:
    """Three closed months. Tests leave them as they were."""
    with migrated("test_archive") as warehouse:
        fill(warehouse)
        yield warehouse


def test_months_that_are_due_are_the_sealed_ones_that_are_old_enough_and_have_one_behind_them(
    closed: Warehouse,
) -> None:
    assert due(closed, month_start_ms(month_after(AFTER)), 1) == [BEFORE, MONTH]
    assert due(closed, month_start_ms(month_after(AFTER)), 2) == [BEFORE]
    assert due(closed, month_start_ms(month_after(AFTER)), 13) == []
    assert due(closed, month_start_ms(205001), 13) == [BEFORE, MONTH], "the newest one stays, however old"


@contextmanager
def unchanged(warehouse: Warehouse) -> Iterator[None]:
    """Whatever happens within, every row is there afterwards."""
    before = [rows(warehouse, month) for month in ALL], books(warehouse)
    yield
    assert ([rows(warehouse, month) for month in ALL], books(warehouse)) == before


def staged(warehouse: Warehouse) -> int:
    names = tuple(map(staging, TABLES))
    ((count,),) = warehouse.rows(
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name IN %(names)s", {"names": names}
    )
    return int(count)


def test_month_leaves_comes_back_and_verifies_to_the_last_byte(closed: Warehouse, tmp_path: Path) -> None:
    with unchanged(closed):
        kept = books(closed)
        assert all(rows(closed)[table] for table in TABLES)
        note = archive(closed, MONTH, str(tmp_path), SETTINGS)
        assert note.state == "archived"
        assert archived_months(closed) == {MONTH}
        assert not any(rows(closed).values())
        assert books(closed) == kept
        for month in (BEFORE, AFTER):
            assert verify_month(closed, month).problems == []
        with pytest.raises(MonthArchived, match="2026-10 is archived: restore it first"):
            verify_month(closed, MONTH)
        assert restore(closed, MONTH, SETTINGS).state == "restored"
    assert archived_months(closed) == frozenset()
    for month in ALL:
        assert verify_month(closed, month).problems == []
    assert staged(closed) == 0


def test_archive_is_readable_without_flattr(closed: Warehouse, tmp_path: Path) -> None:
    with unchanged(closed):
        archive(closed, MONTH, str(tmp_path), SETTINGS)
        folder = tmp_path / "2026-10"
        table = pq.read_table(folder / "flattrs.parquet")
        assert table.num_rows == 17
        assert table.column("member_id").to_pylist() == sorted(table.column("member_id").to_pylist())
        assert table.schema.field("clicked_at").type == pa.timestamp("ms", "UTC")
        stated = json.loads((folder / "manifest.json").read_text())
        ((seal, proof),) = closed.rows(f"SELECT seal, proof FROM seals FINAL WHERE month = {MONTH}")
        assert (folder / "proof.json").read_text() == proof
        assert stated["seal"] == seal
        assert stated["files"]["flattrs"]["rows"] == 17
        assert folder.stat().st_mode & 0o077 == 0
        restore(closed, MONTH, SETTINGS)


@pytest.mark.parametrize("step", ARCHIVE_STEPS)
def test_archive_killed_after_a_step_is_finished_by_the_same_command(
    closed: Warehouse, tmp_path: Path, step: str
) -> None:
    with unchanged(closed):
        before = rows(closed)
        assert run_until(closed, tmp_path, step, "archive") == step
        if ARCHIVE_STEPS.index(step) <= ARCHIVE_STEPS.index("leaving"):
            assert rows(closed) == before
        if step == "archived":
            with pytest.raises(ArchiveRefused, match="is archived in"):
                retried(lambda: archive(closed, MONTH, str(tmp_path), SETTINGS))
        else:
            assert retried(lambda: archive(closed, MONTH, str(tmp_path), SETTINGS)).state == "archived"
        assert not any(rows(closed).values())
        restore(closed, MONTH, SETTINGS)


@pytest.mark.parametrize("step", RESTORE_STEPS)
def test_restore_killed_after_a_step_is_finished_by_the_same_command(
    closed: Warehouse, tmp_path: Path, step: str
) -> None:
    with unchanged(closed):
        archive(closed, MONTH, str(tmp_path), SETTINGS)
        assert run_until(closed, tmp_path, step, "restore") == step
        if step == "restored":
            with pytest.raises(ArchiveRefused, match="is not archived"):
                retried(lambda: restore(closed, MONTH, SETTINGS))
        else:
            assert archived_months(closed) == {MONTH}
            assert retried(lambda: restore(closed, MONTH, SETTINGS)).state == "restored"


def run_until(warehouse: Warehouse, folder: Path, step: str, what: str) -> str:
    """Start a process that kills itself after a step; returns the last step it did."""
    command = [sys.executable, "-c", CHILD, warehouse.url, str(folder), step, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.splitlines()[-1]


def test_interrupted_archive_may_be_restored_instead(closed: Warehouse, tmp_path: Path) -> None:
    with unchanged(closed):
        run_until(closed, tmp_path, "dropped counts_by_thing", "archive")
        with pytest.raises(ArchiveRefused, match=rf"2026-10 is leaving.*archive month 2026-10 --to {tmp_path}` to its"):
            retried(lambda: archive(closed, MONTH, f"{tmp_path}/elsewhere", SETTINGS))
        restore(closed, MONTH, SETTINGS)


@pytest.mark.parametrize("month", [AFTER, 202612])
def test_month_that_is_open_or_still_needed_is_refused(closed: Warehouse, tmp_path: Path, month: int) -> None:
    sentence = "is the newest closed month" if month == AFTER else "2026-12 is not closed"
    with unchanged(closed), pytest.raises(ArchiveRefused, match=sentence):
        archive(closed, month, str(tmp_path), SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_month_that_does_not_verify_stays(migrated: Migrated, tmp_path: Path) -> None:
    with migrated("test_archive_wrong") as warehouse:
        fill(warehouse)
        warehouse.command(
            f"ALTER TABLE flattrs DELETE WHERE month = {MONTH} AND member_id = 'nil'", {}, {"mutations_sync": 2}
        )
        with unchanged(warehouse), pytest.raises(ArchiveRefused, match=r"does not verify.*pools: the line nil"):
            archive(warehouse, MONTH, str(tmp_path), SETTINGS)


def test_archive_waits_for_no_close_and_is_not_made_twice_at_once(closed: Warehouse, tmp_path: Path) -> None:
    with unchanged(closed), locked(closed, CLOSE), pytest.raises(MonthLocked, match="Another close is running"):
        archive(closed, MONTH, str(tmp_path), SETTINGS)


def test_next_months_close_as_if_nothing_had_left(closed: Warehouse, migrated: Migrated, tmp_path: Path) -> None:
    del closed
    with migrated("test_archive_next") as warehouse:
        fill(warehouse)
        archive(warehouse, BEFORE, str(tmp_path), SETTINGS)
        archive(warehouse, MONTH, str(tmp_path), SETTINGS)
        state_month(warehouse, 202612, flattrs_of("mia ada 2"))
        pledge(warehouse, 202612, {"mia": 2_000_000})
        close(warehouse, 202612)
        assert verify_month(warehouse, 202612).problems == []
        restore(warehouse, MONTH, SETTINGS)
        restore(warehouse, BEFORE, SETTINGS)
        for month in (*ALL, 202612):
            assert verify_month(warehouse, month).problems == []


def test_month_in_which_little_happened_comes_back(warehouse: Warehouse, tmp_path: Path) -> None:
    """No duplicate, no undo, nothing restated, nobody flagged: most of its files have no rows."""
    for month in (MONTH, AFTER):
        state_month(warehouse, month, flattrs_of("mia ada 1"))
        pledge(warehouse, month, {"mia": 2_000_000})
        close(warehouse, month)
    before = rows(warehouse)
    assert sum(not found for found in before.values()) == 5
    archive(warehouse, MONTH, str(tmp_path), SETTINGS)
    # What a worker that was suspended wrote meanwhile is no part of the month.
    warehouse.insert("undos", {"month": [MONTH], "partition": [0], "position": [1]})
    restore(warehouse, MONTH, SETTINGS)
    assert rows(warehouse) == before
    assert verify_month(warehouse, MONTH).clean


def cut_short(folder: Path) -> None:
    file = folder / "undos.parquet"
    file.write_bytes(file.read_bytes()[:-1])


def forged_rows(folder: Path) -> None:
    """A well-formed file with one flattr more."""
    table = pq.read_table(folder / "flattrs.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), folder / "flattrs.parquet")


def forged_with_its_manifest(folder: Path) -> None:
    forged_rows(folder)
    stated = json.loads((folder / "manifest.json").read_text())
    place = Place(str(folder), SETTINGS)
    stated["files"]["flattrs"]["sha256"], stated["files"]["flattrs"]["bytes"] = place.sha256("flattrs.parquet")
    (folder / "manifest.json").write_text(json.dumps(stated))


def other_installation(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(json.loads(text)["seal"], "0" * 64))


def other_month(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace("202610", "202609"))


def outside(folder: Path) -> None:
    """A manifest that names a file of its own choice."""
    stated = json.loads((folder / "manifest.json").read_text())
    stated["files"]["../../../etc/passwd"] = stated["files"].pop("flattrs")
    (folder / "manifest.json").write_text(json.dumps(stated))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (cut_short, "undos.parquet in .* was changed or cut short"),
        (forged_rows, "flattrs.parquet in .* was changed"),
        (forged_with_its_manifest, "manifest.json in .* is not what the archive of 2026-10 was made with"),
        (other_installation, "of another month or of another installation"),
        (other_month, "of another month or of another installation"),
        (outside, "is no manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json.*not copied to its end"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff{"), "is no manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "is no manifest"),
        (lambda folder: (folder / "retimed.parquet").unlink(), "retimed.parquet is missing"),
        (shutil.rmtree, "has no manifest.json"),
    ],
)
def test_files_that_are_not_those_of_the_archive_bring_nothing_back(
    closed: Warehouse, tmp_path: Path, harm: Callable[[Path], None], sentence: str
) -> None:
    with unchanged(closed):
        archive(closed, MONTH, str(tmp_path), SETTINGS)
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "2026-10", copy / "2026-10")
        harm(copy / "2026-10")
        with pytest.raises(ArchiveRefused, match=sentence):
            restore(closed, MONTH, SETTINGS, source=str(copy))
        assert not any(rows(closed).values())
        assert notes(closed)[MONTH].state == "archived"
        restore(closed, MONTH, SETTINGS)


def test_rows_are_compared_and_not_the_files_alone(
    closed: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash of a file says nothing of whether it was written well."""
    with unchanged(closed):
        load = tables.load

        def lose_a_row(warehouse: Warehouse, table: str, columns: tables.Columns, file: object) -> None:
            load(warehouse, table, columns, file)
            if table == "undos":
                warehouse.command("ALTER TABLE archive_undos DELETE WHERE partition = 1", {}, {"mutations_sync": 2})

        monkeypatch.setattr(tables, "load", lose_a_row)
        with pytest.raises(ArchiveRefused, match=r"undos.parquet in .* has other rows than undos had"):
            archive(closed, MONTH, str(tmp_path), SETTINGS)


def test_full_disk_stops_the_archive_before_anything_left(closed: Warehouse, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with unchanged(closed):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(ArchiveRefused, match=r"does not take or give the archive's files: .*File too large"):
                archive(closed, MONTH, str(tmp_path), SETTINGS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert archive(closed, MONTH, str(tmp_path), SETTINGS).state == "archived"
        restore(closed, MONTH, SETTINGS)


def test_archive_of_another_installation_is_not_overwritten(closed: Warehouse, tmp_path: Path) -> None:
    with unchanged(closed):
        archive(closed, MONTH, str(tmp_path), SETTINGS)
        restore(closed, MONTH, SETTINGS)
        archive(closed, MONTH, str(tmp_path), SETTINGS)
        restore(closed, MONTH, SETTINGS)
        other_installation(tmp_path / "2026-10")
        there = (tmp_path / "2026-10" / "manifest.json").read_bytes()
        with pytest.raises(ArchiveRefused, match="another installation"):
            archive(closed, MONTH, str(tmp_path), SETTINGS)
        assert (tmp_path / "2026-10" / "manifest.json").read_bytes() == there


def test_place_is_a_folder_or_a_store() -> None:
    assert Place("s3:https://s3.example:9000/bucket/books/2026-10/", SETTINGS).text.endswith("/bucket/books/2026-10")
    for wrong in ("s3:", "s3:https://host", "s3:bucket/folder"):
        with pytest.raises(SettingError, match="is no place for an archive"):
            Place(wrong, SETTINGS)


def test_manifest_of_a_later_format_is_refused() -> None:
    with pytest.raises(ArchiveRefused, match="this version"):
        manifest.Manifest.of(json.dumps({"format": 2}))
