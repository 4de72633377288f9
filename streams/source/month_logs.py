"""The logs in which a month's clicks stand: that of today, and those from before it moved (`flattr topics grow`)."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from ingest.contract.month import month_before, month_start_ms, month_text
from ingest.contract.position import epoch_of, offset_of
from streams.errors import StreamStopped
from streams.settings import StreamsSettings
from streams.source.topics import partitions_found
from streams.state.partition import PartitionState
from warehouse.moves.notes import OldLog, old_logs
from warehouse.storage.client import Warehouse

#: By partition, the first offset to read and the one after the last.
Ranges = dict[TopicPartition, tuple[int, int]]


@dataclass(frozen=True)
class MonthLog:
    """A log to read, until ``ends``: the offset after the last counted record of each partition."""

    topic: str
    epoch: int
    ends: tuple[int, ...]
    #: Whether it may have clicks of the month. One without is read, as far as it is there, for what it decided.
    has_month: bool = True
    has_moved: bool = False

    @property
    def partitions(self) -> list[TopicPartition]:
        """All of its partitions, in their order."""
        return [TopicPartition(self.topic, number) for number in range(len(self.ends))]


async def logs_of(
    settings: StreamsSettings, warehouse: Warehouse, month: int, counted: list[PartitionState]
) -> list[MonthLog]:
    """The logs that have clicks of the month and of the one before, oldest first; ``counted`` are today's partitions.

    Raises ``StreamStopped`` if one that has clicks of the month is gone, or is another by now.
    """
    epoch = settings.log_epoch
    today = MonthLog(settings.topic_clicks, epoch, tuple(_end(state, epoch) for state in counted))
    logs: list[MonthLog] = []
    for old, after in _with_next_epochs(old_logs(warehouse, [month_before(month), month]), epoch):
        log = MonthLog(old.topic, old.epoch, old.ends, month in old.months, has_moved=True)
        reason = await _lost(settings, log, after)
        if reason and log.has_month:
            raise StreamStopped(
                f"clicks of {month_text(month)} stand in the topic {old.topic!r} too, from before the log moved, and "
                f"{reason}: this month cannot be replayed. `flattr verify` and `flattr month verify` compare what is "
                "left of it; keep the old topic next time (docs/grow.md)."
            )
        logs = [] if reason else [*logs, log]
    return [*logs, today]


def _with_next_epochs(found: list[OldLog], today: int) -> list[tuple[OldLog, int]]:
    """Each log, with the epoch of the one that is read after it."""
    epochs = [old.epoch for old in found]
    return list(zip(found, [*epochs[1:], today], strict=False))


async def _lost(settings: StreamsSettings, log: MonthLog, after: int) -> str:
    """Why the log cannot be read as it was when it moved, and then that of the epoch ``after``; empty if it can."""
    if after != log.epoch + 1:
        return f"the log was made anew since: nothing is known of the topic of epoch {log.epoch + 1}"
    found = await partitions_found(settings, log.topic)
    if not found:
        return "it is gone"
    if found < len(log.ends):
        return f"it has {found} partitions by now and had {len(log.ends)}"
    return ""


async def ranges_of(consumer: AIOKafkaConsumer, log: MonthLog, month: int) -> Ranges:
    """The offsets to read of each partition: from the log's start to where it is counted.

    A truncated log must still begin before the month does, since clicks are recorded after they are made.
    """
    tps = log.partitions
    starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    since = await consumer.offsets_for_times(dict.fromkeys(tps, month_start_ms(month)))
    ranges = {}
    for tp, end in zip(tps, log.ends, strict=True):
        start, first = starts[tp], since[tp]
        if log.has_moved and ends[tp] != end:
            raise StreamStopped(
                f"{tp.topic} partition {tp.partition} ends at offset {ends[tp]}, and ended at {end} when the log "
                "moved: it is not the topic from which the log moved, so its months cannot be replayed"
            )
        is_short = 0 < start <= end if log.has_moved else 0 < start < end
        if log.has_month and is_short and (first is None or first.offset <= start):
            raise StreamStopped(
                f"{tp.topic} partition {tp.partition} begins at offset {start}, after {month} began: deleted records "
                "cannot be replayed; increase the topic's retention.ms for the future"
            )
        ranges[tp] = start, end
    return ranges


def _end(state: PartitionState, epoch: int) -> int:
    """The offset after the last counted record of this log; 0 when none is counted."""
    if state.position < 0 or epoch_of(state.position) != epoch:
        return 0
    return offset_of(state.position) + 1
