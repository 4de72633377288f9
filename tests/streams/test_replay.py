"""A month recounted from the log, or from both when the log has grown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, ServiceProcess
from ingest.contract.click import Click
from streams.errors import StreamStopped
from streams.replay import Replay, replay
from streams.settings import StreamsSettings
from tests.quarantine.build import flag
from tests.streams.test_growth import presses
from tests.streams.test_worker import PARTITIONS, make_topics
from tests.support.clicks import NOVEMBER, make_click, send, traffic
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.counts.equations import KafkaLog
from warehouse.erasure.erase import erase
from warehouse.growth.carry import carry
from warehouse.moves.notes import Move, Step, note
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse, named


async def test_replay_finds_what_was_counted_and_every_row_that_was_tampered_with(
    broker: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_topics(broker, topic)
    clicks = traffic(1500, undo=0.1)
    await send(broker.address, topic, clicks, partitions=PARTITIONS, block=20)
    with StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic) as worker:
        wait_until(lambda: accepted(warehouse) >= len(clicks), "all clicks are counted", alive=worker)
    monkeypatch.setenv("FLATTR_BROKER", broker.address)
    monkeypatch.setenv("FLATTR_WAREHOUSE", warehouse.url)
    monkeypatch.setenv("FLATTR_TOPIC_CLICKS", topic)

    async def again() -> Replay:
        return await replay(StreamsSettings(), NOVEMBER, PARTITIONS)

    found = await again()
    assert found.same, found
    assert found.clicks == len(clicks)
    member = clicks[0].member_id
    warehouse.command(
        "ALTER TABLE flattrs DELETE WHERE member_id = %(member)s SETTINGS mutations_sync = 1", {"member": member}
    )
    lost = len({click.thing_id for click in clicks if click.member_id == member})
    warehouse.insert(
        "flattrs",
        {"month": [NOVEMBER], "member_id": ["nobody"], "creator_id": ["bert"], "thing_id": [b"x" * 16], "version": [1]},
    )
    found = await again()
    assert [what for *_, what in found.differences].count("in the log, not counted") == lost
    assert ("nobody", "bert", (b"x" * 16).hex(), "counted, not in the log") in found.differences
    assert len(found.differences) == lost + 1


OCTOBER, DECEMBER = 202610, 202612
GRACE_S = 3600


class GrowingLog:
    """A log that is counted by workers, and moves. Each topic is named after its epoch."""

    def __init__(self, broker: ApacheKafka, warehouse: Warehouse, topic: str, folder: Path) -> None:
        self.broker = broker.address
        self.warehouse = warehouse
        self.folder = folder
        self.topic = topic
        self.epoch, self.partitions = 0, 0
        self.counted = 0

    def name(self, epoch: int) -> str:
        return f"{self.topic}-e{epoch}"

    async def count(self, clicks: Sequence[Click], partitions: int) -> None:
        """Send clicks to the log of today, whose topic is made, and have a worker count them."""
        name, self.partitions = self.name(self.epoch), partitions
        plans = [TopicPlan(name, partitions), TopicPlan(f"{name}-rejected", 1)]
        await create_topics(self.broker, [plan.unbounded() for plan in plans])
        await send(self.broker, name, clicks, partitions=partitions)
        self.counted += len(clicks)
        with StreamWorker(
            self.folder, broker=self.broker, warehouse=self.warehouse, topic=name, log_epoch=self.epoch,
            grace_s=GRACE_S, name=f"streams-{self.epoch}",
        ) as worker:  # fmt: skip
            wait_until(lambda: accepted(self.warehouse) >= self.counted, "all clicks are counted", alive=worker)

    async def move(self, partitions: int, *, ends: Sequence[int] = ()) -> None:
        """What `flattr topics grow` does in the warehouse; tests/e2e/test_grow.py runs all of it."""
        move = Move(self.epoch + 1, self.name(self.epoch), self.partitions, self.name(self.epoch + 1), partitions, {})
        found = await KafkaLog(self.broker, move.from_topic).ends(self.partitions)
        months = [month for (month,) in self.warehouse.rows(named("tallied_months"))]
        note(self.warehouse, move, Step.DRAINED, ends=ends or [end for _, end in found], months=months)
        carry(self.warehouse, move)
        note(self.warehouse, move, Step.DONE)
        self.epoch += 1

    async def replayed(self, month: int) -> Replay:
        settings = StreamsSettings(
            broker=self.broker, warehouse=SecretStr(self.warehouse.url), topic_clicks=self.name(self.epoch),
            log_epoch=self.epoch, grace_s=GRACE_S,
        )  # fmt: skip
        return await replay(settings, month, self.partitions)

    async def forget(self, epoch: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await admin.start()
        try:
            await admin.delete_topics([self.name(epoch)])
        finally:
            await admin.close()


@pytest.fixture
def growing(kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path) -> GrowingLog:
    """A log that moves."""
    return GrowingLog(kafka, warehouse, topic, tmp_path)


async def test_month_of_a_log_that_has_grown_twice_is_replayed_from_all_of_them(growing: GrowingLog) -> None:
    """With retries, undos that reach back and wrong clocks on all sides of both moves, a quarantine and an erasure."""
    clicks = presses(600, seed=21)
    third = len(clicks) // 3
    await growing.count(clicks[:third], 2)
    flag(growing.warehouse, Subject("member", member_id="member-2"), month=NOVEMBER)
    await growing.move(4)
    await growing.count(clicks[third : 2 * third], 4)
    erase(growing.warehouse, "member-1", 4, log_days=100, settle_s=0)
    await growing.move(16)
    await growing.count(clicks[2 * third :], 16)
    for month in (OCTOBER, NOVEMBER):
        found = await growing.replayed(month)
        assert found.same, found
        assert found.clicks == len(clicks)
        assert found.flattrs > 100
    # A row of each log that is not as the log has it.
    growing.warehouse.command(
        "ALTER TABLE flattrs DELETE WHERE month = 202611 AND member_id IN ('member-3', 'member-4')"
    )
    found = await growing.replayed(NOVEMBER)
    assert {member for member, *_ in found.differences} == {"member-3", "member-4"}


async def test_log_of_before_that_is_gone_or_is_another_is_named(growing: GrowingLog) -> None:
    november = [make_click(f"member-{number}", at_ms=1_793_500_000_000 + number) for number in range(40)]
    december = [make_click(f"member-{number}", at_ms=1_796_100_000_000 + number) for number in range(40)]
    await growing.count(november, 2)
    await growing.move(4)
    await growing.count(december, 4)
    assert (await growing.replayed(NOVEMBER)).same
    assert (await growing.replayed(DECEMBER)).same
    await growing.forget(0)
    with pytest.raises(
        StreamStopped, match=r"clicks of 2026-11 stand in the topic .*-e0' too, .* it is gone: .*docs/grow"
    ):
        await growing.replayed(NOVEMBER)
    # What was decided in the log before is in the warehouse; all clicks of December are in that of today.
    found = await growing.replayed(DECEMBER)
    assert found.same, found
    assert found.clicks == len(december)
    await create_topics(growing.broker, [TopicPlan(growing.name(0), 2).unbounded()])
    with pytest.raises(StreamStopped, match=r"ends at offset 0, and ended at .* when the log moved"):
        await growing.replayed(NOVEMBER)
    # A log that was made anew, under the next epoch, after it had moved.
    growing.epoch = 2
    await growing.count(december, 4)
    with pytest.raises(StreamStopped, match="nothing is known of the topic of epoch 1"):
        await growing.replayed(NOVEMBER)
