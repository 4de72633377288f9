"""Clicks as the stream bench sends them: Zipf creators and things, 5 % repeats, in blocks or alone."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence

from aiokafka import AIOKafkaProducer

from ingest.contract.thing import thing_id
from streams.clicks.string_columns import StringColumn

REPEATS = 0.05
MEMBERS = 200_000
CREATORS = 2_000


def lines(count: int, *, at_ms: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(member, line of a block) of that many clicks, ten a millisecond, over and over the same 50 s."""
    rng = random.Random(seed)
    names: dict[tuple[str, int], str] = {}
    made: list[tuple[str, bytes]] = []
    for number in range(count):
        if made and rng.random() < REPEATS:
            made.append(rng.choice(made))
            yield made[-1]
            continue
        creator = f"creator-{int(rng.paretovariate(1.1)) % CREATORS}"
        thing = int(rng.paretovariate(0.9)) % 500
        name = names.setdefault((creator, thing), thing_id(creator, str(thing)))
        member = f"member-{rng.randrange(MEMBERS):07}"
        # A worker refuses, one by one, what was received more than a minute after its record's stamp.
        at = at_ms + number // 10 % 50_000
        line = (
            f'{{"v":1,"click_id":"{uuid.UUID(int=rng.getrandbits(128))}","action":"flattr","member_id":"{member}",'
            f'"creator_id":"{creator}","thing":"https://{creator}.example/posts/{thing}","thing_id":"{name}",'
            f'"site_id":"site-{number % 40}","clicked_at":{at},"received_at":{at + 40}}}'
        ).encode()
        made.append((member, line))
        yield member, line


def by_partition(clicks: Sequence[tuple[str, bytes]], partitions: int) -> dict[int, list[bytes]]:
    """The lines of each partition, in order."""
    numbers = StringColumn.of([member for member, _ in clicks]).partitions(partitions)
    lanes: dict[int, list[bytes]] = {}
    for number, (_, line) in zip(numbers.tolist(), clicks, strict=True):
        lanes.setdefault(number, []).append(line)
    return lanes


async def fill(broker: str, topic: str, lanes: dict[int, list[bytes]], *, block: int, at_ms: int) -> None:
    """Write the lines, that many to a record."""
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", linger_ms=5, max_batch_size=1 << 20)
    await producer.start()
    futures = []
    for number, lane in lanes.items():
        for at in range(0, len(lane), block):
            value = b"\n".join(lane[at : at + block])
            futures.append(await producer.send(topic, value, partition=number, timestamp_ms=at_ms))
    for future in futures:
        await future
    await producer.stop()
