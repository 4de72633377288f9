"""An installation of 0.1.0 with a closed and an open month is upgraded in the middle of the open one."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple
from typing import Any

import msgspec
import pytest
import xxhash
from faust.types import TP
from typer.testing import CliRunner

from deploy.stack.embedded import EmbeddedWarehouse
from ingest.contract.click import Click
from streams.counting.count_batch import CountingRules
from streams.operating.malformed_guard import MalformedGuard
from streams.operating.metrics import Metrics
from streams.pipeline import Pipeline
from streams.sink.writer import Writer
from streams.source.chunk import Chunk
from tests.support.clicks import make_click
from tests.support.commands import app
from tests.support.older import database_at
from tests.support.recount import Counted, assert_states
from tests.upgrade.archive import (
    ERASED,
    FLAGGED,
    GRACE_MS,
    NEWEST,
    NOVEMBER_MS,
    OCTOBER,
    OCTOBER_MS,
    PARTITIONS,
    SEPTEMBER,
    Archive,
    insert_rows,
    pseudonym_of,
    read_archive,
)
from warehouse.counts.counts import creator_counts, member_counts, thing_counts
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.counts.receipts import find
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.close import close_month, rehearse_month
from warehouse.payout.close.proof import Proof, stored
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import Warehouse
from warehouse.storage.identity_key import read_identity_key
from warehouse.storage.migrate import migrations

SETTINGS = CloseSettings()
_numbers = itertools.count(1)


@pytest.fixture
def archive() -> Archive:
    return read_archive()


@pytest.fixture
def older(warehouse_server: EmbeddedWarehouse) -> Iterator[Warehouse]:
    """The database as 0.1.0 left it: its migrations and its rows."""
    with database_at(warehouse_server, f"upgraded_{next(_numbers)}", NEWEST) as warehouse:
        insert_rows(warehouse_server, warehouse.database, "tables")
        yield warehouse


@pytest.fixture
def upgraded(older: Warehouse) -> Warehouse:
    """The same after `flattr warehouse migrate`."""
    migrate(older)
    return older


def migrate(warehouse: Warehouse) -> list[str]:
    """Give the operator's command; what it says."""
    done = CliRunner().invoke(app, ["warehouse", "migrate"], env={"FLATTR_WAREHOUSE": warehouse.url})
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def columns(warehouse: Warehouse) -> dict[str, tuple[str, str]]:
    """Each table's columns as one list, and how to read it merged."""
    rows = warehouse.rows(
        "SELECT table, arrayStringConcat(groupArray('`' || name || '`'), ', '),"
        " any(if(engine LIKE 'Replacing%', 'FINAL', ''))"
        " FROM (SELECT * FROM system.columns ORDER BY position) AS c JOIN system.tables AS t"
        " ON c.database = t.database AND c.table = t.name"
        " WHERE c.database = currentDatabase() AND engine LIKE '%MergeTree' GROUP BY table"
    )
    return {table: (names, final) for table, names, final in rows}


def contents(warehouse: Warehouse, tables: Mapping[str, tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """How many rows there are and a hash of them all, for each table."""
    found = {}
    for table, (names, final) in tables.items():
        (counted,) = warehouse.rows(f"SELECT count(), sum(cityHash64({names})) FROM {table} {final}")
        found[table] = counted
    return found


async def count(warehouse: Warehouse, archive: Archive) -> dict[int, int]:
    """What a worker of this version does with the log; the offset from which it read each partition."""
    failures: list[Exception] = []
    rules = CountingRules(PARTITIONS, 0, GRACE_MS, "clicks")
    pipeline = Pipeline(
        warehouse, Writer(warehouse, patience_s=5), rules, lambda: NOVEMBER_MS, flush_ms=50, flush_bytes=1 << 20,
        drain_s=300, fail=failures.append, malformed=MalformedGuard(1), metrics=Metrics(),
    )  # fmt: skip
    ends = {TP("clicks", number): end for number, end in archive.ends().items()}

    async def committed(_: TP) -> int | None:
        return None

    running = asyncio.create_task(pipeline.run())
    starts = await pipeline.where(set(ends), dict.fromkeys(ends, 0), ends, committed)
    for tp, start in starts.items():
        records = archive.log[tp.partition][start:]
        for at in range(0, len(records), 7):
            await pipeline.take(tp, Chunk(records[at].offset, tuple(records[at : at + 7]), 1000), lambda: None)
    await pipeline.drain()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    pipeline.close()
    assert failures == []
    return {tp.partition: start for tp, start in starts.items()}


def progress(warehouse: Warehouse) -> dict[int, int]:
    """By partition, the offset behind the last counted record."""
    rows = warehouse.rows("SELECT partition, max(position) FROM progress GROUP BY partition")
    return {partition: (position >> 16) + 1 for partition, position in rows}


def assert_whole(warehouse: Warehouse, expected: Counted) -> None:
    """Rows, tallies and counts are those of the log, and every equation holds."""
    assert_states(warehouse, expected)
    wrong = [one for one in check_warehouse(warehouse, read_reached(warehouse, PARTITIONS), 3) if not one.holds]
    assert wrong == []


def test_migration_changes_no_row_of_0_1_0_and_a_second_one_nothing_at_all(older: Warehouse) -> None:
    tables = {table: told for table, told in columns(older).items() if table != "migrations"}
    before = contents(older, tables)
    assert {name for name, (rows, _) in before.items() if rows} >= {"flattrs", "seals", "erasures", "quarantine_log"}
    ((newest,),) = older.rows("SELECT max(number) FROM migrations")
    applied = [line.removeprefix("applied ")[:4] for line in migrate(older) if line.startswith("applied ")]
    assert applied == [f"{one.number:04}" for one in migrations() if one.number > newest]
    assert applied[:5] == ["0080", "0090", "0091", "0100", "0110"]
    assert contents(older, tables) == before
    key, after = read_identity_key(older), contents(older, columns(older))
    assert [line for line in migrate(older) if line.startswith("applied ")] == []
    assert contents(older, columns(older)) == after
    assert read_identity_key(older) == key


def test_counts_and_receipts_are_those_that_0_1_0_stated(upgraded: Warehouse, archive: Archive) -> None:
    reads: dict[str, Callable[..., dict[str, Any]]] = {
        "creators": creator_counts,
        "things": thing_counts,
        "members": member_counts,
    }
    for name, read in reads.items():
        for month, stated in archive.stated[name].items():
            found = read(upgraded, int(month), list(stated))
            assert {each: list(astuple(one)) for each, one in found.items()} == stated, (name, month)
    for click_id, (status, month) in list(archive.stated["receipts"].items())[::10]:
        receipt = find(upgraded, click_id, (SEPTEMBER, OCTOBER))
        assert receipt is not None
        assert (receipt.status, receipt.month) == (status, month)


def test_closed_month_verifies_and_is_computed_again_to_the_same_hashes(upgraded: Warehouse, archive: Archive) -> None:
    seal, text = archive.stated["seal"]
    proof = stored(upgraded, SEPTEMBER)
    assert proof is not None
    assert (proof.seal, proof.text()) == (seal, text)
    assert verify_month(upgraded, SEPTEMBER).problems == []
    assert closed(upgraded, archive, SEPTEMBER) == proof
    again = rehearse_month(upgraded, SEPTEMBER, clock=lambda: NOVEMBER_MS, log_ends=archive.ends, settings=SETTINGS)
    assert again.digests == proof.digests
    # One line, one unit: the auditor must not be clean because it looks at nothing.
    upgraded.command(
        "ALTER TABLE payouts UPDATE paid_micro = paid_micro + 1 WHERE creator_id = 'creator-1'",
        settings={"mutations_sync": 2},
    )
    assert [problem.split(":")[0] for problem in verify_month(upgraded, SEPTEMBER).problems] == ["payouts", "proof"]


async def test_new_worker_goes_on_where_the_old_one_died_and_the_open_month_closes(
    upgraded: Warehouse, archive: Archive
) -> None:
    pseudonym = pseudonym_of(upgraded)
    stated = progress(upgraded)
    for click, stamp_ms in later_clicks(archive, archive.expected(pseudonym)):
        archive.append(click, stamp_ms)
    assert await count(upgraded, archive) == stated
    expected = archive.expected(pseudonym)
    assert_whole(upgraded, expected)
    assert upgraded.rows("SELECT count() FROM flattrs WHERE month = %(month)s AND member_id = %(member)s",
                         {"month": OCTOBER, "member": ERASED}) == [(0,)]  # fmt: skip
    proof = closed(upgraded, archive, OCTOBER)
    assert proof.balanced
    assert proof.previous == archive.stated["seal"][0]
    assert verify_month(upgraded, OCTOBER).problems == []
    assert verify_month(upgraded, SEPTEMBER).problems == []
    assert upgraded.rows("SELECT count() FROM restated_counts") == [(0,)]
    assert_paid(upgraded, archive, expected, proof, pseudonym)


async def test_log_counted_again_from_its_beginning_counts_nothing_twice(upgraded: Warehouse, archive: Archive) -> None:
    upgraded.command("TRUNCATE TABLE progress")
    assert await count(upgraded, archive) == dict.fromkeys(range(PARTITIONS), 0)
    assert_whole(upgraded, archive.expected(pseudonym_of(upgraded)))
    assert verify_month(upgraded, SEPTEMBER).problems == []


async def test_old_workers_may_go_on_after_the_migration_and_write_once_more_when_they_are_replaced(
    warehouse_server: EmbeddedWarehouse, upgraded: Warehouse, archive: Archive
) -> None:
    insert_rows(warehouse_server, upgraded.database, "meanwhile")
    assert await count(upgraded, archive) == progress_of_the_old(upgraded, archive)
    expected = archive.expected(pseudonym_of(upgraded))
    assert_whole(upgraded, expected)
    insert_rows(warehouse_server, upgraded.database, "meanwhile")
    assert_whole(upgraded, expected)
    assert await count(upgraded, archive) == archive.ends()
    assert closed(upgraded, archive, OCTOBER).balanced
    assert verify_month(upgraded, OCTOBER).problems == []


def progress_of_the_old(warehouse: Warehouse, archive: Archive) -> dict[int, int]:
    """How far the old workers came: short of the log's end, beyond what the first of them had stated."""
    rows = warehouse.rows("SELECT partition, position FROM progress WHERE written_at < %(new)s", {"new": "2026-11-01"})
    reached: dict[int, int] = defaultdict(int)
    for partition, position in rows:
        reached[partition] = max(reached[partition], (position >> 16) + 1)
    assert any(reached[number] < end for number, end in archive.ends().items())
    return dict(reached)


def closed(warehouse: Warehouse, archive: Archive, month: int) -> Proof:
    at_ms = NOVEMBER_MS + GRACE_MS + SETTINGS.close_settle_s * 1000
    return close_month(warehouse, month, clock=lambda: at_ms, log_ends=archive.ends, settings=SETTINGS)


def later_clicks(archive: Archive, expected: Counted) -> Iterator[tuple[Click, int]]:
    """What members send after the upgrade, with the stamps of its records."""
    last_ms = NOVEMBER_MS - 30_000_000
    october = [click for _, click in archive.clicks() if click.received_at >= OCTOBER_MS]
    ordinary = [one for one in october if one.member_id not in {ERASED, FLAGGED} and one.action == "flattr"]
    standing = [
        one for one in ordinary if expected.flattrs[OCTOBER, one.member_id, one.creator_id, one.thing_id]
    ]  # fmt: skip
    taken_back = standing[0].member_id
    # Attempts of clicks that 0.1.0 counted: one that says its time, one whose time is that of each receipt.
    said = next(one for one in ordinary if one.clicked_at < one.received_at and one.client_at is None)
    unsaid = next(one for one in ordinary if one.clicked_at == one.received_at and one.member_id != taken_back)
    yield msgspec.structs.replace(said, received_at=last_ms, sent_at=last_ms), last_ms + 5
    yield msgspec.structs.replace(unsaid, clicked_at=last_ms + 10, received_at=last_ms + 10), last_ms + 15
    # Flattrs of 0.1.0 are taken back: in their month, and from the next one's first hour.
    for flattr, at_ms in ((standing[0], last_ms + 20), (standing[-1], NOVEMBER_MS + 1_200_000)):
        yield make_click(flattr.member_id, flattr.creator_id, at_ms=at_ms, action="undo", thing=flattr.thing,
                         thing_id=flattr.thing_id, clicked_at=at_ms - 900, sent_at=at_ms - 50), at_ms + 7  # fmt: skip
    yield make_click(ERASED, "creator-2", "new", at_ms=last_ms + 30), last_ms + 31
    yield make_click("member-17", "creator-5", "new", at_ms=last_ms + 40), last_ms + 41
    yield make_click("member-new", "creator-6", "new", at_ms=last_ms + 50), last_ms + 51


def assert_paid(warehouse: Warehouse, archive: Archive, expected: Counted, proof: Proof, pseudonym: str) -> None:
    """October's payouts by pledges, flattrs and the written rules alone."""
    ballots: dict[str, Counter[str]] = defaultdict(Counter)
    for (month, member, creator, _), active in expected.flattrs.items():
        if month == OCTOBER and active and member != FLAGGED:
            ballots[member][creator] += 1
    earned: Counter[str] = Counter()
    fees = charity = 0
    pledges = {pseudonym if member == ERASED else member: own for member, own in archive.pledges_micro[OCTOBER].items()}
    for member, pledge in pledges.items():
        fee = pledge // 10
        fees += fee
        shares = divided(pledge - fee, ballots[member], member)
        earned.update(shares)
        charity += 0 if shares else pledge - fee
    due = Counter(earned)
    for creator, _, _, carried, held, _ in archive.stated["payouts"]:
        due[creator] += carried + held
    due["creator-1"] += 1_230_000  # a correction out of the fee, entered in 0.1.0
    rows = warehouse.rows(
        "SELECT creator_id, earned_micro, paid_micro, carried_out_micro, held_out_micro, reason FROM payouts "
        "WHERE month = %(month)s", {"month": OCTOBER},
    )  # fmt: skip
    assert {creator: tuple(line) for creator, *line in rows} == {
        creator: (earned[creator], *outcome(creator, micro)) for creator, micro in due.items()
    }
    assert {outcome(creator, micro)[-1] for creator, micro in due.items()} == {
        "paid", "held", "unclaimed", "below_minimum"
    }  # fmt: skip
    assert (proof.pledged_micro, proof.charity_micro) == (sum(pledges.values()), charity)
    assert proof.fee_micro == fees - 1_230_000


def outcome(creator: str, due: int) -> tuple[int, int, int, str]:
    """What is paid, carried and held, and why: whole cents from EUR 10 on."""
    whole = due // 10_000 * 10_000
    if creator == "creator-4":
        return 0, 0, due, "held"
    if creator == "creator-6":
        return 0, 0, due, "unclaimed"
    return (whole, due - whole, 0, "paid") if whole >= 10_000_000 else (0, due, 0, "below_minimum")


def divided(pool: int, ballot: Mapping[str, int], member: str) -> dict[str, int]:
    """The largest remainder, as docs/design/payout.md tells it."""
    total = sum(ballot.values())
    by_claim = sorted(ballot, key=lambda one: (-(pool * ballot[one] % total), tie(member, one), one))
    left = pool - sum(pool * flattrs // total for flattrs in ballot.values())
    return {one: pool * ballot[one] // total + (place < left) for place, one in enumerate(by_claim)}


def tie(member: str, creator: str) -> int:
    """The 20 bits that order equal remainders."""
    key = (
        xxhash.xxh3_64_intdigest(creator.encode())
        ^ xxhash.xxh3_64_intdigest(f"{OCTOBER}|{member}".encode())
        ^ 0x4CF2D2BAAE6DA887
    )
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        key = (key ^ key >> 33) * factor % (1 << 64)
    return (key ^ key >> 33) >> 44
