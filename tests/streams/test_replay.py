"""A month recounted from the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.stack.embedded import ServiceProcess
from streams.replay import Replay, replay
from streams.settings import StreamsSettings
from tests.streams.test_worker import PARTITIONS, make_topics
from tests.support.clicks import NOVEMBER, send, traffic
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.storage.client import Warehouse


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
