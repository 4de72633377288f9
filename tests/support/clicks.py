"""Clicks for tests: made up, but as ingest would write them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from ingest.contract.click import Click, encode
from ingest.contract.thing import thing_id

NOVEMBER_MS = 1_793_491_200_000  # 2026-11-01T00:00:00Z
NOVEMBER = 202611


def make_click(
    member: str = "anna", creator: str = "bert", thing: str = "a", *, at_ms: int = NOVEMBER_MS, **fields: object
) -> Click:
    """A well-formed click; ``fields`` replace what is said otherwise."""
    values: dict[str, object] = {
        "v": 1,
        "click_id": str(uuid.uuid4()),
        "action": "flattr",
        "member_id": member,
        "creator_id": creator,
        "thing": f"https://{creator}.example/{thing}",
        "thing_id": thing_id(creator, thing),
        "site_id": "site",
        "clicked_at": at_ms,
        "received_at": at_ms,
        **fields,
    }
    return Click(**values)  # type: ignore[arg-type]


def traffic(count: int, *, seed: int = 1, members: int = 50, creators: int = 8, undo: float = 0.0) -> list[Click]:
    """Random clicks with repeats: some retried with their click id, some clicked anew."""
    rng = random.Random(seed)
    clicks: list[Click] = []
    for number in range(count):
        if clicks and rng.random() < 0.05:
            clicks.append(rng.choice(clicks))
            continue
        creator = f"creator-{int(rng.paretovariate(1)) % creators}"
        clicks.append(
            make_click(
                f"member-{rng.randrange(members)}",
                creator,
                f"thing-{rng.randrange(20)}",
                at_ms=NOVEMBER_MS + number,
                click_id=str(uuid.UUID(int=rng.getrandbits(128))),
                action="undo" if rng.random() < undo else "flattr",
            )
        )
    return clicks


def partition_of(member: str, partitions: int) -> int:
    """Kafka's default partition."""
    return int((murmur2(member.encode()) & 0x7FFFFFFF) % partitions)


async def send(  # noqa: PLR0913 - a test says what it means
    broker: str,
    topic: str,
    clicks: Sequence[Click],
    *,
    partitions: int,
    block: int = 1,
    timestamp_ms: int | None = None,
) -> None:
    """Send clicks in order, in blocks of that many; returns when the broker has them all."""
    lines: dict[int, list[Click]] = {}
    for click in clicks:
        lines.setdefault(partition_of(click.member_id, partitions), []).append(click)
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", linger_ms=5)
    await producer.start()
    try:
        futures = []
        for partition, own in lines.items():
            for at in range(0, len(own), block):
                part = own[at : at + block]
                futures.append(
                    await producer.send(
                        topic,
                        b"\n".join(encode(click) for click in part),
                        partition=partition,
                        timestamp_ms=timestamp_ms if timestamp_ms is not None else part[-1].received_at,
                    )
                )
        for future in futures:
            await future
    finally:
        await producer.stop()
