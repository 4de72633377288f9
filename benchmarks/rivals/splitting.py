"""The split of a month's pools: `flattr month close` against the same in DuckDB and in Polars, to the micro-euro.

The same flattrs lie in ClickHouse and in a Parquet file. The rivals do a part of the close: they merge the versions of
each flattr, split the pools, and write shares and takes. They check nothing, and know no ledger, recount or seal.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from benchmarks.close import MONTH, close, fill, settled
from benchmarks.rivals.tools import SOURCES, SPLIT_PYTHONS, python
from deploy.stack.embedded import HOST, EmbeddedWarehouse
from warehouse.payout.close.stages import Stage
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

RIVALS: Final = ("duckdb", "polars")
#: Neither rival has the hash that breaks ties, so they get it with each flattr; names of things as two numbers.
_FLATTRS: Final = f"""
SELECT member_id, creator_id, version,
    reinterpretAsUInt64(substring(thing_id, 1, 8)) AS thing_low,
    reinterpretAsUInt64(substring(thing_id, 9, 8)) AS thing_high,
    toUInt32(bitShiftRight(intHash64(bitXor(xxh3(creator_id), xxh3(concat('{MONTH}|', member_id)))), 44)) AS tie
FROM flattrs WHERE month = {MONTH} FORMAT Parquet
"""  # noqa: S608 - our own words
_PLEDGES: Final = (
    f"SELECT member_id, toInt64(amount_micro) AS amount_micro FROM pledges WHERE month = {MONTH} FORMAT Parquet"  # noqa: S608 - our own words
)
#: Shares that one side has and the other has not, and the same of takes.
_WRONG: Final = f"""
SELECT
    (SELECT count() FROM (
        SELECT sum(side) FROM (
            SELECT member_id, creator_id, micro, 1 AS side FROM rival_shares
            UNION ALL
            SELECT member_id, creator, toInt64(own), -1 FROM pools ARRAY JOIN creators AS creator, creator_micro AS own
            WHERE month = {MONTH}
        ) GROUP BY member_id, creator_id, micro HAVING sum(side) != 0
    )),
    (SELECT count() FROM (
        SELECT sum(side) FROM (
            SELECT creator_id, micro, 1 AS side FROM rival_takes
            UNION ALL
            SELECT creator_id, toInt64(earned_micro), -1 FROM payouts WHERE month = {MONTH}
        ) GROUP BY creator_id, micro HAVING sum(side) != 0
    ))
"""  # noqa: S608 - our own words


def run(*, pairs: int, rounds: int, fetch: bool) -> dict[str, Any]:
    """Close a month of so many pairs, split the same in the rivals, compare all amounts. Raises ``Missing``."""
    interpreter = python("split", SPLIT_PYTHONS, fetch=fetch)
    with tempfile.TemporaryDirectory(prefix="flattr-bench-") as name:
        folder = Path(name)
        with EmbeddedWarehouse(folder / "warehouse") as server:
            warehouse = Warehouse(f"{server.url}/bench", timeout_s=3600)
            migrate(warehouse)
            flattrs = fill(warehouse, pairs)
            settled(warehouse)
            _ask(server, _FLATTRS, to=folder / "flattrs.parquet")
            _ask(server, _PLEDGES, to=folder / "pledges.parquet")
            # Before the close and after it: what else the machine does weighs on both sides.
            seconds = {rival: [_split(rival, interpreter, folder) for _ in range(rounds)] for rival in RIVALS}
            ours = _closed(warehouse)
            settled(warehouse)
            figures: dict[str, Any] = {"pairs": pairs, "flattrs": flattrs, **ours}
            for rival in RIVALS:
                seconds[rival] += [_split(rival, interpreter, folder) for _ in range(rounds)]
                median_s = statistics.median(seconds[rival])
                figures |= {
                    f"{rival}_split_s": round(median_s, 3),
                    f"{rival}_split_to_close": round(median_s / ours["close_s"], 2),
                    f"{rival}_split_to_ours": round(median_s / ours["split_s"], 2),
                    f"{rival}_wrong_amounts": _wrong(server, warehouse, folder / rival),
                }
            warehouse.close()
    return figures


def _closed(warehouse: Warehouse) -> dict[str, float]:
    """Seconds of the whole close, and of its split: from the gate's end to the payouts."""
    marks: dict[str, float] = {}
    began = time.perf_counter()
    close(warehouse, progress=lambda step, _percent: marks.update({step: time.perf_counter() - began}))
    return {
        "close_s": round(time.perf_counter() - began, 3),
        "split_s": round(marks["payouts"] - marks[Stage.GATE], 3),
    }


def _split(rival: str, interpreter: Path, folder: Path) -> float:
    """Seconds of one split by its own clock: a process's start is no part of it, on either side."""
    command = [str(interpreter), "-P", str(SOURCES / f"{rival}_split.py"), str(folder), str(folder / rival)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)  # noqa: S603 - our own
    if done.returncode:
        raise RuntimeError(f"{rival} ended with code {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout)


def _wrong(server: EmbeddedWarehouse, warehouse: Warehouse, folder: Path) -> int:
    """How many amounts differ from the close's, by member and creator, and by creator."""
    for table, columns in (("shares", "member_id String, creator_id String"), ("takes", "creator_id String")):
        warehouse.command(f"CREATE OR REPLACE TABLE rival_{table} ({columns}, micro Int64) ENGINE = Memory")
        _ask(server, f"INSERT INTO rival_{table} FORMAT Parquet", body=(folder / f"{table}.parquet").read_bytes())
    ((shares, takes),) = warehouse.rows(_WRONG)
    warehouse.command("DROP TABLE rival_shares")
    warehouse.command("DROP TABLE rival_takes")
    return int(shares) + int(takes)


def _ask(server: EmbeddedWarehouse, query: str, *, to: Path | None = None, body: bytes = b"") -> None:
    """One query over HTTP, which knows Parquet."""
    words = urllib.parse.urlencode({"database": "bench", "query": query})
    address = f"http://{HOST}:{server.http_port}/?{words}"
    with urllib.request.urlopen(address, data=body, timeout=600) as answer:
        if to is None:
            answer.read()
            return
        with to.open("wb") as file:
            while block := answer.read(1 << 20):
                file.write(block)
