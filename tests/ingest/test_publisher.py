"""The way to the broker: outages, drains, bounds."""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

from deploy.stack.embedded import EmbeddedBroker
from ingest.contract.click import Click, decode_block, encode
from ingest.contract.rejection import Reason
from ingest.log.lane import Placed, RequestClicks
from ingest.log.producer import TopicMissing
from ingest.log.publisher import Publisher
from ingest.log.spool import Record
from ingest.log.spooler import blocks_of
from ingest.metrics import Metrics
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from tests.ingest.conftest import make_topics, records, serving, settings_for, wait_until

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}


@pytest.fixture
def own_broker(tmp_path: Path) -> EmbeddedBroker:
    """A broker that a test may kill."""
    return EmbeddedBroker(tmp_path / "broker")


def test_click_is_refused_while_the_broker_is_away_and_taken_when_it_is_back(
    own_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    with own_broker:
        make_topics(own_broker.address, topic)
        with serving(settings_for(own_broker, topic, token_keys, produce_timeout_s=0.5)) as ingest:
            assert ingest.post(CLICK).status == 202
            own_broker.kill()
            away = ingest.post(CLICK)
            assert (away.status, away.json["reason"]) == (503, "broker_unavailable")
            assert int(away.headers["retry-after"]) > 0
            wait_until(lambda: ingest.get("/ready").status == 503)
            assert ingest.get("/live").status == 200
            own_broker.start()
            make_topics(own_broker.address, topic)
            wait_until(lambda: ingest.post(CLICK).status == 202)
            assert ingest.get("/ready").status == 200
            assert ingest.metric("flattr_ingest_producers_total") >= 2


def test_service_starts_while_the_broker_is_away(own_broker: EmbeddedBroker, topic: str, token_keys: Path) -> None:
    with serving(settings_for(own_broker, topic, token_keys, produce_timeout_s=0.5)) as ingest:
        assert ingest.post(CLICK).json["reason"] == "broker_unavailable"
        with own_broker:
            make_topics(own_broker.address, topic)
            wait_until(lambda: ingest.post(CLICK).status == 202)


async def test_missing_topic_is_named_with_what_to_do(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    publisher = Publisher(settings_for(embedded_broker, topic, token_keys), system_clock, Metrics())
    with pytest.raises(TopicMissing, match=f"no topic {topic} .*flattr topics create"):
        await publisher.start()


async def test_lone_click_is_not_held_and_what_comes_while_it_is_under_way_is_the_next_block(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(make_topics, embedded_broker.address, topic, 1)
    publisher = Publisher(settings_for(embedded_broker, topic, token_keys), system_clock, Metrics())
    await publisher.start()
    requests, released = asyncio.Queue[None](), asyncio.Semaphore(0)
    send = AIOKafkaClient.send

    async def held(client: AIOKafkaClient, node: int, request: object) -> object:
        if isinstance(request, ProduceRequest):
            requests.put_nowait(None)
            await released.acquire()
        return await send(client, node, request)

    monkeypatch.setattr(AIOKafkaClient, "send", held)
    answers: list[Placed | Reason] = []
    publisher.submit(RequestClicks(0, b"a", 1, 0, answers.append))
    await requests.get()
    for member, lines in enumerate([b"b", b"c\nd", b"e"]):
        publisher.submit(RequestClicks(member, lines, lines.count(b"\n") + 1, 0, answers.append))
        await turns()
    assert requests.empty()
    assert answers == []
    released.release()
    await requests.get()
    await turns()
    assert answers == [Placed(0, 0, 0)]
    released.release()
    await publisher.drain()
    assert answers == [Placed(0, 0, 0), Placed(0, 1, 0), Placed(0, 1, 1), Placed(0, 1, 3)]
    stored = await asyncio.to_thread(records, embedded_broker.address, topic)
    assert [record.value for record in stored] == [b"a", b"b\nc\nd\ne"]


async def turns() -> None:
    """Let whatever is ready run; no timer is waited for."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_receipts_of_requests_at_once_name_where_their_clicks_stand(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    make_topics(embedded_broker.address, topic, partitions=1)
    ids = [str(uuid.uuid4()) for _ in range(20)]
    with serving(settings_for(embedded_broker, topic, token_keys)) as ingest:
        answers = []
        senders = [
            threading.Thread(target=lambda one=one: answers.append(ingest.post({**CLICK, "click_id": one})))
            for one in ids
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
    blocks = {record.offset: decode_block(record.value) for record in records(embedded_broker.address, topic)}
    for answer in answers:
        (receipt,) = answer.json["receipts"]
        assert blocks[receipt["offset"]][receipt["index"]].click_id == receipt["click_id"]
    assert sorted(click.click_id for block in blocks.values() for click in block) == sorted(ids)


async def test_drain_answers_what_is_under_way_and_takes_nothing_more(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    await asyncio.to_thread(make_topics, embedded_broker.address, topic)
    publisher = Publisher(settings_for(embedded_broker, topic, token_keys), system_clock, Metrics())
    await publisher.start()
    under_way = asyncio.create_task(publisher.placed(0, b"a", 1))
    await asyncio.sleep(0)
    draining = asyncio.create_task(publisher.drain())
    await asyncio.sleep(0)
    assert await publisher.placed(0, b"b", 1) is Reason.DRAINING
    assert isinstance(await under_way, Placed)
    await draining
    assert [record.value for record in await asyncio.to_thread(records, embedded_broker.address, topic)] == [b"a"]


async def test_queue_is_bounded(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path) -> None:
    await asyncio.to_thread(make_topics, embedded_broker.address, topic)
    settings = settings_for(embedded_broker, topic, token_keys, queue_max_bytes=1024 * 1024)
    publisher = Publisher(settings, system_clock, Metrics())
    await publisher.start()
    answers = [publisher.placed(0, b"x" * 500_000, 1) for _ in range(3)]
    found = await asyncio.gather(*answers)
    assert [isinstance(one, Placed) for one in found] == [True, True, False]
    assert found[2] is Reason.QUEUE_FULL
    assert isinstance(await publisher.placed(0, b"y", 1), Placed)
    await publisher.drain()


def test_record_is_stamped_by_the_services_clock(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path) -> None:
    make_topics(embedded_broker.address, topic)
    with serving(settings_for(embedded_broker, topic, token_keys, clock="+3000")) as ingest:
        token = issue(token_keys, "ann", audience="flattr", now_ms=system_clock() + 3_000_000, valid_s=60)
        assert ingest.post(CLICK, token=token).status == 202
    (record,) = records(embedded_broker.address, topic)
    (click,) = decode_block(record.value)
    assert abs(record.timestamp - system_clock() - 3_000_000) < 10_000
    assert 0 <= record.timestamp - click.received_at < 5_000


async def test_receipt_is_never_after_the_stamp_though_the_clock_is_set_back_between_them(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    await asyncio.to_thread(make_topics, embedded_broker.address, topic, 1)
    now = system_clock()
    publisher = Publisher(settings_for(embedded_broker, topic, token_keys), lambda: now, Metrics())
    await publisher.start()
    answers: list[Placed | Reason] = []
    for received_at in (now - 9, now + 5000):
        line = encode(
            Click(
                v=1, click_id="x", action="flattr", member_id="ann", creator_id="bob", thing="a", thing_id="b",
                site_id="s", clicked_at=now, received_at=received_at,
            )
        )  # fmt: skip
        publisher.submit(RequestClicks(0, line, 1, received_at, answers.append))
    await publisher.drain()
    (record,) = await asyncio.to_thread(records, embedded_broker.address, topic)
    assert record.timestamp == now
    assert [click.received_at for click in decode_block(record.value)] == [now - 9, now]


def test_spooled_records_become_blocks_in_each_partitions_order() -> None:
    spooled = [Record(number % 5, 1, b"%d" % number) for number in range(20)]
    (blocks,) = blocks_of(spooled, 3)
    assert {partition: block.split(b"\n") for partition, block in blocks} == {
        partition: [one.lines for one in spooled if one.member_hash % 3 == partition] for partition in range(3)
    }
    long = [Record(0, 1, b"x" * 400_000 + b"%d" % number) for number in range(5)]
    rounds = blocks_of(long, 1)
    assert [len(block) < 1_000_000 for ((_, block),) in rounds] == [True] * 3
    assert b"\n".join(block for ((_, block),) in rounds) == b"\n".join(one.lines for one in long)
