"""A database made and used before there was an identity key, with a member whom that version erased."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import count

import pytest

from deploy.stack.embedded import EmbeddedWarehouse
from ingest.contract.click import Click, encode
from ingest.contract.rejection import Rejection, encode_rejection
from ingest.contract.thing import thing_id
from streams.clicks.rejections import rejections
from streams.source.chunk import Chunk, LogRecord
from tests.erasure.test_erasure import PARTITIONS, Stream, closed, erased_at_once, mentions
from tests.payout.build import flattrs_of, partition_of, pledge, state_month
from tests.support.clicks import NOVEMBER, NOVEMBER_MS, make_click
from tests.support.older import database_at
from warehouse.counts.equations import check_warehouse, read_reached
from warehouse.payout.audit.verify import verify_month
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseRefused
from warehouse.storage.migrate import migrate

MEMBER = "mia"
PSEUDONYM = next(name for name in map("erased-{}".format, count()) if partition_of(name) == partition_of(MEMBER))
ID = "8f3c9d52-7a3e-4a51-9d56-3f0f7b6a2c11"
#: As `flattr member erase` listed a member then.
LIST = f"""
INSERT INTO erasures (erasure, member_hash, member_sha256, pseudonym, open_from, listed_at, forget_at)
SELECT '{ID}', murmurHash3_128('{MEMBER}'), '{hashlib.sha256(MEMBER.encode()).hexdigest()}', '{PSEUDONYM}', 0, now(),
    now() + INTERVAL 100 DAY
"""


@pytest.fixture
def older(warehouse_server: EmbeddedWarehouse) -> Iterator[Warehouse]:
    """Migrations 0001 to 0070, a month with flattrs, and mia's of them under a pseudonym."""
    with database_at(warehouse_server, "older", 70) as warehouse:
        state_month(warehouse, NOVEMBER, flattrs_of(f"{PSEUDONYM} ada 2\nleo ada 1\nleo bob 1"))
        pledge(warehouse, NOVEMBER, {PSEUDONYM: 2_000_000, "leo": 3_000_000})
        warehouse.command(LIST)
        warehouse.command(f"INSERT INTO erasure_log (erasure, step, at) SELECT '{ID}', 'done', now64(6)")
        yield warehouse


def click(member: str, creator: str, number: int) -> Click:
    """On one of the things of `state_month`."""
    address = f"https://{creator}.example/{number}"
    return make_click(member, creator, thing=address, thing_id=thing_id(creator, address), at_ms=NOVEMBER_MS + 1)


def made_clicks() -> list[Click]:
    """A repeat, something new, what is refused, and others' clicks beside them."""
    return [click(MEMBER, "ada", 0), click(MEMBER, "bob", 7), click(MEMBER, MEMBER, 1), click("leo", "ada", 5),
            click("leo", "ada", 0)]  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True], ids=["the worker runs on", "the worker starts anew"])
def test_erased_member_of_an_older_version_is_counted_and_closed_under_the_pseudonym(
    older: Warehouse, *, restarted: bool
) -> None:
    migrate(older)
    stream = Stream(older)
    stream.offset = 100
    clicks = made_clicks()
    stream.count(clicks[:2])
    if restarted:
        stream.restart()
    stream.count([*clicks[2:], click(MEMBER, "bob", 7)])
    assert mentions(older, MEMBER) == set()
    found = older.rows(
        "SELECT creator_id, flattrs FROM counts_by_member FINAL WHERE member_id = %(p)s", {"p": PSEUDONYM}
    )
    assert dict(found) == {"ada": 2, "bob": 1}
    assert older.rows("SELECT creator_id, sum(flattrs) FROM counts_by_creator FINAL GROUP BY 1 ORDER BY 1") == [
        ("ada", 4), ("bob", 2)
    ]  # fmt: skip
    assert older.rows("SELECT reason, JSONExtractString(raw, 'member_id') FROM rejected") == [("own_thing", "")]
    assert all(check.holds for check in check_warehouse(older, read_reached(older, PARTITIONS)))
    proof = closed(older, NOVEMBER)
    assert (proof.balanced, proof.members, proof.flattrs, proof.counted, proof.duplicate) == (True, 2, 6, 6, 3)
    assert verify_month(older, NOVEMBER).problems == []


def test_refused_input_of_such_a_member_is_kept_without_the_name(older: Warehouse) -> None:
    migrate(older)
    erased = Stream(older).list.newest()
    values = [
        encode_rejection(Rejection("token_expired", f"of {MEMBER}", NOVEMBER_MS, b"{}", member_id=MEMBER)),
        encode_rejection(Rejection("field_type", "", NOVEMBER_MS, encode(click(MEMBER, "ada", 0)))),
        encode_rejection(Rejection("field_type", "", NOVEMBER_MS, encode(click(PSEUDONYM, MEMBER, 0)))),
    ]
    rows = rejections(
        0, Chunk(0, tuple(LogRecord(at, NOVEMBER_MS, value) for at, value in enumerate(values)), 1), 0, erased
    )
    Stream(older).writer.write(rows)
    assert mentions(older, MEMBER) == set()


def test_rows_that_come_back_under_such_an_id_are_found_and_taken_by_the_same_command(older: Warehouse) -> None:
    migrate(older)
    state_month(older, 202612, flattrs_of(f"{MEMBER} ada 1"))
    wrong = [check for check in check_warehouse(older, read_reached(older, PARTITIONS)) if not check.holds]
    assert [(check.name, check.detail) for check in wrong] == [
        ("rows of erased members that came back", f"erasure {ID}: 2")
    ]
    assert erased_at_once(older, MEMBER).pseudonym == PSEUDONYM
    assert mentions(older, MEMBER) == set()
    assert all(check.holds for check in check_warehouse(older, read_reached(older, PARTITIONS)))


def test_command_of_the_older_version_can_list_nobody_any_more(older: Warehouse) -> None:
    migrate(older)
    with pytest.raises(WarehouseRefused, match="keyed"):
        older.command(LIST.replace(ID, ID.replace("8", "9")))


def test_worker_of_the_older_version_still_reads_its_own_rows(older: Warehouse) -> None:
    migrate(older)
    erased_at_once(older, "leo")
    listed = older.rows("SELECT hex(member_hash), pseudonym, open_from FROM erasures ORDER BY listed_at, erasure")
    assert [len(bytes.fromhex(digest)) for digest, _, _ in listed] == [16, 16]
    assert listed[0][1] == PSEUDONYM
    assert bytes.fromhex(listed[0][0]) != bytes(16)
