"""The worker as a process, on both brokers and a real warehouse."""

from __future__ import annotations

import re
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from faust.types import TP

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import ApacheKafka, EmbeddedBroker, EmbeddedWarehouse, ServiceProcess
from ingest.contract.position import position
from ingest.contract.rejection import Rejection, encode_rejection
from streams.errors import LogMismatch
from streams.operating.lag import LagTracker
from streams.operating.metrics import Metrics
from streams.operating.silence import Silence
from streams.pipeline import next_offset
from streams.state.partition import PartitionState
from tests.support.clicks import NOVEMBER_MS, make_click, send, traffic
from tests.support.recount import assert_counted, recount, stated
from tests.support.serving import ask
from tests.support.waiting import accepted, wait_until
from tests.support.worker import StreamWorker
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate

PARTITIONS = 4
RACING = ("tests.support.racing_worker",)


def told(worker: StreamWorker) -> bytes:
    """What its `/ready` says."""
    return ask(f"{worker.url}/ready").body


async def make_topics(broker: ServiceProcess, topic: str) -> None:
    await create_topics(
        broker.address, [TopicPlan(topic, PARTITIONS).unbounded(), TopicPlan(f"{topic}-rejected", 1).unbounded()]
    )


async def test_every_click_is_counted_once_in_blocks_and_alone(
    broker: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    clicks = traffic(3000, undo=0.1)
    await send(broker.address, topic, clicks[:2000], partitions=PARTITIONS, block=50)
    await send(broker.address, topic, clicks[2000:], partitions=PARTITIONS, block=1)
    with StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic) as worker:
        wait_until(lambda: accepted(warehouse) >= 3000, "all clicks are counted", alive=worker)
    assert worker.process is not None
    assert worker.process.returncode == 0
    assert_counted(warehouse, clicks)


async def test_worker_killed_in_mid_flight_changes_no_number(
    broker: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    clicks = traffic(4000, undo=0.1)
    worker = StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic)
    await send(broker.address, topic, clicks[:2000], partitions=PARTITIONS, block=20)
    worker.start()
    wait_until(lambda: accepted(warehouse) > 0, "the first flush", alive=worker)
    worker.kill()
    await send(broker.address, topic, clicks[2000:], partitions=PARTITIONS, block=20)
    with worker.start():
        wait_until(lambda: accepted(warehouse) >= 4000, "all clicks are counted", alive=worker)
    assert_counted(warehouse, clicks)


async def test_what_ingest_refused_is_kept_in_its_table(
    broker: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    rejection = Rejection(reason="token_expired", detail="it is", rejected_at=NOVEMBER_MS, raw=b"\xffbytes")
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    for value in (encode_rejection(rejection), b"rubbish"):
        await producer.send_and_wait(f"{topic}-rejected", value, partition=0, timestamp_ms=NOVEMBER_MS)
    await producer.stop()
    with StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic) as worker:
        wait_until(lambda: len(warehouse.rows("SELECT 1 FROM rejected FINAL")) == 2, "both are there", alive=worker)
    rows = warehouse.rows("SELECT topic, reason, hex(raw) FROM rejected FINAL ORDER BY position")
    assert rows == [
        ("rejected", "token_expired", b"\xffbytes".hex().upper()),
        ("rejected", "json_malformed", b"rubbish".hex().upper()),
    ]


async def test_worker_that_cannot_go_on_says_why_and_ends_with_an_exit_code(
    kafka: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    def ends(worker: StreamWorker) -> str:
        worker.launch()
        wait_until(lambda: not worker.running(), "it ends")
        assert worker.process is not None
        assert worker.process.returncode == 1
        return worker.tail(3)

    def worker(name: str, **settings: Any) -> StreamWorker:
        return StreamWorker(
            tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic, name=name,
            streams_group=f"{topic}-{name}", **settings,
        )  # fmt: skip

    assert f"no topic '{topic}'" in ends(worker("no-topic"))
    await make_topics(kafka, topic)
    await send(kafka.address, topic, [make_click(f"member-{number}") for number in range(40)], partitions=PARTITIONS)
    progress = {"partition": [2], "position": [position(0, 900, 0xFFFF)], "record_at": [1], "written_at": [1]}
    warehouse.insert("progress", progress)
    assert "FLATTR_LOG_EPOCH" in ends(worker("past-the-end"))
    warehouse.insert("progress", {**progress, "position": [position(3, 1, 0xFFFF)]})
    assert "set FLATTR_LOG_EPOCH=3" in ends(worker("older-epoch"))
    assert accepted(warehouse) == 0


async def test_rubbish_in_the_topic_is_kept_in_part_and_everybody_elses_clicks_are_counted(
    broker: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    for _ in range(2):
        await producer.send_and_wait(
            topic, b"\n".join([b"rubbish " * 40] * 2000), partition=0, timestamp_ms=NOVEMBER_MS
        )
    await producer.stop()
    clicks = traffic(200, undo=0.1)
    with StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic) as worker:
        wait_until(lambda: accepted(warehouse) >= 4000, "the rubbish is set aside", alive=worker)
        producer = AIOKafkaProducer(bootstrap_servers=broker.address)
        await producer.start()
        await producer.send_and_wait(topic, b"\n".join([b"more " * 100] * 100), partition=0, timestamp_ms=NOVEMBER_MS)
        await producer.stop()
        await send(broker.address, topic, clicks, partitions=PARTITIONS, block=20)
        wait_until(lambda: accepted(warehouse) >= 4300, "all clicks are counted", alive=worker)
        metrics = ask(f"{worker.url}/metrics").body.decode()
        assert "flattr_streams_malformed_total 4100.0" in metrics
    retained = warehouse.rows("SELECT max(length(raw)), count() FROM rejected FINAL WHERE startsWith(raw, 'more')")
    assert retained == [(256, 100)]
    assert stated(warehouse).flattrs == recount(clicks).flattrs


def test_log_that_was_cut_before_it_was_counted_stops_the_worker() -> None:
    state = PartitionState(1, position=position(0, 10, 0xFFFF))
    assert next_offset(state, 0, TP("clicks", 1), 11, 20) == 11
    with pytest.raises(LogMismatch, match=r"partition 1 .* records 11 to 14 were deleted"):
        next_offset(state, 0, TP("clicks", 1), 15, 20)


async def test_worker_tells_its_health_and_stops_when_the_warehouse_refuses(
    kafka: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(kafka, topic)
    await send(kafka.address, topic, traffic(100), partitions=PARTITIONS)
    with StreamWorker(
        tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic, streams_stall_s=1, streams_patience_s=60
    ) as worker:
        wait_until(lambda: accepted(warehouse) >= 100, "all clicks are counted", alive=worker)
        wait_until(lambda: ask(f"{worker.url}/ready").status == 200, "it is ready", alive=worker)
        assert ask(f"{worker.url}/live").status == 200
        wait_until(lambda: warehouse.rows("SELECT 1 FROM log_ends"), "the log's ends are stated", alive=worker)
        warehouse.command("RENAME TABLE duplicates TO elsewhere, flattrs TO gone")
        warehouse.command("CREATE TABLE duplicates AS elsewhere")
        await send(kafka.address, topic, [make_click("zoe")], partitions=PARTITIONS)
        wait_until(lambda: not worker.running(), "a warehouse that refuses stops it")
        assert "refuses rows of flattrs" in worker.tail(3)
        assert accepted(warehouse) == 100


def test_partition_that_stands_still_with_clicks_to_count_names_itself() -> None:
    lag = LagTracker(stall_s=0, metrics=Metrics())
    lag.observe({0: 5, 3: 7}, {0: 5, 3: 9})
    lag.observe({0: 5, 3: 7}, {0: 5, 3: 9})
    (sentence,) = lag.stalled()
    assert "partition 3 has been stuck at offset 7" in sentence
    lag.observe({0: 5, 3: 9}, {0: 5, 3: 9})
    assert lag.stalled() == []


def test_lag_under_steady_load_is_the_age_of_what_is_uncounted() -> None:
    seconds = iter(range(100))
    metrics = Metrics()
    lag = LagTracker(stall_s=60, metrics=metrics, monotonic=lambda: float(next(seconds)))

    def lag_s() -> float | None:
        return metrics.registry.get_sample_value("flattr_streams_lag_seconds", {"partition": "0"})

    for second in range(30):  # never all counted, never more than two seconds behind
        lag.observe({0: max(0, 10 * (second - 2))}, {0: 10 * second})
    assert lag_s() == 2
    for _ in range(5):  # stands still while the log goes on
        lag.observe({0: 270}, {0: 300})
    assert lag_s() == 7
    lag.observe({0: 300}, {0: 300})
    assert lag_s() == 0


async def test_worker_whose_kafka_was_killed_says_so_within_the_stall_time_and_counts_when_it_is_back(
    own_kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(own_kafka, topic)
    with StreamWorker(
        tmp_path, broker=own_kafka.address, warehouse=warehouse, topic=topic, streams_stall_s=3
    ) as worker:
        before, after = traffic(200)[:100], traffic(200)[100:]
        await send(own_kafka.address, topic, before, partitions=PARTITIONS)
        wait_until(lambda: accepted(warehouse) == 100, "it counts", alive=worker)
        own_kafka.kill()
        wait_until(lambda: b"Kafka has not told" in told(worker), "it says so", alive=worker)
        own_kafka.start()
        await send(own_kafka.address, topic, after, partitions=PARTITIONS)
        wait_until(lambda: accepted(warehouse) == 200, "it counts again", alive=worker)
        wait_until(lambda: ask(f"{worker.url}/ready").status == 200, "it is ready again", alive=worker)


async def test_records_fetched_between_the_seek_and_the_resumed_flow_are_fetched_again(
    kafka: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(kafka, topic)
    clicks = traffic(200)
    with StreamWorker(
        tmp_path, broker=kafka.address, warehouse=warehouse, topic=topic, program=(*RACING, "late")
    ) as worker:
        wait_until(lambda: told(worker) == b"ready\n", "it waits for clicks", alive=worker)
        assert worker.process is not None
        worker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: b"sought" in worker.log.read_bytes(), "it has its partitions again", alive=worker)
        await send(kafka.address, topic, clicks[:100], partitions=PARTITIONS)
        # By themselves: records that come later would have the ones before fetched again.
        wait_until(lambda: accepted(warehouse) == 100, "they are counted", timeout_s=15, alive=worker)
        await send(kafka.address, topic, clicks[100:], partitions=PARTITIONS)
        wait_until(lambda: accepted(warehouse) == 200, "all are counted", timeout_s=15, alive=worker)
    assert_counted(warehouse, clicks)


async def test_worker_that_gets_nothing_of_what_kafka_has_for_it_ends_and_the_next_one_counts(
    broker: ServiceProcess, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(broker, topic)
    clicks = traffic(200)
    with StreamWorker(
        tmp_path, broker=broker.address, warehouse=warehouse, topic=topic, program=(*RACING, "never"), streams_stall_s=1
    ) as worker:
        await send(broker.address, topic, clicks[:100], partitions=PARTITIONS)
        wait_until(lambda: accepted(warehouse) == 100, "it counts", alive=worker)
        assert worker.process is not None
        worker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: b"sought" in worker.log.read_bytes(), "it hears nothing", alive=worker)
        await send(broker.address, topic, clicks[100:], partitions=PARTITIONS)
        wait_until(lambda: not worker.running(), "it ends")
        assert worker.process.returncode == 1
        assert re.search(r"partition \d has got no record for [5-9] s, though Kafka tells of", worker.log.read_text())
    with StreamWorker(tmp_path, broker=broker.address, warehouse=warehouse, topic=topic, name="next") as worker:
        wait_until(lambda: accepted(warehouse) == 200, "the next one counts", alive=worker)
    assert_counted(warehouse, clicks)


def test_partition_is_starved_after_five_stall_times_in_which_none_of_its_records_waited_to_be_written() -> None:
    now = [0.0]
    lag = LagTracker(stall_s=60, metrics=Metrics(), monotonic=lambda: now[0])

    def at(second: float, counted: int, *holding: int) -> str:
        now[0] = second
        lag.observe({0: counted, 1: 3}, {0: 9, 1: 3}, holding)
        return lag.starved()

    assert at(0, 5) == ""
    assert at(299, 5) == ""
    assert "partition 0 has got no record for 300 s, though Kafka tells of 4 from offset 5 on" in at(300, 5)
    assert at(301, 5, 0) == ""  # it is being written, however long that takes
    assert at(600, 5) == ""
    assert "for 300 s" in at(601, 5)
    assert at(602, 9) == ""


async def test_worker_whose_warehouse_is_frozen_blames_no_kafka(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    await make_topics(embedded_broker, topic)
    with EmbeddedWarehouse(tmp_path / "own") as server, closing(Warehouse(f"{server.url}/own")) as warehouse:
        migrate(warehouse)
        assert server.process is not None
        with StreamWorker(
            tmp_path, broker=embedded_broker.address, warehouse=warehouse, topic=topic, streams_stall_s=1
        ) as worker:
            wait_until(lambda: ask(f"{worker.url}/ready").status == 200, "it is ready", alive=worker)
            server.process.send_signal(signal.SIGSTOP)
            try:
                await send(embedded_broker.address, topic, traffic(100), partitions=PARTITIONS)
                # Six stall times: by then, what blames Kafka says so in front of it or has ended the worker.
                stuck = re.compile(
                    rb"^the warehouse has not answered.*has been stuck at offset \d+ for ([6-9]|\d\d) s", re.DOTALL
                )
                wait_until(lambda: stuck.search(told(worker)), "it says what is stuck", timeout_s=20, alive=worker)
            finally:
                server.process.send_signal(signal.SIGCONT)


def test_silence_of_kafka_is_told_with_its_reason_and_ends_with_an_answer() -> None:
    now = [0.0]
    lag = LagTracker(stall_s=60, metrics=Metrics(), monotonic=lambda: now[0])
    lag.unheard, now[0] = "connection refused", 59.0
    assert lag.silent() == []
    now[0] = 60.0
    assert lag.silent() == ["Kafka has not told the ends of the log for 60 s: connection refused"]
    lag.observe({}, {})
    assert lag.silent() == []


def test_silence_of_the_warehouse_begins_with_the_first_question_and_ends_with_an_answer() -> None:
    now = [0.0]
    asked = Silence("the warehouse", stall_s=60, monotonic=lambda: now[0])
    now[0] = 500.0
    assert asked.told() == []
    asked.ask()
    now[0] = 530.0
    asked.ask()
    asked.failed("connection refused")
    assert asked.told() == []
    now[0] = 560.0
    assert asked.told() == ["the warehouse has not answered for 60 s: connection refused"]
    asked.answered()
    assert asked.told() == []


async def test_a_worker_that_is_started_before_kafka_waits_for_it(
    own_kafka: ApacheKafka, warehouse: Warehouse, topic: str, tmp_path: Path
) -> None:
    await make_topics(own_kafka, topic)
    own_kafka.stop()
    worker = StreamWorker(tmp_path, broker=own_kafka.address, warehouse=warehouse, topic=topic)
    worker.launch()
    try:
        wait_until(lambda: b"Kafka is away" in worker.log.read_bytes(), "it says what it waits for", alive=worker)
        own_kafka.start()
        wait_until(lambda: worker.listens() and told(worker) == b"ready\n", "it counts", alive=worker)
    finally:
        worker.kill()
