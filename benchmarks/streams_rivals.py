"""What the stream worker is measured against, each a process of its own: the bare loop and plain Faust.

python -m benchmarks.streams_rivals floor BROKER TOPIC CLICKS WAREHOUSE
python -m benchmarks.streams_rivals plain BROKER TOPIC CLICKS
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.producer import ProducerBuffer

from ingest.contract.click import Click, decode_block
from ingest.contract.month import month_of
from ingest.contract.position import position
from warehouse.storage.client import Warehouse

_BATCH_CLICKS = 50_000


async def floor(broker: str, topic: str, clicks: int, url: str) -> dict[str, float]:
    """getmany, msgspec, one columnar insert of every click: no dedupe, no counts, no progress, nothing exact."""
    warehouse = Warehouse(url)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    while not (numbers := consumer.partitions_for_topic(topic)):
        await consumer._client.force_metadata_update()  # noqa: SLF001 - there is no other way
        await consumer.topics()
        consumer._client.add_topic(topic)  # noqa: SLF001 - aiokafka has no public way
    consumer.assign([TopicPartition(topic, number) for number in numbers])
    done, batch = 0, []
    began = 0.0
    while done < clicks:
        for tp, records in (await consumer.getmany(timeout_ms=1000)).items():
            began = began or time.perf_counter()
            for record in records:
                batch += [(click, tp.partition, record.offset) for click in decode_block(record.value)]
        if len(batch) >= _BATCH_CLICKS or done + len(batch) >= clicks:
            warehouse.insert("flattrs", _columns(batch))
            done += len(batch)
            batch = []
    seconds = time.perf_counter() - began
    await consumer.stop()
    warehouse.close()
    return {"clicks_per_s": done / seconds, "clicks": done, "seconds": seconds}


def _columns(batch: list[tuple[Click, int, int]]) -> dict[str, list[Any]]:
    clicks = [click for click, _, _ in batch]
    return {
        "month": [month_of(clicks[0].clicked_at)] * len(clicks),
        "member_id": [click.member_id for click in clicks],
        "creator_id": [click.creator_id for click in clicks],
        "thing_id": [bytes.fromhex(click.thing_id) for click in clicks],
        "first_position": [position(0, offset, 0) for _, _, offset in batch],
        "position": [position(0, offset, 0) for _, _, offset in batch],
        "version": [click.clicked_at << 20 for click in clicks],
        "click_id": [bytes.fromhex(click.click_id.replace("-", "")) for click in clicks],
        "site_id": [click.site_id for click in clicks],
        "clicked_at": [click.clicked_at for click in clicks],
    }


def plain(broker: str, topic: str, clicks: int) -> None:
    """Faust as its manual has it: an agent, a Table to dedupe, a Table to count. It writes to no warehouse."""
    app = faust.App(
        f"plain-{os.getpid()}", broker=f"kafka://{broker}", store="memory://", topic_partitions=1,
        topic_replication_factor=1, table_standby_replicas=0, topic_disable_leader=True, web_enabled=False,
        broker_session_timeout=6, broker_heartbeat_interval=2, datadir=Path(tempfile.mkdtemp()),
    )  # fmt: skip
    # At its default of 100 messages the buffer in front of the changelog can stand still for good.
    ProducerBuffer.max_messages = clicks * 4
    seen = app.Table("seen", default=int)
    counts = app.Table("counts", default=int)
    began = 0.0
    done = 0

    @app.agent(app.topic(topic, value_serializer="json", key_serializer="raw"))
    async def count(stream: Any) -> None:  # noqa: ANN401 - Faust has no types
        nonlocal began, done
        async for click in stream:
            began = began or time.perf_counter()
            key = f"{click['member_id']} {click['thing_id']}"
            if not seen[key]:
                seen[key] = 1
                counts[click["creator_id"]] += 1
            done += 1
            if done == clicks:
                seconds = time.perf_counter() - began
                figures = {"clicks_per_s": done / seconds, "clicks": done, "seconds": seconds}
                os.write(1, json.dumps(figures).encode())  # Faust has taken sys.stdout
                os._exit(0)

    faust.Worker(app, loglevel="ERROR", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    if sys.argv[1] == "floor":
        print(json.dumps(asyncio.run(floor(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))), flush=True)
    else:
        plain(sys.argv[2], sys.argv[3], int(sys.argv[4]))
