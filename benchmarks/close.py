"""How long the month's close takes, against one plain GROUP BY over the same month.

The month is made inside the warehouse: ``pairs`` pairs of member and creator, 17 creators a
member, every fourth pair with a second thing, so that most pools do not divide evenly.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.stack.embedded import EmbeddedWarehouse
from ingest.contract.month import month_start_ms
from ingest.contract.position import position
from warehouse.payout.close.close import close_month
from warehouse.payout.close.months import cutoff_ms
from warehouse.payout.close.proof import Proof
from warehouse.payout.close.settings import CloseSettings
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

MONTH = 202611
CREATORS_PER_MEMBER = 17

_FLATTRS = """
INSERT INTO flattrs
    (month, member_id, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at)
WITH modulo(modulo(xxh3(intDiv(number, {per})), 1000000000) + modulo(number, {per}), {creators}) AS creator
SELECT
    {month},
    concat('m', leftPad(toString(intDiv(number, {per})), 9, '0')) AS member_id,
    concat('c', leftPad(toString(creator), 7, '0')) AS creator_id,
    toFixedString(sipHash128(creator_id, {second} * 1000 + modulo(number, 8)), 16),
    bitShiftLeft(number * 2 + {second}, 16),
    bitShiftLeft(number * 2 + {second}, 16),
    bitShiftLeft(toUInt64({at_ms}), 20),
    reinterpretAsFixedString(toUInt128(number * 2 + {second} + 1)),
    'site',
    fromUnixTimestamp64Milli(toInt64({at_ms}), 'UTC')
FROM numbers({pairs})
WHERE {second} = 0 OR modulo(number, 4) = 0
"""
_COUNTS = {
    "counts_by_member": "INSERT INTO counts_by_member SELECT month, member_id, creator_id, count(), 1 FROM flattrs "
    "WHERE month = {month} GROUP BY month, member_id, creator_id",
    "counts_by_creator": "INSERT INTO counts_by_creator (month, creator_id, partition, flattrs, position) "
    "SELECT month, creator_id, 0, count(), 1 FROM flattrs WHERE month = {month} GROUP BY month, creator_id",
    "counts_by_thing": "INSERT INTO counts_by_thing (month, creator_id, thing_id, partition, flattrs, position) "
    "SELECT month, any(creator_id), thing_id, 0, count(), 1 FROM flattrs WHERE month = {month} "
    "GROUP BY month, thing_id",
    "pledges": "INSERT INTO pledges SELECT {month}, member_id, 1, 2000000, 'EUR', 1 FROM flattrs "
    "WHERE month = {month} GROUP BY member_id",
}
_SCAN = """
SELECT member_id, creator_id, count() FROM flattrs WHERE month = {month} GROUP BY member_id, creator_id FORMAT Null
"""


def fill(warehouse: Warehouse, pairs: int, months: Sequence[int] = (MONTH,)) -> int:
    """Make the months, each with so many pairs, and return the number of flattrs of one."""
    for month in months:
        flattrs = _fill_month(warehouse, pairs, month)
    now = datetime.now(UTC)
    tally: dict[str, Any] = {
        "month": list(months),
        **dict.fromkeys(("accepted", "counted"), [flattrs] * len(months)),
        **dict.fromkeys(("duplicate", "undo", "rejected", "late"), [0] * len(months)),
    }
    warehouse.insert(
        "progress",
        {
            "partition": [0],
            "position": [position(0, 1, 65535)],
            "record_at": [now],
            "written_at": [now],
            **{f"tallies.{name}": [numbers] for name, numbers in tally.items()},
        },
    )
    warehouse.insert(
        "pledge_imports",
        {"version": [1], "sha256": ["bench"], "rows": [1], "months": [list(months)], "imported_at": [now]},
    )
    return flattrs


def _fill_month(warehouse: Warehouse, pairs: int, month: int) -> int:
    values: dict[str, Any] = {
        "month": month,
        "per": CREATORS_PER_MEMBER,
        "creators": max(CREATORS_PER_MEMBER, pairs // 100),
        "at_ms": month_start_ms(month) + 1000,
        "pairs": pairs,
    }
    for second in (0, 1):
        warehouse.command(_FLATTRS.format(**values, second=second), settings={"max_insert_threads": 2})
    for statement in _COUNTS.values():
        warehouse.command(
            statement.format(**values), settings={"optimize_aggregation_in_order": 1, "max_memory_usage": 6_000_000_000}
        )
    ((flattrs,),) = warehouse.rows("SELECT count() FROM flattrs WHERE month = %(month)s", {"month": month})
    return int(flattrs)


def measure(pairs: int, folder: Path) -> dict[str, Any]:
    """Fill, scan and close one month on a server of its own."""
    with EmbeddedWarehouse(folder) as server:
        warehouse = Warehouse(f"{server.url}/bench", timeout_s=3600)
        migrate(warehouse)
        flattrs = fill(warehouse, pairs)
        settled(warehouse)
        process = Path(f"/proc/{server.process.pid if server.process else 0}")
        (process / "clear_refs").write_text("5")
        before_s = scan(warehouse)
        scan_mb = peak_mb(process)
        (process / "clear_refs").write_text("5")
        marks: dict[str, float] = {}
        began = time.perf_counter()
        proof = close(
            warehouse, progress=lambda step, _percent: marks.update({step: round(time.perf_counter() - began, 2)})
        )
        close_s = time.perf_counter() - began
        close_mb = peak_mb(process)
        settled(warehouse)
        # One scan before and one after: what else the machine does weighs on both sides.
        scan_s = (before_s + scan(warehouse)) / 2
        warehouse.close()
        return {
            "pairs": pairs,
            "flattrs": flattrs,
            "members": proof.members,
            "creators": proof.creators,
            "balanced": proof.balanced,
            "scan_s": round(scan_s, 3),
            "close_s": round(close_s, 3),
            "ratio_to_scan": round(close_s / scan_s, 2),
            "peak_memory_mb": close_mb,
            "scan_peak_memory_mb": scan_mb,
            "stages_s": marks,
        }


def close(
    warehouse: Warehouse, month: int = MONTH, progress: Callable[[str, int], None] = lambda _step, _percent: None
) -> Proof:
    """Close a month that ``fill`` made, once it may be."""
    settings = CloseSettings(close_claim_required=False, close_minimum_minor=1)
    end_ms = cutoff_ms(month, settings.grace_s) + settings.close_settle_s * 1000
    return close_month(
        warehouse, month, clock=lambda: end_ms, log_ends=lambda: {0: 1}, settings=settings, progress=progress
    )


def scan(warehouse: Warehouse) -> float:
    """Seconds of the plain GROUP BY, its result thrown away in the server."""
    began = time.perf_counter()
    warehouse.command(_SCAN.format(month=MONTH))
    return time.perf_counter() - began


def settled(warehouse: Warehouse) -> None:
    """Wait until the merges of the fill or of the published month are over: they would be measured too."""
    while warehouse.rows("SELECT count() FROM system.merges")[0][0]:
        time.sleep(0.2)


def peak_mb(process: Path) -> int:
    """The largest resident memory of a process since its mark was cleared."""
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def run(pairs: int = 10_000_000) -> dict[str, Any]:
    """Measure half of the pairs and all of them: twice the pairs take at most twice the time."""
    with tempfile.TemporaryDirectory() as name:
        half = measure(pairs // 2, Path(name) / "half")
        whole = measure(pairs, Path(name) / "whole")
    return {**whole, "half": half, "doubling": round(whole["close_s"] / half["close_s"], 2)}


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:])), indent=1))
