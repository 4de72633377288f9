"""Posts the flattrs of a month's subscriptions into the log of clicks.

1. Read what stands at the month's beginning and has no flattr in the month yet.
2. Send it to Kafka in blocks. A crash here leaves some sent: the next run skips what is counted by then, and sends the
   rest again under the same click ids and times, which changes nothing.
3. Note the month as posted, once every replica has every block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from deploy.errors import CommandFailed
from ingest.contract.click import VERSION, Click, encode
from ingest.contract.month import month_start_ms
from ingest.contract.position import BLOCK_CLICKS_MAX
from ingest.contract.thing import plain
from ingest.log.lane import BLOCK_MAX_BYTES
from ingest.log.partition import member_hash
from ingest.runtime.aliases import Aliases, AliasTable, thing_id
from ingest.runtime.clock import Clock
from ingest.runtime.kafka_settings import client_security
from ingest.settings import IngestSettings
from warehouse.moves.notes import current_epoch
from warehouse.storage.client import Warehouse
from warehouse.subscriptions.standing import Subscription, note_posted, posted_click_id, standing

_ATTEMPT_MS = 30_000


@dataclass(frozen=True)
class Posted:
    """How many flattrs were sent, and how many subscriptions had theirs already."""

    sent: int
    known: int


def click_of(one: Subscription, month: int, table: AliasTable, now_ms: int) -> Click:
    """The click that a subscription makes in a month, in the month's first millisecond; the thing where it is now."""
    thing = plain(one.thing or one.thing_id)
    named = thing_id(one.creator_id, thing, table) if one.thing else one.thing_id
    return Click(
        v=VERSION,
        click_id=posted_click_id(one.member_id, one.creator_id, named, month),
        action="flattr",
        member_id=one.member_id,
        creator_id=one.creator_id,
        thing=thing,
        thing_id=named,
        site_id=one.site_id,
        clicked_at=month_start_ms(month),
        received_at=now_ms,
        sent_at=now_ms,
    )


async def post(
    settings: IngestSettings,
    warehouse: Warehouse,
    month: int,
    clock: Clock,
    say: Callable[[int], None] = lambda _: None,
) -> Posted:
    """Post a month's subscriptions and note it; ``say`` is told how many were looked at.

    Raises ``KafkaError``, or ``CommandFailed`` as ``open`` does.
    """
    table = Aliases(settings.aliases_file, clock).look().in_month(month)
    log = _Log(settings, clock)
    sent = known = 0
    try:
        _, counted = current_epoch(warehouse) or (0, 0)
        await log.open(counted)
        for one, flattred in standing(warehouse, month, table=table):
            if flattred:
                known += 1
            else:
                await log.add(click_of(one, month, table, clock()))
                sent += 1
            say(sent + known)
        await log.flush()
    finally:
        await log.close()
    note_posted(warehouse, month, sent, clock())
    return Posted(sent, known)


class _Log:
    """Gathers clicks into one block per partition, and sends them."""

    def __init__(self, settings: IngestSettings, clock: Clock) -> None:
        self._topic = settings.topic_clicks
        self._clock = clock
        self._lines: dict[int, list[bytes]] = defaultdict(list)
        self._bytes: dict[int, int] = defaultdict(int)
        self._partitions, self._stated = 0, settings.log_partitions
        self._kafka = AIOKafkaProducer(
            bootstrap_servers=settings.broker,
            **client_security(settings),
            acks="all",
            enable_idempotence=settings.idempotence,
            max_request_size=2 * BLOCK_MAX_BYTES,
            request_timeout_ms=_ATTEMPT_MS,
        )

    async def open(self, counted: int) -> None:
        """Connect. Raises ``CommandFailed`` if streams count by another number of partitions."""
        await self._kafka.start()
        self._partitions = self._stated or len(await self._kafka.partitions_for(self._topic))
        if counted not in {0, self._partitions}:
            raise CommandFailed(
                f"topic {self._topic} is counted by {counted} partitions, and these clicks would go into "
                f"{self._partitions}: set FLATTR_LOG_PARTITIONS={counted}, or FLATTR_TOPIC_CLICKS if the log "
                "has moved, or start streams first if this is a new log."
            )

    async def close(self) -> None:
        await self._kafka.stop()

    async def add(self, click: Click) -> None:
        line = encode(click)
        partition = member_hash(click.member_id) % self._partitions
        full = self._bytes[partition] + len(line) >= BLOCK_MAX_BYTES or len(self._lines[partition]) >= BLOCK_CLICKS_MAX
        if full:
            await self.flush([partition])
        self._lines[partition].append(line)
        self._bytes[partition] += len(line) + 1

    async def flush(self, partitions: Iterable[int] | None = None) -> None:
        """Send the blocks of these partitions, by default of all, and wait for every in-sync replica."""
        for partition in sorted(self._lines) if partitions is None else partitions:
            lines = self._lines.pop(partition, [])
            self._bytes.pop(partition, 0)
            if lines:
                await self._kafka.send_and_wait(
                    self._topic, b"\n".join(lines), partition=partition, timestamp_ms=self._clock()
                )
