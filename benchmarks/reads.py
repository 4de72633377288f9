"""How the read API answers over a month of many flattrs while the stream goes on writing.

    flattr bench reads --json .bench/reads.json

One `flattr api` process (one worker) on the embedded warehouse, which holds ``flattrs`` flattrs; a writer
states 1,000 more every quarter of a second, with counts and progress, as the stream does. Load comes from
this process, on the same machine: the figures hold the client's cost too.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from hdrh.histogram import HdrHistogram

from benchmarks.http_load import Outcome, drive
from deploy.local import EmbeddedWarehouse, Part, free_port
from ingest.click import month_of, position
from ingest.clock import system_clock
from warehouse.client import Warehouse, named
from warehouse.migrate import migrate

MEMBERS, CREATORS, THINGS, PARTITIONS = 500_000, 50_000, 400_000, 12
WATCHED = "watched"
CHUNK = 1_000_000
_PAGE = {"limit": 10, "after_flattrs": 2**63, "after_id": ""}

_FLATTRS = """
INSERT INTO flattrs
    (month, member_id, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at)
WITH toUInt64(pow(modulo(xxh3(number), 1000003) / 1000003, 3) * {things}) AS thing
SELECT
    {month}, concat('m', toString(modulo(xxh3(number, 1), {members}))),
    concat('c', toString(modulo(thing, {creators}))),
    MD5(toString(thing)), number, number, bitShiftLeft(toUInt64({at_ms}), 20), MD5(concat('k', toString(number))), 's',
    fromUnixTimestamp64Milli(toInt64({at_ms} - modulo(number, 86400000)), 'UTC')
FROM numbers({start}, {count})
"""
_COUNTS = (
    (
        "INSERT INTO counts_by_creator (month, creator_id, partition, flattrs, position) SELECT month, creator_id, "
        "modulo(murmurHash3_32(member_id), 12) AS p, count(), max(position) FROM flattrs GROUP BY month, creator_id, p"
    ),
    (
        "INSERT INTO counts_by_thing (month, creator_id, thing_id, partition, flattrs, position) "
        "SELECT month, creator_id, thing_id, modulo(murmurHash3_32(member_id), 12) AS p, count(), max(position) "
        "FROM flattrs GROUP BY month, creator_id, thing_id, p"
    ),
    (
        "INSERT INTO counts_by_member (month, member_id, creator_id, flattrs, position) SELECT month, member_id, "
        "creator_id, count(), max(position) FROM flattrs GROUP BY month, member_id, creator_id"
    ),
    (
        "INSERT INTO things (thing_id, creator_id, thing) SELECT thing_id, any(creator_id), "
        "concat('https://x.example/', lower(hex(thing_id))) FROM flattrs GROUP BY thing_id"
    ),
)


def run(*, flattrs: int = 10_000_000, seconds: float = 5, subscribers: int = 1000) -> dict[str, Any]:
    """Fill a month, then measure each kind of read, the live stream last."""
    month = month_of(system_clock())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-bench-")))
        server = stack.enter_context(EmbeddedWarehouse(folder / "warehouse"))
        warehouse = Warehouse(f"{server.url}/bench")
        stack.callback(warehouse.close)
        filled_s = _fill(warehouse, month, flattrs)
        api = stack.enter_context(_api(folder, warehouse.url, "api", {}))
        uncached = stack.enter_context(_api(folder, warehouse.url, "uncached", {"FLATTR_API_COUNTERS_TTL_MS": "0"}))
        writer = stack.enter_context(_writing(warehouse.url, month))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(_measure(api.port, uncached.port, seconds))
            figures |= runner.run(_listen(api.port, writer, subscribers, seconds * 2))
        return {
            "flattrs": flattrs, "filled_s": round(filled_s, 1), **figures,
            "rows_read": _rows_read(warehouse, month), "written_rows": writer.written, "cores": os.cpu_count(),
        }  # fmt: skip


def _fill(warehouse: Warehouse, month: int, flattrs: int) -> float:
    started = time.monotonic()
    migrate(warehouse)
    for start in range(0, flattrs, CHUNK):
        values = {"month": month, "at_ms": system_clock(), "start": start, "count": min(CHUNK, flattrs - start)}
        warehouse.command(_FLATTRS.format(**values, things=THINGS, members=MEMBERS, creators=CREATORS))
    for statement in _COUNTS:
        warehouse.command(statement)
    return time.monotonic() - started


@contextmanager
def _api(folder: Path, url: str, name: str, environment: Mapping[str, str]) -> Iterator[Part]:
    port = free_port()
    root = str(Path(__file__).resolve().parents[1])
    told = {**environment, "FLATTR_WAREHOUSE": url, "FLATTR_API_PORT": str(port), "PYTHONPATH": root}
    command = [sys.executable, "-m", "deploy", "api"]
    with Part(name, command, folder=folder / name, port=port, environment=told) as part:
        yield part


class _Writer:
    """States a thousand flattrs and their counts four times a second, as the stream does."""

    def __init__(self, url: str, month: int) -> None:
        self._warehouse = Warehouse(url)
        self._month = month
        self._number = 1 << 40
        self.written = 0
        #: the watched creator's count -> when it was written, by the monotonic clock
        self.stated_at: dict[int, float] = {}
        self.stop = threading.Event()

    def work(self) -> None:
        """Until told to stop."""
        base = 1_000_000_000
        while not self.stop.wait(0.25):
            base += 1
            self._state(base)
        self._warehouse.close()

    def _state(self, count: int) -> None:
        now, rows = system_clock(), 1000
        self._number += rows
        at = datetime.fromtimestamp(now / 1000, UTC)
        creators = [WATCHED, *(f"c{random.randrange(CREATORS)}" for _ in range(rows - 1))]
        things = [random.randbytes(16) for _ in range(rows)]
        positions = list(range(self._number, self._number + rows))
        month = [self._month] * rows
        self._warehouse.insert(
            "flattrs",
            {
                "month": month, "member_id": [f"m{random.randrange(MEMBERS)}" for _ in range(rows)],
                "creator_id": creators, "thing_id": things, "first_position": positions, "position": positions,
                "version": [now << 20] * rows, "click_id": things, "site_id": ["s"] * rows, "clicked_at": [at] * rows,
            },
        )  # fmt: skip
        partitions = [PARTITIONS] + [random.randrange(PARTITIONS) for _ in range(rows - 1)]
        counts: dict[str, Any] = {
            "month": month,
            "creator_id": creators,
            "partition": partitions,
            "position": positions,
        }
        values = [count, *([1] * (rows - 1))]
        self._warehouse.insert("counts_by_thing", {**counts, "thing_id": things, "flattrs": [1] * rows})
        self.stated_at[count] = time.monotonic()
        self._warehouse.insert("counts_by_creator", {**counts, "flattrs": values})
        progress: dict[str, Any] = {"partition": [PARTITIONS], "position": [position(1, self._number >> 16, 65535)]}
        self._warehouse.insert("progress", {**progress, "record_at": [at], "written_at": [at]})
        self.written += rows


@contextmanager
def _writing(url: str, month: int) -> Iterator[_Writer]:
    writer = _Writer(url, month)
    thread = threading.Thread(target=writer.work)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop.set()
        thread.join()


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


def _thing_ids(count: int) -> list[str]:
    from hashlib import md5

    return [md5(str(random.randrange(THINGS)).encode(), usedforsecurity=False).hexdigest() for _ in range(count)]


async def _measure(port: int, uncached_port: int, seconds: float) -> dict[str, Any]:
    creators = [_get(f"/v1/creators/c{random.randrange(CREATORS)}/counts") for _ in range(5000)]
    things = [_get(f"/v1/things/{thing}/counts") for thing in _thing_ids(5000)]
    members = [_get(f"/v1/members/m{random.randrange(MEMBERS)}/counts") for _ in range(5000)]
    # Pages with twenty buttons each: a popular hundred for the cache, many for the warehouse.
    hot = [_get(f"/v1/counters?things={','.join(_thing_ids(20))}") for _ in range(100)]
    cold = [_get(f"/v1/counters?things={','.join(_thing_ids(20))}") for _ in range(5000)]
    await drive(port, creators + things + members, seconds=1, connections=4)
    figures: dict[str, Any] = {}
    for name, requests in (("creator", creators), ("thing", things), ("member", members)):
        figures |= _told(f"{name}_counts", await drive(port, requests, seconds=seconds, connections=4))
    mixed = await drive(port, creators + things + members, seconds=seconds, connections=8)
    figures["counts_per_s"] = round(mixed.per_s(200))
    for name, where, requests, connections in (
        ("counters_from_cache", port, hot, 32),
        ("counters_from_warehouse", uncached_port, cold, 8),
    ):
        outcome = await drive(where, requests, seconds=seconds, connections=connections)
        figures |= _told(name, outcome) | {f"{name}_things_per_s": round(outcome.per_s(200) * 20)}
    return figures


def _told(name: str, outcome: Outcome) -> dict[str, Any]:
    return {
        f"{name}_per_s": round(outcome.per_s(200)),
        f"{name}_p50_ms": round(outcome.quantile_ms(50), 2),
        f"{name}_p99_ms": round(outcome.quantile_ms(99), 2),
        f"{name}_failed": sum(outcome.statuses.values()) - outcome.statuses[200],
    }


class _Subscriber(asyncio.Protocol):
    """One client of the live stream: notes how old each count is when it comes."""

    def __init__(self, writer: _Writer, latency_us: HdrHistogram) -> None:
        self._writer = writer
        self._latency_us = latency_us
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(_get(f"/v1/creators/{WATCHED}/live"))  # type: ignore[attr-defined]  # TCP has write

    def data_received(self, data: bytes) -> None:
        for piece in data.split(b'"flattrs":')[1:]:
            count = int(piece.partition(b",")[0])
            stated_at = self._writer.stated_at.get(count)
            if stated_at is not None:
                self.events += 1
                self._latency_us.record_value(max(1, int((time.monotonic() - stated_at) * 1e6)))


async def _listen(port: int, writer: _Writer, subscribers: int, seconds: float) -> dict[str, Any]:
    """Many clients of one creator."""
    latency_us = HdrHistogram(1, 60_000_000, 3)
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(subscribers):
        transport, client = await loop.create_connection(lambda: _Subscriber(writer, latency_us), "127.0.0.1", port)
        clients.append((transport, client))
    await asyncio.sleep(1)
    latency_us.reset()
    for _, client in clients:
        client.events = 0
    await asyncio.sleep(seconds)
    for transport, _ in clients:
        transport.close()
    events = sum(client.events for _, client in clients)
    return {
        "subscribers": subscribers,
        "subscribers_served": sum(client.events > 0 for _, client in clients),
        "events_per_s": round(events / seconds),
        "count_to_event_p50_ms": round(latency_us.get_value_at_percentile(50) / 1000, 1),
        "count_to_event_p99_ms": round(latency_us.get_value_at_percentile(99) / 1000, 1),
    }


def _rows_read(warehouse: Warehouse, month: int) -> dict[str, int]:
    """Rows that each query would read, by the server's own estimate over its indexes."""
    thing = _thing_ids(1)[0]
    asked: dict[str, dict[str, Any]] = {
        "creator_counts": {"creator_ids": ("c7",)},
        "thing_counts": {"thing_ids": [thing]},
        "member_counts": {"member_ids": ("m7",)},
        "creator_series": {"creator_id": "c7"},
        "creator_things": {"creator_id": "c7", **_PAGE},
        "receipt": {"click_id": "c4ca4238-a0b9-2382-0dcc-509a6f75849b", "months": (month,)},
        "top_creators": _PAGE,
        "top_things": _PAGE,
    }
    read = {}
    for query, params in asked.items():
        lines = warehouse.rows(f"EXPLAIN ESTIMATE {named(query)}", {"month": month, **params})
        read[query] = sum(int(rows) for _, _, _, rows, _ in lines)
    return read
