"""Counts as the API answers them, beside the plain statement over merged rows, while the stream writes.

The plain statement is ``FINAL``: ClickHouse's own word for what merging leaves. Each answer must be a state that was
true between the question and the answer, and when nobody writes exactly what the plain statement says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import pytest

from ingest.contract.month import month_start_ms, month_text
from ingest.contract.position import position
from ingest.contract.thing import thing_id
from tests.api.conftest import settings_for
from tests.payout.build import PARTITIONS, Flattr, state_month
from tests.quarantine.build import flag
from tests.quarantine.test_reads import FLATTRS
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.erasure.erase import erase
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

NOVEMBER, DECEMBER = 202611, 202612
PLAIN: Final = {
    "creators": "SELECT sum(flattrs) FROM counts_by_creator FINAL WHERE month = %(month)s AND creator_id = %(name)s",
    "things": "SELECT sum(flattrs) FROM counts_by_thing FINAL WHERE month = %(month)s AND thing_id = unhex(%(name)s)",
    "members": "SELECT sum(flattrs) FROM counts_by_member FINAL WHERE month = %(month)s AND member_id = %(name)s",
}
HELD: Final = """
SELECT count() FROM (
    SELECT member_id FROM flattrs FINAL
    WHERE month = %(month)s AND bitTest(version, 19) = 0 AND {column} = {name}
      AND (month, member_id, creator_id, thing_id) IN (SELECT month, member_id, creator_id, thing_id FROM quarantined)
)"""
COLUMNS: Final = {
    "creators": ("creator_id", "%(name)s"),
    "things": ("thing_id", "unhex(%(name)s)"),
    "members": ("member_id", "%(name)s"),
}
#: What the concurrent writers write: names that no flattr has, so that only counts decide.
BUSY: Final = {"creators": "busy", "things": "ab" * 16, "members": "busy"}
STEPS: Final = 25


def plain(warehouse: Warehouse, kind: str, month: int, name: str) -> tuple[int, int]:
    """Flattrs outside quarantine and in it, by statements that nothing was done to for speed."""
    where = {"month": month, "name": name}
    column, value = COLUMNS[kind]
    stated, held = (
        int(warehouse.rows(sql, where)[0][0]) for sql in (PLAIN[kind], HELD.format(column=column, name=value))
    )
    return stated - held, held


class Stream:
    """States a count of one name again and again, in several partitions by one insert, so that no state is half."""

    def __init__(self, warehouse: Warehouse, kind: str, month: int, seed: int) -> None:
        self.kind = kind
        self.month = month
        self.states = [plain(warehouse, kind, month, BUSY[kind])[0]]
        #: how many of ``states`` were begun and how many are written
        self.begun = self.written = 1
        self._warehouse = Warehouse(warehouse.url)
        self._random = random.Random(seed)
        # A later stream goes on behind an earlier one.
        self._offset = 1000 * seed
        self._last: dict[str, list[Any]] = {}

    def write(self) -> None:
        """Some flattrs and undos, each state different from all before; now and then a replay of an older flush."""
        for _ in range(STEPS):
            total = self._random.choice([n for n in range(1000) if n not in self.states])
            first, second = (self._random.randrange(total + 1) for _ in range(2))
            parts = [min(first, second), abs(first - second), total - max(first, second)]
            self.states.append(total)
            self.begun += 1
            before = self._last
            self._offset += 1
            self._insert(parts)
            self.written += 1
            if before and self._random.random() < 0.3:
                self._warehouse.insert(self._table(), before)
        self._warehouse.close()

    def _table(self) -> str:
        return f"counts_by_{self.kind.removesuffix('s')}"

    def _insert(self, parts: list[int]) -> None:
        name: Any = BUSY[self.kind]
        columns: dict[str, list[Any]] = {
            "month": [self.month] * len(parts),
            "flattrs": parts,
            "position": [position(0, self._offset, 0)] * len(parts),
        }
        if self.kind == "members":
            columns |= {"member_id": [name] * len(parts), "creator_id": [f"of-{part}" for part in range(len(parts))]}
        else:
            columns |= {"creator_id": ["busy"] * len(parts), "partition": list(range(len(parts)))}
        if self.kind == "things":
            columns["thing_id"] = [bytes.fromhex(name)] * len(parts)
        self._last = columns
        self._warehouse.insert(self._table(), columns)


class Api:
    """The API at a settable time."""

    def __init__(self, url: str, at: Callable[[int], None]) -> None:
        self._url = url
        self.at = at

    def count(self, kind: str, name: str, month: int | None) -> tuple[int, int]:
        """Flattrs and those in quarantine."""
        asked = "" if month is None else f"?month={month_text(month)}"
        body = ask(f"{self._url}/v1/{kind}/{name}/counts{asked}").json
        assert month is None or body["month"] == month_text(month)
        return body["flattrs"], body["quarantined"]


@contextmanager
def api_of(warehouse: Warehouse) -> Iterator[Api]:
    now = [month_start_ms(NOVEMBER) + 1_000_000]
    app = create_app(settings_for(warehouse, api_pitch_ms=5))
    app.state.reads.clock = lambda: now[0]

    def at(ms: int) -> None:
        now[0] = ms

    with serving(app) as url:
        yield Api(url, at)


def watch(api: Api, stream: Stream, month: int | None) -> int:
    """Ask while the stream writes; returns how many answers were checked."""
    asked = 0
    while stream.written <= STEPS:
        written = stream.written
        flattrs, _ = api.count(stream.kind, BUSY[stream.kind], month)
        possible = stream.states[written - 1 : stream.begun]
        assert flattrs in possible, f"{stream.kind}: {flattrs} is none of {possible}"
        asked += 1
    return asked


def names(kind: str) -> set[str]:
    """Everybody that has counts, and one who has none."""
    of: dict[str, Callable[[Flattr], str]] = {
        "creators": lambda row: row.creator_id,
        "things": lambda row: thing_id(row.creator_id, row.thing),
        "members": lambda row: row.member_id,
    }
    return {of[kind](row) for row in FLATTRS} | {BUSY[kind], "0" * 32}


def agree(warehouse: Warehouse, api: Api) -> dict[str, int]:
    """Compare every count of both months; returns the sum by kind."""
    sums = dict.fromkeys(PLAIN, 0)
    for kind in PLAIN:
        for month in (NOVEMBER, DECEMBER):
            with ThreadPoolExecutor(8) as asking:
                answers = {name: asking.submit(api.count, kind, name, month) for name in names(kind)}
            for name, answer in answers.items():
                assert answer.result() == plain(warehouse, kind, month, name), (kind, month, name)
                sums[kind] += answer.result()[0]
    return sums


def all_write(warehouse: Warehouse, api: Api, month: int, asked_for: int | None, seed: int) -> None:
    """All three kinds at once, each with a writer and two readers."""
    streams = [Stream(warehouse, kind, month, seed + place) for place, kind in enumerate(PLAIN)]
    with ThreadPoolExecutor(9) as workers:
        readers = [workers.submit(watch, api, stream, asked_for) for stream in streams for _ in range(2)]
        writers = [workers.submit(stream.write) for stream in streams]
    for done in writers:
        done.result()
    assert all(reader.result() > 0 for reader in readers)


@pytest.mark.parametrize("seed", [1, 2])
def test_counts_are_those_of_the_plain_statement_whatever_happens_meanwhile(warehouse: Warehouse, seed: int) -> None:
    state_month(warehouse, NOVEMBER, FLATTRS)
    with api_of(warehouse) as api:
        before = agree(warehouse, api)
        all_write(warehouse, api, NOVEMBER, None, seed)
        after = agree(warehouse, api)
        assert all(after[kind] > before[kind] for kind in PLAIN)

        flag(warehouse, Subject.of(creator_id=FLATTRS[0].creator_id))
        held = agree(warehouse, api)
        assert all(held[kind] < after[kind] for kind in PLAIN)
        all_write(warehouse, api, NOVEMBER, NOVEMBER, seed + 10)
        agree(warehouse, api)

        gone = FLATTRS[-1].member_id
        assert api.count("members", gone, NOVEMBER) != (0, 0)
        erase(warehouse, gone, PARTITIONS, log_days=100, settle_s=0, patience_s=60)
        assert api.count("members", gone, NOVEMBER) == (0, 0)
        agree(warehouse, api)

        api.at(month_start_ms(DECEMBER) + 1000)
        assert api.count("creators", BUSY["creators"], None) == (0, 0)
        all_write(warehouse, api, DECEMBER, None, seed + 20)
        agree(warehouse, api)
