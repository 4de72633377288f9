"""What 0.1.0 left behind (README.md beside this says how it was made): its tables, its log, and what it stated."""

from __future__ import annotations

import csv
import hashlib
import json
import urllib.request
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy.stack.embedded import EmbeddedWarehouse
from ingest.contract.click import UNREADABLE, Click, decode_block, encode
from ingest.contract.month import month_start_ms
from streams.source.chunk import LogRecord
from tests.support.clicks import partition_of
from tests.support.recount import Counted, recount
from warehouse.storage.client import Warehouse

PARTITIONS: Final = 4
GRACE_MS: Final = 3_600_000
SEPTEMBER, OCTOBER, NOVEMBER = 202609, 202610, 202611
OCTOBER_MS, NOVEMBER_MS = month_start_ms(OCTOBER), month_start_ms(NOVEMBER)
#: Newest migration of 0.1.0.
NEWEST: Final = 70
ERASED: Final = "member-29"
#: In quarantine by hand since October.
FLAGGED: Final = "member-05"
FILE: Final = Path(__file__).parent / "0.1.0.zip"


@dataclass(frozen=True)
class Archive:
    """``stated``: what 0.1.0 answered. ``log``: records of each partition; the last of them no worker had read yet."""

    stated: dict[str, Any]
    log: dict[int, list[LogRecord]]
    pledges_micro: dict[int, dict[str, int]] = field(default_factory=dict)

    def ends(self) -> dict[int, int]:
        """By partition, the offset behind the last record."""
        return {number: len(records) for number, records in self.log.items()}

    def append(self, click: Click, stamp_ms: int) -> None:
        """What ingest of the new version sends: one click in a record."""
        records = self.log[partition_of(click.member_id, PARTITIONS)]
        records.append(LogRecord(len(records), stamp_ms, encode(click)))

    def clicks(self) -> list[tuple[int, Click]]:
        """Stamp and click of all that the stream must not refuse, in each partition's order."""
        return [
            (record.timestamp_ms, click)
            for number, records in self.log.items()
            for record in records
            for click in _readable(record.value)
            if click.member_id != click.creator_id and partition_of(click.member_id, PARTITIONS) == number
        ]

    def expected(self, pseudonym: str) -> Counted:
        """What the whole log comes to, one click after the other, by code that the stream does not share."""
        stamps, clicks = zip(*self.clicks(), strict=True)
        counted = recount([renamed(click, pseudonym) for click in clicks], stamps, grace_ms=GRACE_MS)
        # A click on one's own thing, one in a partition of others, and one line of rubbish.
        counted.tallies.update({(SEPTEMBER, "rejected"): 3, (SEPTEMBER, "accepted"): 3})
        return counted


def read_archive() -> Archive:
    """Read log, answers and pledges."""
    with zipfile.ZipFile(FILE) as archive:
        log: dict[int, list[LogRecord]] = {number: [] for number in range(PARTITIONS)}
        for line in archive.read("log.jsonl").splitlines():
            record = json.loads(line)
            log[record["partition"]].append(LogRecord(record["offset"], record["stamp_ms"], record["value"].encode()))
        pledges: dict[int, Counter[str]] = {SEPTEMBER: Counter(), OCTOBER: Counter()}
        for row in csv.DictReader(archive.read("pledges.csv").decode().splitlines()):
            if row["paid"] == "true":
                month = int(row["month"].replace("-", ""))
                pledges[month][row["member_id"]] = int(Decimal(row["amount"]) * 1_000_000)
        return Archive(json.loads(archive.read("stated.json")), log, {of: dict(own) for of, own in pledges.items()})


def insert_rows(server: EmbeddedWarehouse, database: str, folder: str) -> None:
    """Put rows of 0.1.0 into its tables, naming its columns: ``tables``, or what its workers wrote ``meanwhile``.

    Rows that are not merged yet come in so.
    """
    with zipfile.ZipFile(FILE) as archive:
        for name in archive.namelist():
            if name.startswith(f"{folder}/"):
                query = f"INSERT INTO {Path(name).stem} FORMAT Native\n"
                url = f"http://127.0.0.1:{server.http_port}/?database={database}&optimize_on_insert=0"
                with urllib.request.urlopen(url, query.encode() + archive.read(name)) as answer:
                    answer.read()


def pseudonym_of(warehouse: Warehouse) -> str:
    """Under which name the erased member's rows of October stand."""
    digest = hashlib.sha256(ERASED.encode()).hexdigest()
    ((name,),) = warehouse.rows("SELECT pseudonym FROM erasures WHERE member_sha256 = %(sha)s", {"sha": digest})
    return str(name)


def renamed(click: Click, pseudonym: str) -> Click:
    """The click as it counts: September was closed before the member was erased."""
    if click.member_id != ERASED or click.received_at < OCTOBER_MS:
        return click
    return msgspec.structs.replace(click, member_id=pseudonym)


def _readable(value: bytes) -> list[Click]:
    try:
        return decode_block(value)
    except UNREADABLE:
        return []
