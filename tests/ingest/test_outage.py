"""Accepted means kept: what was answered 202 is in the log, whoever was killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import urllib.error
import uuid
from pathlib import Path

import pytest

from deploy.stack.embedded import ApacheKafka, EmbeddedBroker, ServiceProcess, free_port
from ingest.contract.click import decode_block
from ingest.contract.rejection import Reason
from ingest.log.lane import Placed
from ingest.log.publisher import Publisher
from ingest.log.spool import Record, Spool
from ingest.metrics import Metrics
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from tests.ingest.conftest import make_topics, records, serving, settings_for, wait_until
from tests.support.serving import ask

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}


def counted(address: str, topic: str) -> list[str]:
    """The click ids in the log, in its order."""
    return [click.click_id for record in records(address, topic) for click in decode_block(record.value)]


def test_spool_takes_clicks_while_the_broker_is_away_and_delivers_them_in_order(
    tmp_path: Path, topic: str, token_keys: Path
) -> None:
    broker = EmbeddedBroker(tmp_path / "broker")
    settings = settings_for(broker, topic, token_keys, spool=tmp_path / "spool", produce_timeout_s=0.5)
    ids = [str(uuid.uuid4()) for _ in range(30)]
    with serving(settings) as ingest:
        answers = [ingest.post({**CLICK, "click_id": one}) for one in ids]
        assert {answer.status for answer in answers} == {202}
        assert answers[0].json["receipts"][0] == {
            "item": 0, "click_id": ids[0], "partition": None, "offset": None, "index": None
        }  # fmt: skip
        ready = ingest.get("/ready")
        assert (ready.status, ready.json["parts"]) == (200, {"broker": "away", "spool": "30 clicks"})
        assert ingest.metric("flattr_ingest_spool_clicks") == 30
        with broker:
            make_topics(broker.address, topic)
            wait_until(lambda: ingest.metric("flattr_ingest_spool_clicks") == 0)
            assert counted(broker.address, topic) == ids
            wait_until(lambda: ingest.post(CLICK).json["receipts"][0]["offset"] is not None)
            assert ingest.metric("flattr_ingest_clicks_replayed_total") >= 30
    assert not list((tmp_path / "spool").rglob("*.segment"))


async def test_click_that_comes_while_the_spool_is_sent_queues_behind_it(
    tmp_path: Path, embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    await asyncio.to_thread(make_topics, embedded_broker.address, topic)
    old = Spool(tmp_path / "spool/0", max_bytes=1 << 30, segment_max_bytes=100_000, fsync=False)
    for number in range(20):
        old.append([Record(7, 1, b"%d" % number + b" " * 50_000)])
    old.close()
    settings = settings_for(embedded_broker, topic, token_keys, spool=tmp_path / "spool")
    publisher = Publisher(settings, system_clock, Metrics())
    await publisher.start()
    assert await publisher.placed(7, b"new", 1) == Placed(None, None, None)
    place: Placed | Reason = Placed(None, None, None)
    while place == Placed(None, None, None):
        place = await publisher.placed(7, b"newest", 1)
    await publisher.drain()
    assert isinstance(place, Placed)
    assert place.offset is not None
    blocks = await asyncio.to_thread(records, embedded_broker.address, topic)
    lines = [line.strip() for block in blocks for line in block.value.split(b"\n")]
    assert lines[:21] == [*(b"%d" % number for number in range(20)), b"new"]
    assert set(lines[21:]) == {b"newest"}


async def test_click_that_comes_with_the_spools_last_records_on_their_way_waits_for_them(
    tmp_path: Path, embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(make_topics, embedded_broker.address, topic)
    old = Spool(tmp_path / "spool/0", max_bytes=1 << 30, segment_max_bytes=100_000, fsync=False)
    old.append([Record(7, 1, b"old")])
    old.close()
    publisher = Publisher(
        settings_for(embedded_broker, topic, token_keys, spool=tmp_path / "spool"), system_clock, Metrics()
    )
    under_way, go_on = asyncio.Event(), asyncio.Event()
    send = publisher._send

    async def slow_for_the_spool(partition: int, block: bytes) -> int:
        if block == b"old":
            under_way.set()
            await go_on.wait()
        return await send(partition, block)

    monkeypatch.setattr(publisher, "_send", slow_for_the_spool)
    await publisher.start()
    await under_way.wait()
    new = asyncio.create_task(publisher.placed(7, b"new", 1))
    await asyncio.sleep(0.1)
    assert not new.done()
    go_on.set()
    place = await new
    await publisher.drain()
    assert isinstance(place, Placed)
    blocks = await asyncio.to_thread(records, embedded_broker.address, topic)
    assert [block.value for block in blocks] == [b"old", b"new"]
    assert place.offset == blocks[1].offset


def test_full_spool_is_a_503_and_not_ready(tmp_path: Path, topic: str, token_keys: Path) -> None:
    settings = settings_for(
        EmbeddedBroker(tmp_path / "broker"), topic, token_keys, spool=tmp_path / "spool", spool_max_bytes=1024 * 1024
    )
    long_click = {**CLICK, "thing": "https://example.org/" + "a" * 2000}
    with serving(settings) as ingest:
        statuses = [ingest.post([long_click] * 100).status for _ in range(6)]
        assert statuses == [202, 202, 202, 202, 503, 503]
        assert ingest.metric("flattr_ingest_spool_clicks") == 400


def test_restarted_service_delivers_what_its_killed_predecessor_spooled(
    tmp_path: Path, topic: str, token_keys: Path
) -> None:
    broker = EmbeddedBroker(tmp_path / "broker")
    service = Service(tmp_path, broker, topic, token_keys)
    ids = [str(uuid.uuid4()) for _ in range(20)]
    service.part.start()
    for one in ids:
        assert service.post(one) == 202
    service.part.kill()
    with broker:
        make_topics(broker.address, topic)
        service.part.start()
        wait_until(lambda: len(counted(broker.address, topic)) == 20)
        service.part.stop()
        assert "ingest drained" in service.part.log.read_text()
        assert counted(broker.address, topic) == ids


def test_terminated_service_has_answered_what_it_took_and_nothing_else_is_in_the_log(
    tmp_path: Path, embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    make_topics(embedded_broker.address, topic)
    service = Service(tmp_path, embedded_broker, topic, token_keys)
    service.part.start()
    taken: set[str] = set()
    others: set[str] = set()

    def load() -> None:
        while True:
            click_id = str(uuid.uuid4())
            status = service.post(click_id)
            (taken if status == 202 else others).add(click_id)
            if status != 202:
                return

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: len(taken) > 20)
    service.part.stop()
    for client in clients:
        client.join()
    assert set(counted(embedded_broker.address, topic)) == taken
    assert len(others) == 4


class Service:
    """`flattr ingest` as a process of its own, and a client that knows what it was promised."""

    def __init__(self, folder: Path, broker: ServiceProcess, topic: str, token_keys: Path, **more: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1/clicks"
        self._keys = token_keys
        self.part = ServiceProcess(
            "ingest",
            [sys.executable, "-m", "deploy", "ingest"],
            folder=folder / "ingest",
            port=port,
            environment={
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "FLATTR_BROKER": broker.address,
                "FLATTR_TOPIC_CLICKS": topic,
                "FLATTR_TOPIC_REJECTED": f"{topic}-rejected",
                "FLATTR_TOKEN_KEYS": str(token_keys),
                "FLATTR_INGEST_PORT": str(port),
                "FLATTR_INGEST_IDEMPOTENCE": str(not isinstance(broker, EmbeddedBroker)).lower(),
                "FLATTR_INGEST_PRODUCE_TIMEOUT_S": "1",
                "FLATTR_INGEST_SPOOL": str(folder / "spool"),
                **more,
            },
        )

    def post(self, click_id: str, member: str = "ann") -> int:
        """The status, or 0 when nobody answered."""
        token = issue(self._keys, member, audience="flattr", now_ms=system_clock(), valid_s=600)
        body = json.dumps({**CLICK, "click_id": click_id}).encode()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        try:
            return ask(self.url, method="POST", headers=headers, body=body).status
        except (OSError, urllib.error.URLError):
            return 0


def test_no_acknowledged_click_is_lost_when_ingest_and_kafka_are_killed_under_load(
    tmp_path: Path, own_kafka: ApacheKafka, topic: str, token_keys: Path
) -> None:
    make_topics(own_kafka.address, topic)
    service = Service(tmp_path, own_kafka, topic, token_keys)
    promised: set[str] = set()
    stop = threading.Event()

    def load(member: str) -> None:
        while not stop.is_set():
            click_id = str(uuid.uuid4())
            while not stop.is_set():
                status = service.post(click_id, member)
                if status == 202:
                    promised.add(click_id)
                    break
                stop.wait(0.02)

    def more(count: int) -> None:
        goal = len(promised) + count
        wait_until(lambda: len(promised) > goal, 40)

    clients = [threading.Thread(target=load, args=(f"member-{number}",)) for number in range(8)]
    for client in clients:
        client.start()
    try:
        service.part.start()
        more(50)
        service.part.kill()
        service.part.start()
        more(50)
        own_kafka.kill()
        # Clicks are taken while Kafka is dead, and ingest dies with them on its disk.
        more(20)
        service.part.kill()
        service.part.start()
        more(20)
        own_kafka.start()
        more(50)
        stop.set()
        metrics = service.url.replace("/v1/clicks", "/metrics")
        wait_until(lambda: b"flattr_ingest_spool_clicks 0.0" in ask(metrics).body, 30)
    finally:
        stop.set()
        for client in clients:
            client.join()
        service.part.stop()
    lost = promised - set(counted(own_kafka.address, topic))
    assert len(promised) > 200
    assert not lost
