"""`flattr verify` finds a system good that is, and names what is wrong in one that is not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from deploy.cli.promises import check_answers
from deploy.proving.load.answers import AnswersFile, Attempt
from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import EmbeddedBroker
from ingest.contract.click import Click, encode
from ingest.contract.thing import thing_id
from streams.counting.count_batch import CountingRules, add_progress, count_records
from streams.sink.flush_rows import Rows
from streams.sink.writer import Writer
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from warehouse.counts.equations import Equation, KafkaLog, check_log, check_warehouse, read_reached
from warehouse.storage.client import Warehouse

AT_MS = 1_790_000_000_000


def click(number: int, member: str, thing: str, action: str = "flattr") -> Click:
    return Click(
        v=1, click_id=str(uuid.UUID(int=number)), action="undo" if action == "undo" else "flattr", member_id=member,
        creator_id=f"creator-of-{thing}", thing=thing, thing_id=thing_id(f"creator-of-{thing}", thing), site_id="",
        clicked_at=AT_MS + number, received_at=AT_MS + number,
    )  # fmt: skip


BLOCKS = [
    [click(1, "ann", "song"), click(2, "bob", "song"), click(3, "ann", "song")],
    [click(4, "ann", "poem"), click(5, "bob", "poem", "undo"), click(6, "carl", "song")],
]


@dataclass
class System:
    """Two blocks in a topic of one partition, counted by the stream's own code."""

    warehouse: Warehouse
    log: KafkaLog
    folder: Path

    async def checks(self) -> list[Equation]:
        reached = read_reached(self.warehouse, 1)
        checks = check_warehouse(self.warehouse, reached)
        return [
            *checks,
            *await check_log(self.warehouse, reached, self.log),
            check_answers(self.warehouse, reached, self.folder),
        ]

    def wrong(self) -> list[str]:
        return [check.name for check in asyncio.run(self.checks()) if not check.holds]


@pytest.fixture
def system(warehouse: Warehouse, embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path) -> System:
    values = [b"\n".join(encode(one) for one in block) for block in BLOCKS]

    async def fill() -> None:
        await create_topics(embedded_broker.address, [TopicPlan(topic, 1)])
        async with AIOKafkaProducer(bootstrap_servers=embedded_broker.address, enable_idempotence=False) as producer:
            for value in values:
                await producer.send_and_wait(topic, value, partition=0)

    asyncio.run(fill())
    rows, state = Rows(), PartitionState(0)
    records = [LogRecord(offset, AT_MS, value) for offset, value in enumerate(values)]
    count_records(state, records, CountingRules(1, 0, 3_600_000, topic), lambda _: MonthState(), rows)
    add_progress(state, AT_MS, rows)
    Writer(warehouse, patience_s=5).write(rows)
    receipts = b",".join(
        b'{"item":0,"click_id":"%s","partition":0,"offset":%d,"index":0}' % (one.click_id.encode(), offset)
        for offset, block in enumerate(BLOCKS)
        for one in block
    )
    with AnswersFile(tmp_path / "answers-0.ndjson") as answers:
        answer = msgspec.Raw(b'{"receipts":[%s],"refused":[]}' % receipts)
        answers.append(Attempt("0-0", 1, "ann", "http://x", 1, 2, 202, body="", answer=answer))
    return System(warehouse, KafkaLog(embedded_broker.address, topic), tmp_path)


def test_a_good_system_is_found_good(system: System) -> None:
    checks = asyncio.run(system.checks())
    assert [check.name for check in checks if not check.holds] == []
    found = {check.name.partition(": ")[2]: check.left for check in checks}
    assert found["tally of counted = its rows"] == 4
    assert found["tally of duplicate = its rows"] == 1
    assert found["tally of undo = its rows"] == 1
    assert sum(check.left for check in checks if "sample" in check.name) == 6


def test_log_in_which_nothing_is_counted_yet_is_a_log(
    warehouse: Warehouse, embedded_broker: EmbeddedBroker, topic: str
) -> None:
    asyncio.run(create_topics(embedded_broker.address, [TopicPlan(topic, 2)]))
    for partitions in (0, 2):
        reached = read_reached(warehouse, partitions)
        checks = asyncio.run(check_log(warehouse, reached, KafkaLog(embedded_broker.address, topic)))
        assert [(check.left, check.right) for check in checks] == [(0, 0)] * 3


def test_log_of_a_new_epoch_is_compared_with_what_is_counted_of_it(
    system: System, embedded_broker: EmbeddedBroker, topic: str
) -> None:
    """After a broker's restart with an empty log, positions of the old one are no incident."""
    again = KafkaLog(embedded_broker.address, f"{topic}-again")
    asyncio.run(create_topics(embedded_broker.address, [TopicPlan(f"{topic}-again", 1)]))
    assert not all(
        one.holds for one in asyncio.run(check_log(system.warehouse, read_reached(system.warehouse, 1), again))
    )
    reached = read_reached(system.warehouse, 1, epoch=1)
    assert all(one.holds for one in asyncio.run(check_log(system.warehouse, reached, again)))


def test_what_is_newer_than_progress_is_on_its_way_and_not_wrong(system: System) -> None:
    """A flush writes flattrs and counts before progress; between the two nothing is wrong."""
    rows, state = Rows(), PartitionState(0)
    system.warehouse.command("INSERT INTO progress SELECT * FROM progress WHERE 0")
    block = LogRecord(7, AT_MS, encode(click(9, "dora", "song")))
    count_records(state, [block], CountingRules(1, 0, 3_600_000, "clicks"), lambda _: MonthState(), rows)
    Writer(system.warehouse, patience_s=5).write(rows)
    assert system.wrong() == []


def flattr_lost(warehouse: Warehouse) -> None:
    warehouse.command(
        "ALTER TABLE flattrs DELETE WHERE member_id = 'carl' SETTINGS mutations_sync = 2, "
        "lightweight_mutation_projection_mode = 'rebuild'"
    )


def duplicate_lost(warehouse: Warehouse) -> None:
    warehouse.command("TRUNCATE TABLE duplicates")


def count_too_high(warehouse: Warehouse) -> None:
    warehouse.command(
        "INSERT INTO counts_by_creator (month, creator_id, partition, flattrs, position) "
        "SELECT month, creator_id, partition, flattrs + 1, position + 1 FROM counts_by_creator LIMIT 1"
    )


def progress_ahead_of_the_log(warehouse: Warehouse) -> None:
    warehouse.command(
        "INSERT INTO progress SELECT * REPLACE (position + bitShiftLeft(toUInt64(100), 16) AS position) FROM progress"
    )


@pytest.mark.parametrize(
    ("breaks", "named"),
    [
        (flattr_lost, ["tally of counted = its rows", "counts by creator", "sample of the log", "acknowledged"]),
        (duplicate_lost, ["tally of duplicate = its rows", "sample of the log", "acknowledged"]),
        (count_too_high, ["counts by creator"]),
        (progress_ahead_of_the_log, ["past the end of their log"]),
    ],
)
def test_what_is_wrong_is_named(system: System, breaks: Callable[[Warehouse], None], named: list[str]) -> None:
    breaks(system.warehouse)
    wrong = system.wrong()
    assert len(wrong) == len(named), wrong
    for name, part in zip(wrong, named, strict=True):
        assert part in name
