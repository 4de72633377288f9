"""A million hostile requests against one real ingest worker and a real broker.

    flattr bench fuzz --inputs 1000000 --seed 1 --json .bench/fuzz.json

Never a 5xx; a reason with every refusal; memory that stays where it was after the first tenth; and every click
that was acknowledged stands in the log where its receipt says.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.fuzz_inputs import Fuzz
from benchmarks.ingest import PARTITIONS, _memory_mb, served, some_broker
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ServiceProcess
from ingest.contract.click import decode_block
from ingest.contract.rejection import Reason
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import keygen

CONNECTIONS: Final = 48
#: Requests under way at a time on each connection.
IN_FLIGHT: Final = 4
_TRIES_MAX: Final = 4
_ANSWER_TIMEOUT_S: Final = 30
_REASONS: Final = frozenset(reason.value for reason in Reason)
_SHOWN_MAX: Final = 20


def run(*, inputs: int = 1_000_000, seed: int = 1, broker: str = "") -> dict[str, Any]:
    """Send so many and look at every answer. ``broker`` as in `flattr bench ingest`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flattr-fuzz-")))
        address, kind = stack.enter_context(some_broker(folder, broker))
        asyncio.run(create_topics(address, [TopicPlan("clicks", PARTITIONS), TopicPlan("rejected", 1)]))
        keygen(folder / "keys.json", algorithm="HS256", kid="fuzz")
        environment = {
            "FLATTR_BROKER": address,
            "FLATTR_TOKEN_KEYS": str(folder / "keys.json"),
            "FLATTR_INGEST_IDEMPOTENCE": str(kind != "embedded").lower(),
            # What is asked is how input is read; the limits have tests of their own.
            "FLATTR_INGEST_MEMBER_CLICKS_PER_S": "0",
        }
        part = stack.enter_context(served("ingest", folder, environment))
        key = json.loads((folder / "keys.json").read_bytes())["fuzz"]["k"]
        secret = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(_fire(part, Fuzz(seed, secret, "fuzz", system_clock()).requests(inputs), inputs))
            lines = runner.run(_read_log(address))
    return {**_figures(found, lines), "inputs": inputs, "seed": seed, "broker": kind, "cores": os.cpu_count()}


@dataclass
class Found:
    """What came back. A receipt is (partition, offset, index), and which click it names."""

    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    receipts: dict[tuple[int, int, int], int] = field(default_factory=dict)
    pixels: int = 0
    without_reason: int = 0
    unanswered: int = 0
    again: int = 0
    examples: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def show(self, why: str, request: bytes, answer: bytes) -> None:
        """Keep an example of what must not be."""
        if len(self.examples) < _SHOWN_MAX:
            self.examples.append(f"{why}: {request[:600]!r} -> {answer[:300]!r}")

    def take(self, request: bytes, status: int, body: bytes) -> None:
        """Note one answer."""
        self.statuses[status] += 1
        if status == 200 and body.startswith(b"GIF"):
            self.pixels += 1
            return
        try:
            said = json.loads(body) if body else {}
        except ValueError:
            said = {}
        refused = said.get("refused") or ([said] if status >= 400 else [])
        for receipt in said.get("receipts", ()):
            at = (receipt["partition"], receipt["offset"], receipt["index"])
            self.receipts[at] = UUID(receipt["click_id"]).int
        if status >= 500:
            self.show("5xx", request, body)
        if any(one.get("reason") not in _REASONS for one in refused):
            self.without_reason += 1
            self.show("no reason", request, body)
        self.reasons.update(str(one.get("reason")) for one in refused)


async def _fire(part: ServiceProcess, requests: Iterator[bytes], count: int) -> Found:
    """Deal the requests to the connections; measure memory after each tenth."""
    found, began = Found(), time.perf_counter()
    sent = 0

    def counted() -> Iterator[bytes]:
        nonlocal sent
        for request in requests:
            sent += 1
            if sent % max(1, count // 10) == 0 and len(found.memory_mb) < 9:
                found.memory_mb.append(_memory_mb(part))
            yield request

    dealt = counted()
    await asyncio.gather(*(_Connection(part.port, found).run(dealt) for _ in range(CONNECTIONS)))
    found.memory_mb.append(_memory_mb(part))
    found.seconds = time.perf_counter() - began
    return found


class _Connection:
    """Keeps one connection busy, and makes it anew when the server has closed it, as it may after a refusal."""

    def __init__(self, port: int, found: Found) -> None:
        self._port = port
        self._found = found
        #: Sent and not answered, with how often each was tried.
        self._waiting: deque[tuple[bytes, int]] = deque()

    async def run(self, requests: Iterator[bytes]) -> None:
        """Send until there are no more, and everything is answered."""
        left = True
        while left or self._waiting:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            again, self._waiting = self._waiting, deque()
            try:
                for request, tries in again:
                    self._send(writer, request, tries)
                while left or self._waiting:
                    while left and len(self._waiting) < IN_FLIGHT:
                        request_ = next(requests, None)
                        left = request_ is not None
                        if request_ is not None:
                            self._send(writer, request_, 1)
                    if self._waiting:
                        await self._receive(reader)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self._found.again += len(self._waiting)
                self._give_up()
            finally:
                writer.close()

    def _send(self, writer: asyncio.StreamWriter, request: bytes, tries: int) -> None:
        self._waiting.append((request, tries))
        writer.write(request)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            at = lower.find(b"content-length: ")
            length = int(lower[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            body = await reader.readexactly(length)
        request, _ = self._waiting.popleft()
        self._found.take(request, int(head[9:12]), body)

    def _give_up(self) -> None:
        """The first one was due: when that has gone wrong often, it is the one that gets no answer."""
        if not self._waiting:
            return
        request, tries = self._waiting.popleft()
        if tries < _TRIES_MAX:
            self._waiting.appendleft((request, tries + 1))
        else:
            self._found.unanswered += 1
            self._found.show("no answer", request, b"")


async def _read_log(broker: str) -> dict[tuple[int, int, int], int]:
    """Every click of the log by its place."""
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
    lines: dict[tuple[int, int, int], int] = {}
    try:
        await consumer.start()
        partitions = [TopicPartition("clicks", number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                for record in records:
                    for index, click in enumerate(decode_block(record.value)):
                        lines[partition.partition, record.offset, index] = UUID(click.click_id).int
    finally:
        await consumer.stop()
    return lines


def _figures(found: Found, lines: dict[tuple[int, int, int], int]) -> dict[str, Any]:
    at_their_place = sum(lines.get(at) == click for at, click in found.receipts.items())
    # A pixel's answer is a picture; its click is one of the log's that no receipt names.
    of_pixels = min(found.pixels, len(lines) - len(found.receipts.keys() & lines.keys()))
    first_mb, last_mb = found.memory_mb[0], found.memory_mb[-1]
    return {
        "answers": {str(status): answers for status, answers in sorted(found.statuses.items())},
        "reasons": dict(found.reasons.most_common()),
        "status_5xx": sum(answers for status, answers in found.statuses.items() if status >= 500),
        "without_reason": found.without_reason,
        "unanswered": found.unanswered,
        "sent_again": found.again,
        "accepted": len(found.receipts) + found.pixels,
        "in_log": at_their_place + of_pixels,
        "memory_mb": found.memory_mb,
        "memory_growth_percent": round((last_mb / first_mb - 1) * 100, 2),
        "seconds": round(found.seconds, 1),
        "inputs_per_s": round(sum(found.statuses.values()) / found.seconds),
        "examples": found.examples,
    }
