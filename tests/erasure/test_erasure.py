"""A member is erased: nothing open names them, nothing that counts changes, closed months verify."""

from __future__ import annotations

import functools
import hashlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from ingest.contract.click import Click, encode
from ingest.contract.rejection import Rejection, encode_rejection
from streams.clicks.pseudonyms import ErasureList, Pseudonyms
from streams.clicks.rejections import rejections
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.recovery import Recovery, load_partition
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import Chunk, LogRecord
from streams.state.hash_table import SLOT_WORDS
from streams.state.partition import MonthState, PartitionState
from tests.payout.build import clock_after, closing, flattrs_of, pledge, state_month
from tests.quarantine.build import flag
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, make_click, partition_of, traffic
from tests.support.recount import assert_counted
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.erasure.erase import Erasure, ErasureUnfinished, erase, find
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.close.close import close_month
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import MonthLocked, PayoutRefused
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse
from warehouse.storage.identity_key import read_identity_key

PARTITIONS = 4
MEMBER = "member-7"


class Stream:
    """What a worker does, without Kafka: its state lives on from call to call, until ``restart``."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.list = ErasureList(warehouse)
        self.writer = Writer(warehouse, patience_s=5)
        self.offset = 0
        self.restart()

    def restart(self) -> None:
        self.states = [load_partition(self.warehouse, number) for number in range(PARTITIONS)]

    def count(self, clicks: Iterable[Click], *, know: bool = True, steps: int = 4) -> None:
        """Count one click per record. A worker that does not ``know`` has not read the list yet."""
        erased = self.list.newest() if know else Pseudonyms(read_identity_key(self.warehouse))
        rules = CountingRules(PARTITIONS, 0, 1 << 40, "clicks", erased)
        listed = self.list.newest if know else (lambda: erased)
        recovery = Recovery(self.warehouse, PARTITIONS, self.writer.write, erased=listed)
        records: dict[int, list[LogRecord]] = {}
        for click in clicks:
            own = records.setdefault(partition_of(click.member_id, PARTITIONS), [])
            own.append(LogRecord(self.offset, click.received_at, encode(click)))
            self.offset += 1
        for number, own in records.items():
            rows, state = Rows(), self.states[number]
            count_records(state, own, rules, functools.partial(self._load, recovery, state), rows)
            add_progress(state, 0, rows)
            if steps < 4:
                rows.blocks = {key: block for key, block in rows.blocks.items() if key[0] != "progress"}
            self.writer.write(rows)

    @staticmethod
    def _load(recovery: Recovery, state: PartitionState, month: int) -> MonthState:
        return recovery.load([state], month)[0]


def erased_at_once(warehouse: Warehouse, member: str = MEMBER, patience_s: float = 5) -> Erasure:
    return erase(warehouse, member, PARTITIONS, log_days=100, settle_s=0, patience_s=patience_s)


def renamed(clicks: Iterable[Click], erasure: Erasure, member: str = MEMBER) -> list[Click]:
    return [
        msgspec.structs.replace(click, member_id=erasure.pseudonym) if click.member_id == member else click
        for click in clicks
    ]


def mentions(warehouse: Warehouse, member: str) -> set[str]:
    """Tables in which any text holds the member's id, whoever keeps it and why."""
    columns = warehouse.rows(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND type ILIKE '%%String%%' "
        "AND type NOT ILIKE '%%Tuple%%' AND table NOT IN (SELECT name FROM system.tables WHERE engine = 'View')", {},
    )  # fmt: skip
    return {
        table
        for table, column in columns
        if warehouse.rows(
            f"SELECT 1 FROM {table} WHERE position(toString(`{column}`), %(member)s) > 0 LIMIT 1", {"member": member}
        )
    }


@pytest.mark.parametrize("restarted", [False, True], ids=["the worker runs on", "the worker starts anew"])
def test_clicks_of_an_erased_member_count_as_if_the_pseudonym_had_clicked(
    warehouse: Warehouse, *, restarted: bool
) -> None:
    clicks = traffic(600, members=20, undo=0.1)
    stream = Stream(warehouse)
    stream.count(clicks[:300])
    erasure = erased_at_once(warehouse)
    assert mentions(warehouse, MEMBER) == set()
    if restarted:
        stream.restart()
    stream.count(clicks[300:])
    # The log still has the member's first click and delivers it again under a new id: a duplicate, not a flattr.
    again = [msgspec.structs.replace(next(one for one in clicks if one.member_id == MEMBER), action="flattr")]
    stream.count(again)
    assert mentions(warehouse, MEMBER) == set()
    assert_counted(warehouse, renamed([*clicks, *again], erasure))
    assert all(check.holds for check in check_warehouse(warehouse, read_reached(warehouse, PARTITIONS)))


def test_rows_of_a_worker_that_had_not_read_the_list_are_found_and_moved(warehouse: Warehouse) -> None:
    clicks = traffic(400, members=20, undo=0.1)
    stream = Stream(warehouse)
    stream.count(clicks[:200])
    erasure = erased_at_once(warehouse)
    stream.count(clicks[200:], know=False)
    wrong = [check for check in check_warehouse(warehouse, read_reached(warehouse, PARTITIONS)) if not check.holds]
    assert "rows of erased members that came back" in [check.name for check in wrong]
    assert erasure.id in wrong[-1].detail
    assert erased_at_once(warehouse) == erasure
    assert mentions(warehouse, MEMBER) == set()
    assert_counted(warehouse, renamed(clicks, erasure))


def test_rows_newer_than_progress_wait_for_it_and_are_not_lost(warehouse: Warehouse) -> None:
    """A worker died between flattrs and progress: what it wrote is replayed, counted once, and erased then."""
    clicks = traffic(300, members=10, undo=0.1)
    stream = Stream(warehouse)
    stream.count(clicks[:150])
    stream.count(clicks[150:], steps=3)
    with pytest.raises(ErasureUnfinished, match="newer than what is counted"):
        erased_at_once(warehouse, patience_s=0)
    with pytest.raises(PayoutRefused, match="was interrupted"):
        closed(warehouse, NOVEMBER)
    stream.restart()
    stream.offset = 150
    stream.count(clicks[150:])
    erasure = erased_at_once(warehouse)
    assert mentions(warehouse, MEMBER) == set()
    assert_counted(warehouse, renamed(clicks, erasure))


def closed(warehouse: Warehouse, month: int) -> Proof:
    settings = closing()
    drained = dict.fromkeys(range(PARTITIONS), 0)
    return close_month(
        warehouse, month, clock=clock_after(month, settings), log_ends=lambda: drained, settings=settings
    )


OCTOBER = 202610
BOOKS = {"flattrs", "counts_by_member", "pledges", "pools", "quarantine_set", "quarantine_log"}


def test_closed_months_verify_after_an_erasure_and_the_open_one_closes_under_the_pseudonym(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    for month in (OCTOBER, NOVEMBER):
        state_month(warehouse, month, flattrs_of("mia ada 2\nmia bob 1\nleo ada 1"))
        pledge(warehouse, month, {"mia": 2_000_000, "leo": 3_000_000})
        flag(warehouse, Subject.of(member_id="mia", creator_id="bob"), month=month, reason="mia and bob are one")
        if month == OCTOBER:
            before = closed(warehouse, month)
    lines = warehouse.rows("SELECT * FROM pools ORDER BY ALL")
    found = [(one.table, one.month) for one in find(warehouse, "mia")]
    assert found == sorted(found)
    would = {(one.table, one.month): one.fate for one in find(warehouse, "mia")}
    assert would["flattrs", OCTOBER] == would["pools", OCTOBER] == "stays: closed"
    assert would["flattrs", NOVEMBER] == would["pledges", NOVEMBER] == "goes"
    erasure = erased_at_once(warehouse, "mia")
    assert mentions(warehouse, "mia") == BOOKS
    assert warehouse.rows("SELECT reason FROM quarantine_log WHERE month = 202611") == [
        (f"{erasure.pseudonym} and bob are one",)
    ]
    assert {(one.table, one.month) for one in find(warehouse, "mia")} == {(table, OCTOBER) for table in BOOKS}
    assert verify_month(warehouse, OCTOBER).problems == []
    # Finance's file was made before the erasure; what it says holds, and does not bring the member back.
    pledges = tmp_path / "pledges.csv"
    pledges.write_text("member_id,month,amount,currency,paid\nmia,2026-11,4.00,EUR,yes\n")
    import_pledges(warehouse, pledges, "EUR")
    proof = closed(warehouse, NOVEMBER)
    assert proof.balanced
    assert (proof.pledged_micro, proof.members_unfunded, proof.previous) == (7_000_000, 0, before.seal)
    assert verify_month(warehouse, OCTOBER).problems == verify_month(warehouse, NOVEMBER).problems == []
    assert warehouse.rows("SELECT * FROM pools WHERE month = 202610 ORDER BY ALL") == lines
    assert warehouse.rows("SELECT member_id FROM pools WHERE month = 202611 AND pledge_micro = 4000000") == [
        (erasure.pseudonym,)
    ]


def test_a_close_that_died_after_computing_computes_anew_after_an_erasure(warehouse: Warehouse) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 2\nleo ada 1"))
    pledge(warehouse, NOVEMBER, {"mia": 2_000_000, "leo": 3_000_000})

    class Died(Exception):
        pass

    def die(step: str, _percent: int) -> None:
        if step == "compute":
            raise Died

    settings = closing()
    with pytest.raises(Died):
        close_month(
            warehouse, NOVEMBER, clock=clock_after(NOVEMBER, settings),
            log_ends=lambda: dict.fromkeys(range(PARTITIONS), 0), settings=settings, progress=die,
        )  # fmt: skip
    erased_at_once(warehouse, "mia")
    assert closed(warehouse, NOVEMBER).balanced
    assert mentions(warehouse, "mia") == set()
    assert verify_month(warehouse, NOVEMBER).problems == []


def test_labels_late_and_refused_input_lose_the_name_and_keep_the_click_id(warehouse: Warehouse) -> None:
    late = make_click(MEMBER, thing="late")
    raw = encode(make_click(MEMBER, thing="refused"))
    other = encode(make_click("member-77", thing="refused"))
    common: dict[str, list[object]] = {"month": [NOVEMBER], "partition": [0]}
    for position, name in enumerate((MEMBER, "member-77")):
        row: dict[str, list[object]] = {
            **common,
            "position": [position],
            "click_id": [b"x" * 16],
            "thing_id": [b"t" * 16],
            "member_id": [name],
        }
        warehouse.insert("duplicates", row)
        warehouse.insert("undos", row)
    warehouse.insert("late", {**common, "position": [1], "click": [encode(late)]})
    for position, (bytes_, name, detail) in enumerate(
        ((raw, "", "no"), (b"\xff{", MEMBER, ""), (b"member_id=member-7&x=1", "", ""), (other, "member-77", "stays"))
    ):
        warehouse.insert(
            "rejected",
            {
                **common, "topic": ["clicks"], "position": [position], "rejected_at": [NOVEMBER_MS], "reason": ["r"],
                "detail": [detail], "raw": [bytes_], "member_id": [name], "site_id": [""],
            },
        )  # fmt: skip
    erasure = erased_at_once(warehouse)
    assert "rejected" in mentions(warehouse, "member-77")
    for table in ("duplicates", "undos"):
        found = warehouse.rows(f"SELECT member_id FROM {table} ORDER BY position")
        assert found == [(erasure.pseudonym,), ("member-77",)]
    assert warehouse.rows("SELECT JSONExtractString(click, 'member_id'), UUIDNumToString(click_id) FROM late") == [
        (erasure.pseudonym, late.click_id)
    ]
    retained = warehouse.rows(
        "SELECT JSONExtractString(raw, 'click_id'), member_id, detail FROM rejected ORDER BY position"
    )
    assert retained[0] == (msgspec.json.decode(raw)["click_id"], "", "")
    assert retained[1:3] == [("", "", ""), ("", "", "")]
    assert retained[3][1:] == ("member-77", "stays")
    assert not any(
        re.search(r"member-7\b", str(row)) for row in warehouse.rows("SELECT raw, click FROM rejected, late")
    )


def test_input_of_an_erased_member_that_is_refused_later_is_kept_without_the_name(warehouse: Warehouse) -> None:
    erased_at_once(warehouse)
    stream = Stream(warehouse)
    stream.count([make_click(MEMBER, MEMBER, "own")])
    stream.count([make_click(MEMBER, "x" * 2000)])
    values = [
        encode_rejection(Rejection("token_expired", "of member-7", NOVEMBER_MS, b"{}", member_id=MEMBER)),
        encode_rejection(Rejection("field_type", "", NOVEMBER_MS, encode(make_click(MEMBER)))),
    ]
    records = tuple(LogRecord(offset, NOVEMBER_MS, value) for offset, value in enumerate(values))
    stream.writer.write(rejections(0, Chunk(0, records, 1), 0, stream.list.newest()))
    assert warehouse.rows("SELECT count() FROM rejected") == [(4,)]
    assert warehouse.rows(
        "SELECT count() FROM rejected WHERE position(concat(raw, detail, member_id), 'member-7') > 0"
    ) == [(0,)]


CHILD = """
import os, signal, sys
from warehouse.storage.client import Warehouse
from warehouse.erasure.erase import erase

def step_done(step, _rows):
    print(step, flush=True)
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

erase(Warehouse(sys.argv[1]), "mia", 4, log_days=100, settle_s=0, patience_s=5, step_done=step_done)
"""
STEPS = [
    "listed", "pledges copied", "pledges", "debits", "flattrs copied", "flattrs", "counts copied", "counts",
    "quarantine copied", "quarantine", "quarantine log", "labels", "copies", "done",
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_an_erasure_killed_after_a_step_blocks_the_close_and_is_taken_up(warehouse: Warehouse, step: str) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 2\nmia bob 1\nleo ada 1"), duplicates=2)
    pledge(warehouse, NOVEMBER, {"mia": 2_000_000, "leo": 3_000_000})
    flag(warehouse, Subject.of(member_id="mia", creator_id="bob"), reason="mia and bob are one")
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, warehouse.url, step], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read().splitlines()[-1] == step
    assert child.returncode == -signal.SIGKILL
    if step != "done":
        with pytest.raises(PayoutRefused, match=r"was interrupted|Another close"):
            closed(warehouse, NOVEMBER)
    erasure = _once_unlocked(warehouse)
    assert mentions(warehouse, "mia") == set()
    assert warehouse.rows("SELECT count() FROM erasures") == [(1,)]
    proof = hashlib.sha256(f"{erasure.id}mia".encode()).hexdigest()
    assert warehouse.rows("SELECT DISTINCT proof FROM erasure_log") == [(proof,)]
    sealed = closed(warehouse, NOVEMBER)
    assert sealed.quarantined == 1
    assert (sealed.balanced, sealed.members, sealed.flattrs, sealed.pledged_micro) == (True, 2, 3, 5_000_000)
    assert verify_month(warehouse, NOVEMBER).problems == []


def _once_unlocked(warehouse: Warehouse) -> Erasure:
    """The lock of a killed holder is free once the server has noticed."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return erased_at_once(warehouse, "mia")
        except MonthLocked:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_every_table_that_can_hold_a_member_has_its_fate() -> None:
    """A new column that may name a member belongs into erasure.py and docs/erasure.md, or says here why not."""
    schema = "\n".join(path.read_text() for path in sorted(Path("warehouse/storage/schema").glob("*.sql")))
    tables = re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)\s*\n?\((.*?)\)\s*\nENGINE", schema, flags=re.DOTALL)
    holding = {name for name, columns in tables if re.search(r"\bmember_id\b|\bclick\s+String\b|\braw\s", columns)}
    text = Path("docs/erasure.md").read_text()
    assert holding >= {"flattrs", "pledges", "pools", "late", "rejected"}
    assert [name for name in sorted(holding) if f"`{name}`" not in text] == []


def test_the_pseudonym_cannot_be_erased_again_and_stays_in_the_members_partition(warehouse: Warehouse) -> None:
    erasure = erased_at_once(warehouse)
    assert partition_of(erasure.pseudonym, PARTITIONS) == partition_of(MEMBER, PARTITIONS)
    with pytest.raises(PayoutRefused, match="is itself the pseudonym"):
        erased_at_once(warehouse, erasure.pseudonym)


def test_state_recovered_from_both_names_is_that_of_the_member(warehouse: Warehouse) -> None:
    """Between copy and deletion a month has rows of both names: a worker that starts then counts them once."""
    clicks = traffic(200, members=5, undo=0.1)
    stream = Stream(warehouse)
    stream.count(clicks)
    member = clicks[0].member_id
    before = {one.number: one.months[NOVEMBER] for one in stream.states if NOVEMBER in one.months}

    class Died(Exception):
        pass

    def die(step: str, _rows: int) -> None:
        if step == "flattrs copied":
            raise Died

    with pytest.raises(Died):
        erase(warehouse, member, PARTITIONS, log_days=100, settle_s=0, step_done=die)
    number = partition_of(member, PARTITIONS)
    recovery = Recovery(warehouse, PARTITIONS, lambda _: None, erased=stream.list.newest)
    loaded = recovery.load([load_partition(warehouse, number)], NOVEMBER)[0]
    assert loaded.flattrs.size == before[number].flattrs.size
    assert _sum(loaded) == _sum(before[number])


def _sum(month: MonthState) -> int:
    return int(month.creators.slots[2::SLOT_WORDS].sum())


@pytest.mark.parametrize("nobody", ["", " ", "\t", "\u00a0"])
def test_nobody_is_not_everybody(warehouse: Warehouse, nobody: str) -> None:
    """A shell's variable that was not set would have taken the flags of creators, and all that was ever refused."""
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1"))
    flag(warehouse, Subject.of(creator_id="ada"), month=NOVEMBER, reason="a ring, or so")
    for do in (find, erased_at_once):
        with pytest.raises(PayoutRefused, match="is not 1 to 64 visible ASCII characters"):
            do(warehouse, nobody)
    assert warehouse.rows("SELECT member_id FROM quarantine_log") == [("",)]
    assert warehouse.rows("SELECT count() FROM erasures") == [(0,)]
