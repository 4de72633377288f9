"""Blocks on their way to the brokers: each is told once what became of it, whatever the broker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, NotLeaderForPartitionError, TopicAuthorizationFailedError
from aiokafka.protocol.produce import ProduceRequest

from deploy.stack.embedded import ApacheKafka, EmbeddedBroker, ServiceProcess
from ingest.log.producer import Producer
from ingest.log.sender import Block, BrokerUnavailable
from ingest.runtime.clock import system_clock
from tests.ingest.conftest import make_topics, records, settings_for

Outcome = int | BrokerUnavailable
#: Stands in for the way of one produce request, given its number and how to send it.
Way = Callable[[int, Callable[[], Awaitable[Any]]], Awaitable[Any]]


class Blocks:
    """Blocks that a test sends, and what they were told."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self._told: dict[bytes, list[Outcome]] = {}
        self._is_told = asyncio.Event()

    def send(self, partition: int, value: bytes) -> None:
        """Have a block sent."""
        told = self._told[value] = list[Outcome]()

        def tell(outcome: Outcome) -> None:
            told.append(outcome)
            self._is_told.set()

        block = Block(value, system_clock(), tell, tell)
        self.producer.ask(partition, lambda: block)

    async def all_told(self) -> dict[bytes, Outcome]:
        """What became of each block, of which each was told once."""
        async with asyncio.timeout(20):
            while not all(self._told.values()):
                self._is_told.clear()
                await self._is_told.wait()
        assert {len(told) for told in self._told.values()} == {1}
        return {value: told[0] for value, told in self._told.items()}


class Requests(list[ProduceRequest]):
    """The produce requests that set out."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()


OnTheWay = Callable[[Way], Requests]


@asynccontextmanager
async def sending(
    broker: ServiceProcess, topic: str, token_keys: Path, *, partitions: int = 4, timeout_s: float = 5
) -> AsyncIterator[Blocks]:
    """A producer into topics of a test."""
    await asyncio.to_thread(make_topics, broker.address, topic, partitions)
    producer = Producer(settings_for(broker, topic, token_keys, produce_timeout_s=timeout_s))
    await producer.start()
    try:
        yield Blocks(producer)
    finally:
        await producer.stop()


@pytest.fixture
def on_the_way(monkeypatch: pytest.MonkeyPatch) -> OnTheWay:
    """Put something in the way of produce requests; the list that is returned has all that were sent."""

    def put(way: Way) -> Requests:
        send, seen = AIOKafkaClient.send, Requests()

        async def sent(client: AIOKafkaClient, node: int, request: object) -> object:
            if not isinstance(request, ProduceRequest):
                return await send(client, node, request)
            seen.append(request)
            seen.begun.set()
            return await way(len(seen), lambda: send(client, node, request))

        monkeypatch.setattr(AIOKafkaClient, "send", sent)
        return seen

    return put


async def values(broker: ServiceProcess, topic: str) -> list[tuple[int, int, bytes]]:
    """Partition, offset and value of every record."""
    found = await asyncio.to_thread(records, broker.address, topic)
    return sorted((record.partition, record.offset, record.value) for record in found)


async def test_one_request_has_a_block_of_every_partition_and_one_request_is_under_way(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    go_on = asyncio.Event()

    async def held(number: int, send: Callable[[], Awaitable[Any]]) -> Any:
        if number == 1:
            await go_on.wait()
        return await send()

    async with sending(embedded_broker, topic, token_keys) as blocks:
        requests = on_the_way(held)
        blocks.send(0, b"first")
        await requests.begun.wait()
        for number in range(8):
            blocks.send(number % 4, b"%d" % number)
        await asyncio.sleep(0.05)
        assert len(requests) == 1
        go_on.set()
        told = await blocks.all_told()
        assert [len(partitions) for request in requests for _, partitions in request._topics] == [1, 4, 4]
    assert told == {b"first": 0, b"0": 1, b"1": 0, b"2": 0, b"3": 0, b"4": 2, b"5": 1, b"6": 1, b"7": 1}


@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), KeyError(1)], ids=repr)
async def test_block_is_sent_again_whatever_the_client_raises_when_its_connection_is_cut(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, on_the_way: OnTheWay, error: Exception
) -> None:
    async def failing(number: int, send: Callable[[], Awaitable[Any]]) -> Any:
        if number == 1:
            raise error
        return await send()

    async with sending(embedded_broker, topic, token_keys) as blocks:
        on_the_way(failing)
        blocks.send(0, b"a")
        assert await blocks.all_told() == {b"a": 0}


async def test_block_whose_acknowledgement_is_lost_is_sent_again_and_stored_once(
    kafka: ApacheKafka, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    async def losing(number: int, send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await send()
        if number in (2, 3):
            raise KafkaConnectionError("the cable")
        return answer

    async with sending(kafka, topic, token_keys, partitions=2) as blocks:
        requests = on_the_way(losing)
        for number in range(6):
            blocks.send(number % 2, b"%d" % number)
        assert await blocks.all_told() == {b"0": 0, b"1": 0, b"2": 1, b"3": 1, b"4": 2, b"5": 2}
        assert len(requests) == 5
    assert await values(kafka, topic) == [
        (0, 0, b"0"), (0, 1, b"2"), (0, 2, b"4"), (1, 0, b"1"), (1, 1, b"3"), (1, 2, b"5")
    ]  # fmt: skip


async def test_sequence_numbers_begin_anew_after_their_end(kafka: ApacheKafka, topic: str, token_keys: Path) -> None:
    async with sending(kafka, topic, token_keys, partitions=1) as blocks:
        sender = blocks.producer._sender
        assert sender is not None
        sender._sequences[blocks.producer._places[0]] = (1 << 31) - 2
        for number in range(5):
            blocks.send(0, b"%d" % number)
        assert await blocks.all_told() == {b"%d" % number: number for number in range(5)}


async def test_new_leader_gets_what_the_old_one_did_not_take(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    async def moving(number: int, send: Callable[[], Awaitable[Any]]) -> Any:
        if number < 3:
            raise NotLeaderForPartitionError
        return await send()

    async with sending(embedded_broker, topic, token_keys) as blocks:
        requests = on_the_way(moving)
        blocks.send(0, b"a")
        blocks.send(1, b"b")
        assert await blocks.all_told() == {b"a": 0, b"b": 0}
        assert len(requests) == 3


@pytest.mark.parametrize("is_stuck", [True, False], ids=["no answer", "the same error again and again"])
async def test_block_that_is_not_acknowledged_in_time_has_failed_and_so_has_all_behind_it(
    embedded_broker: EmbeddedBroker,
    topic: str,
    token_keys: Path,
    on_the_way: OnTheWay,
    *,
    is_stuck: bool,
) -> None:
    async def lost(_: int, _send: Callable[[], Awaitable[Any]]) -> Any:
        if is_stuck:
            await asyncio.Event().wait()
        raise NotLeaderForPartitionError

    async with sending(embedded_broker, topic, token_keys, timeout_s=0.3) as blocks:
        requests = on_the_way(lost)
        began = asyncio.get_running_loop().time()
        for value in (b"a", b"b", b"c"):
            blocks.send(0, value)
        told = await blocks.all_told()
        assert 0.25 < asyncio.get_running_loop().time() - began < 2
        assert all(isinstance(outcome, BrokerUnavailable) for outcome in told.values())
        sent = len(requests)
        blocks.send(1, b"late")
        assert isinstance((await blocks.all_told())[b"late"], BrokerUnavailable)
        assert len(requests) == sent


async def test_partition_that_nobody_leads_fails_in_time(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sending(embedded_broker, topic, token_keys, timeout_s=0.3) as blocks:
        sender = blocks.producer._sender
        assert sender is not None
        led = sender._leader_of
        monkeypatch.setattr(sender, "_leader_of", lambda where: -1 if where.partition == 1 else led(where))
        blocks.send(0, b"led")
        blocks.send(1, b"not led")
        told = await blocks.all_told()
        assert told[b"led"] == 0
        assert isinstance(told[b"not led"], BrokerUnavailable)


async def test_refusal_of_one_partition_ends_all_and_what_is_stored_of_its_request_is_told(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    async def refusing(number: int, send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await send()
        if number == 1:
            ((name, partitions),) = answer.topics
            changed = [
                (which, TopicAuthorizationFailedError.errno if which == 1 else code, *rest)
                for which, code, *rest in partitions
            ]
            answer.topics = [(name, changed)]
        return answer

    async with sending(embedded_broker, topic, token_keys) as blocks:
        on_the_way(refusing)
        for number in range(3):
            blocks.send(number, b"%d" % number)
        blocks.send(0, b"behind")
        told = await blocks.all_told()
        assert (told[b"0"], told[b"2"]) == (0, 0)
        assert isinstance(told[b"1"], BrokerUnavailable)
        assert isinstance(told[b"behind"], BrokerUnavailable)


async def test_stop_waits_for_what_is_under_way_and_tells_everybody(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    async def slow(_: int, send: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(0.1)
        return await send()

    async with sending(embedded_broker, topic, token_keys) as blocks:
        requests = on_the_way(slow)
        blocks.send(0, b"under way")
        await requests.begun.wait()
        blocks.send(0, b"behind")
        await blocks.producer.stop()
        told = await blocks.all_told()
        assert told[b"under way"] == 0
        assert isinstance(told[b"behind"], BrokerUnavailable)


async def test_stop_gives_up_what_hangs(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    async def stuck(_: int, _send: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.Event().wait()

    async with sending(embedded_broker, topic, token_keys) as blocks:
        requests = on_the_way(stuck)
        blocks.send(0, b"stuck")
        await requests.begun.wait()
        await blocks.producer.stop()
        assert isinstance((await blocks.all_told())[b"stuck"], BrokerUnavailable)


async def test_nothing_is_lost_or_told_twice_while_the_broker_fails_at_random(
    kafka: ApacheKafka, topic: str, token_keys: Path, on_the_way: OnTheWay
) -> None:
    """Every answer that names an offset is true, and nothing stands twice, whichever requests and answers are lost."""

    async def moody(number: int, send: Callable[[], Awaitable[Any]]) -> Any:
        if number % 7 == 3:
            raise NotLeaderForPartitionError
        answer = await send()
        if number % 5 == 2:
            raise KafkaConnectionError("the cable")
        return answer

    async with sending(kafka, topic, token_keys) as blocks:
        on_the_way(moody)
        for number in range(200):
            blocks.send(number * number % 4, b"%d" % number)
            if number % 10 == 0:
                await asyncio.sleep(0.002)
        told = await blocks.all_told()
    stored = await values(kafka, topic)
    assert {value: offset for _, offset, value in stored} == told
    assert len(stored) == len(told) == 200
