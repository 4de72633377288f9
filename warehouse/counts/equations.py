"""The equations acknowledged = in the log = distinct = live = paid of a running system, for `flattr verify` and a page.

It only reads. A running system changes while it is read, so everything is compared as of one moment: the progress
rows, which are read first. Rows at or below their positions were written before them and no longer change; newer
rows are left to the next check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from ingest.contract.click import UNREADABLE, decode_block
from ingest.contract.month import month_after, month_start_ms
from ingest.contract.position import epoch_of, offset_of
from warehouse.storage.archived import archived_months
from warehouse.storage.client import Warehouse, named

#: How many of each partition's last counted records are looked up.
SAMPLE_RECORDS: Final = 20
_IDS_AT_ONCE: Final = 5000
_LABELS: Final = ("counted", "duplicate", "undo", "rejected", "late")


@dataclass(frozen=True)
class Equation:
    """One equation, which holds when both sides are equal."""

    name: str
    left: int
    right: int
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether both sides are equal."""
        return self.left == self.right


@dataclass(frozen=True)
class Reached:
    """The progress rows at one moment: positions by partition, tallies by month."""

    positions: tuple[int, ...]
    tallies: dict[int, Counter[str]]
    #: The log epoch of the topic's offsets. Positions of an older one say nothing about this log.
    epoch: int = 0

    def next_offsets(self) -> list[int]:
        """By partition, the offset after the last record counted of this log; 0 where nothing of it is counted."""
        behind = [position + 1 if position else 0 for position in self.positions]
        return [offset_of(position) if epoch_of(position) == self.epoch else 0 for position in behind]


class Log(Protocol):
    """What ``check_log`` needs of the topic of clicks."""

    async def ends(self, partitions: int) -> list[tuple[int, int]]:
        """First and next offset of each partition."""
        ...

    async def sample(self, offsets: Sequence[int], records: int, since_ms: int) -> list[str]:
        """Click ids of the last ``records`` records before each partition's offset, stamped since then."""
        ...


def read_reached(warehouse: Warehouse, partitions: int, epoch: int = 0) -> Reached:
    """Read the progress rows; ``epoch`` is the log's."""
    positions = [0] * partitions
    tallies: dict[int, Counter[str]] = {}
    for partition, position, month, accepted, *labels in warehouse.rows(named("verify_progress")):
        positions[partition] = position
        if not month:
            continue
        tally = tallies.setdefault(month, Counter())
        tally["accepted"] += accepted
        tally.update(dict(zip(_LABELS, labels, strict=True)))
    return Reached(tuple(positions), tallies, epoch)


def check_warehouse(warehouse: Warehouse, reached: Reached, months: int = 2) -> list[Equation]:
    """Check, for the newest months, that the tallies add up and match the rows, and the counts match the flattrs.

    Of an archived month there are only the tallies.
    """
    archived = archived_months(warehouse)
    newest = sorted(reached.tallies)[-months:]
    since = newest[0] if newest else 0
    params = {"positions": list(reached.positions), "since": since}
    rows: dict[int, Counter[str]] = {}
    for month, label, count in warehouse.rows(named("verify_rows"), params):
        rows.setdefault(month, Counter())[label] = count
    wrong = warehouse.rows(named("verify_counts"), params)
    checks = []
    for month in newest:
        tally = reached.tallies[month]
        explained = sum(tally[label] for label in _LABELS)
        checks.append(
            Equation(f"{month}: accepted = counted + duplicate + undo + rejected + late", tally["accepted"], explained)
        )
        if month in archived:
            continue
        checks += [
            Equation(f"{month}: tally of {label} = its rows", tally[label], rows.get(month, Counter())[label])
            for label in ("counted", "duplicate", "undo", "late")
        ]
        differing = [row for row in wrong if row[0] == month]
        detail = "; ".join(
            f"{creator} in partition {part}: {flattrs} flattrs, stated {count}"
            for _, creator, part, flattrs, count in differing[:3]
        )
        checks.append(Equation(f"{month}: counts by creator that differ from the flattrs", len(differing), 0, detail))
    for month, divided, standing in warehouse.rows(named("verify_paid")):
        checks.append(Equation(f"{month}: flattrs divided by the payouts = flattrs that stand", divided, standing))
    erased = warehouse.rows(named("verify_erased"), params)
    detail = "; ".join(f"erasure {erasure}: {rows}" for erasure, rows in erased[:3])
    checks.append(Equation("rows of erased members that came back", sum(rows for _, rows in erased), 0, detail))
    return checks


async def check_log(warehouse: Warehouse, reached: Reached, log: Log, records: int = SAMPLE_RECORDS) -> list[Equation]:
    """Check that nothing was counted that the log lacks, nothing was deleted uncounted, and a sample of it is known."""
    ends = await log.ends(len(reached.positions))
    offsets = reached.next_offsets()
    past_end = sum(offset > end for offset, (_, end) in zip(offsets, ends, strict=True))
    gone = sum(offset < first for offset, (first, _) in zip(offsets, ends, strict=True))
    # Clicks of an archived month are in no table, and records of the month behind it may still have some.
    newest = max(archived_months(warehouse), default=0)
    since_ms = month_start_ms(month_after(month_after(newest))) if newest else 0
    ids = set(await log.sample(offsets, records, since_ms))
    return [
        Equation("partitions counted past the end of their log", past_end, 0),
        Equation("partitions whose log was deleted before it was counted", gone, 0),
        Equation(
            "clicks of a sample of the log = those that the warehouse knows", len(ids), len(known(warehouse, ids))
        ),
    ]


def known(warehouse: Warehouse, ids: Iterable[str]) -> set[str]:
    """Those of the click ids (32 hexadecimal digits) that have a row in any table."""
    ordered = sorted(ids)
    found: set[str] = set()
    for start in range(0, len(ordered), _IDS_AT_ONCE):
        rows = warehouse.rows(named("verify_known"), {"ids": ordered[start : start + _IDS_AT_ONCE]})
        found.update(click_id for (click_id,) in rows)
    return found & set(ordered)


def shown(checks: Sequence[Equation]) -> list[dict[str, object]]:
    """Equations as plain values for JSON."""
    return [{**asdict(check), "holds": check.holds} for check in checks]


class KafkaLog:
    """The topic on a broker. ``client`` holds further arguments of the Kafka client (TLS, SASL)."""

    def __init__(self, broker: str, topic: str, client: Mapping[str, Any] | None = None) -> None:
        self._options = {"bootstrap_servers": broker, "enable_auto_commit": False, **(client or {})}
        self._topic = topic

    async def ends(self, partitions: int) -> list[tuple[int, int]]:
        """First and next offset of each partition."""
        if not partitions:
            return []
        consumer = AIOKafkaConsumer(**self._options)
        try:
            await consumer.start()
            wanted = [TopicPartition(self._topic, number) for number in range(partitions)]
            first, end = await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted)
        finally:
            await consumer.stop()
        return [(first[one], end[one]) for one in wanted]

    async def sample(self, offsets: Sequence[int], records: int, since_ms: int) -> list[str]:
        """Click ids of the last ``records`` records before each offset, stamped since then; none of unreadable ones."""
        if not any(offsets):
            return []
        consumer = AIOKafkaConsumer(**self._options)
        try:
            await consumer.start()
            counted = {TopicPartition(self._topic, number): offset for number, offset in enumerate(offsets) if offset}
            consumer.assign(list(counted))
            first, ends = await consumer.beginning_offsets(list(counted)), await consumer.end_offsets(list(counted))
            # Never wait past the end of the log; `ends` reports that case.
            wanted = {partition: min(offset, ends[partition]) for partition, offset in counted.items()}
            for partition, offset in wanted.items():
                consumer.seek(partition, max(first[partition], offset - records))
            ids: list[str] = []
            while any([await consumer.position(partition) < offset for partition, offset in wanted.items()]):
                for partition, batch in (await consumer.getmany(timeout_ms=1000)).items():
                    for record in batch:
                        if record.offset < wanted[partition] and record.timestamp >= since_ms:
                            ids += _click_ids(record.value or b"")
        finally:
            await consumer.stop()
        return ids


def _click_ids(block: bytes) -> list[str]:
    try:
        return [click.click_id.replace("-", "") for click in decode_block(block)]
    except UNREADABLE:
        return []
