"""The evidence: the clients' records, the log, and the warehouse's tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from clickhouse_driver import Client

_NEVER_COUNTED: Final = (1 << 64) - 1
_OFFSET_BITS: Final = (1 << 40) - 1

#: Partition, offset, index in the block.
Place = tuple[int, int, int]
#: Month, member, thing (32 hexadecimal digits).
Key = tuple[int, str, str]


@dataclass(frozen=True)
class Promise:
    """One click that was acknowledged to a client."""

    click_id: str
    member_id: str
    sent: dict[str, Any]
    #: All None when the click was in ingest's spool; only the offset when the broker did not return it.
    partition: int | None
    offset: int | None
    index: int | None
    request: str
    answered_at: int


@dataclass(frozen=True)
class Line:
    """One click as it stands in the log."""

    place: Place
    stamp_ms: int
    click: dict[str, Any]

    @property
    def click_id(self) -> str:
        """The click's id."""
        return str(self.click["click_id"])


@dataclass
class Stated:
    """What the warehouse contains."""

    #: Click id, place and creator of the counted click (None: only undone), and whether it is active.
    flattrs: dict[Key, tuple[str, Place | None, str, bool]] = field(default_factory=dict)
    duplicates: dict[Place, str] = field(default_factory=dict)
    undos: dict[Place, str] = field(default_factory=dict)
    late: set[Place] = field(default_factory=set)
    rejected: set[Place] = field(default_factory=set)
    by_creator: dict[tuple[int, str], int] = field(default_factory=dict)
    by_thing: dict[tuple[int, str], int] = field(default_factory=dict)
    by_member: dict[tuple[int, str, str], int] = field(default_factory=dict)
    #: Counts that a close had to restate, as text.
    restated: list[str] = field(default_factory=list)
    #: (accepted, counted, duplicate, undo, rejected, late) by (partition, month).
    tallies: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    progress: dict[int, int] = field(default_factory=dict)


def read_attempts(folder: Path) -> Iterator[dict[str, Any]]:
    """Every attempt that the clients recorded; a truncated last line is skipped."""
    for path in sorted(folder.glob("answers-*.ndjson")):
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                yield json.loads(line)


def promises(attempts: Iterable[dict[str, Any]]) -> list[Promise]:
    """One promise per receipt of each 202; the same click may be promised several times."""
    found = []
    for attempt in attempts:
        if attempt["status"] != 202:
            continue
        items = _items(attempt["body"])
        found += [
            Promise(
                receipt["click_id"],
                attempt["member_id"],
                items[receipt["item"]],
                receipt["partition"],
                receipt["offset"],
                receipt["index"],
                attempt["request"],
                attempt["answered_at"],
            )
            for receipt in attempt["answer"]["receipts"]
        ]
    return found


def _items(body: str) -> list[dict[str, Any]]:
    if body.startswith("["):
        return list(json.loads(body))
    items = []
    for line in body.split("\n"):
        try:
            items.append(json.loads(line))
        except ValueError:
            items.append({})
    return items


def read_log(broker: str, topic: str, count: int) -> list[Line]:
    """Every click of a topic with ``count`` partitions, in order within each partition."""
    return asyncio.run(_read_log(broker, [TopicPartition(topic, number) for number in range(count)]))


async def _read_log(broker: str, partitions: list[TopicPartition]) -> list[Line]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        lines: list[Line] = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                for record in batch:
                    lines += _lines(record)
    finally:
        await consumer.stop()
    return sorted(lines, key=lambda line: line.place)


def _lines(record: Any) -> Iterator[Line]:  # noqa: ANN401 - aiokafka has no types
    for index, text in enumerate(record.value.split(b"\n")):
        yield Line((record.partition, record.offset, index), record.timestamp, json.loads(text))


def log_ends(broker: str, topic: str, count: int) -> dict[int, int]:
    """The next offset of each partition."""

    async def ask() -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker, enable_auto_commit=False)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(count)])
        finally:
            await consumer.stop()
        return {partition.partition: end for partition, end in ends.items()}

    return asyncio.run(ask())


def counted_to(warehouse_url: str) -> dict[int, int]:
    """Each partition's next offset that the warehouse has not counted."""
    client = Client.from_url(warehouse_url)
    try:
        rows = client.execute("SELECT partition, max(position) FROM progress GROUP BY partition")
    finally:
        client.disconnect()
    return {partition: (position >> 16 & _OFFSET_BITS) + 1 for partition, position in rows}


def read_stated(warehouse_url: str, topic: str, partition_of: Callable[[str], int]) -> Stated:
    """Read everything that the stream wrote."""
    client = Client.from_url(warehouse_url)
    stated = Stated()
    try:
        _read_flattrs(client, stated, partition_of)
        for place, click_id in _places(client, "duplicates"):
            stated.duplicates[place] = click_id
        for place, click_id in _places(client, "undos"):
            stated.undos[place] = click_id
        stated.late = {place for place, _ in _places(client, "late")}
        rows = client.execute(
            "SELECT partition, position FROM rejected FINAL WHERE topic = %(topic)s", {"topic": topic}
        )
        stated.rejected = {_place(partition, position) for partition, position in rows}
        _read_counts(client, stated)
        _read_progress(client, stated)
    finally:
        client.disconnect()
    return stated


def _read_flattrs(client: Client, stated: Stated, partition_of: Callable[[str], int]) -> None:
    rows = client.execute(
        "SELECT month, member_id, lower(hex(thing_id)), creator_id, first_position, active, "
        "toString(UUIDNumToString(click_id)) FROM flattrs FINAL"
    )
    for month, member, thing, creator, first, active, click_id in rows:
        place = None if first == _NEVER_COUNTED else _place(partition_of(member), first)
        stated.flattrs[month, member, thing] = (click_id, place, creator, bool(active))


def _places(client: Client, table: str) -> Iterator[tuple[Place, str]]:
    columns = "'' AS id" if table == "late" else "toString(UUIDNumToString(click_id)) AS id"
    for partition, position, click_id in client.execute(f"SELECT partition, position, {columns} FROM {table} FINAL"):  # noqa: S608 - our own table names
        yield _place(partition, position), click_id


def _read_counts(client: Client, stated: Stated) -> None:
    for month, creator, count in client.execute(
        "SELECT month, creator_id, sum(flattrs) FROM counts_by_creator FINAL GROUP BY month, creator_id"
    ):
        stated.by_creator[month, creator] = count
    for month, thing, count in client.execute(
        "SELECT month, lower(hex(thing_id)), sum(flattrs) FROM counts_by_thing FINAL GROUP BY month, thing_id"
    ):
        stated.by_thing[month, thing] = count
    for month, member, creator, count in client.execute(
        "SELECT month, member_id, creator_id, flattrs FROM counts_by_member FINAL"
    ):
        stated.by_member[month, member, creator] = count
    for month, counts, member, creator, said, count in client.execute(
        "SELECT month, counts, member_id, creator_id, stated, flattrs FROM restated_counts FINAL"
    ):
        stated.restated.append(f"{counts} {month} {member} {creator}: {count} flattrs, stated {said}")


def _read_progress(client: Client, stated: Stated) -> None:
    for partition, position, *columns in client.execute(
        "SELECT partition, position, `tallies.month`, `tallies.accepted`, `tallies.counted`, `tallies.duplicate`, "
        "`tallies.undo`, `tallies.rejected`, `tallies.late` FROM progress FINAL"
    ):
        stated.progress[partition] = (position >> 16 & _OFFSET_BITS) + 1
        for month, *tally in zip(*columns, strict=True):
            stated.tallies[partition, month] = tuple(tally)


def _place(partition: int, position: int) -> Place:
    return partition, position >> 16 & _OFFSET_BITS, position & 0xFFFF
