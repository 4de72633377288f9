"""What Kafka says: its brokers, topics, the user's rights, its clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest

from deploy.cli.doctor.clocks import Clock, difference
from deploy.cli.doctor.findings import Finding, ok, unknown, warning, wrong
from deploy.cli.doctor.kafka_requests import Quorum, TopicsAndRights
from deploy.cli.doctor.topics import look_at_partitions, look_at_topic_settings
from deploy.provision.acl import GROUP, OPERATIONS, Right
from deploy.provision.topics import TopicPlan
from ingest.runtime.kafka_settings import BrokerSettings, client_security
from ingest.runtime.topic import SettingsUntold, topic_settings

_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")
_SECURE: Final = ("SSL", "SASL_SSL")
_SEEN: Final = "a clock that is wrong shows as flattr_ingest_stamps_refused_total (docs/runbooks.md, ClockWrong)"
_GROUP_TRIES: Final = 10
_GROUP_PAUSE_S: Final = 0.3
#: Kafka's number for "the user's rights were not asked for", which brokers without rights answer as well.
_UNTOLD: Final = -(1 << 31)


@dataclass(frozen=True)
class Expected:
    """What the topics should be, by name, and the rights that the user should have."""

    plans: dict[str, TopicPlan]
    rights: list[Right]
    #: How many partitions of the first topic are in use; 0: all.
    partitions: int = 0


def look_at_kafka(settings: BrokerSettings, expected: Expected, clock: Clock, timeout_s: float) -> Iterator[Finding]:
    """Everything that can be asked, one by one, so that what was found stands when a later answer does not come."""
    if settings.broker_security not in _SECURE and any(host not in _THIS_MACHINE for host in _hosts(settings.broker)):
        yield warning(
            "kafka", "it is reached without TLS: whoever owns the network reads and alters clicks",
            "set FLATTR_BROKER_SECURITY=SASL_SSL across any network you do not own",
        )  # fmt: skip
    with asyncio.Runner() as loop, _reasons() as reasons:
        admin = loop.run(_admin(settings, timeout_s))
        try:
            try:
                loop.run(admin.start())
            except (KafkaError, OSError, TimeoutError) as error:
                yield wrong(
                    "kafka", f"no broker of {settings.broker} lets us in: {reasons[-1] if reasons else error}",
                    "see whether it runs, and whether FLATTR_BROKER* has its address, protocol, user and password",
                )  # fmt: skip
                return
            ask = _Asked(admin, settings, expected, clock)
            for question in (ask.brokers, ask.topics, ask.rights_of_group, ask.clock):
                yield from loop.run(_all(question()))
        finally:
            loop.run(admin.close())


def _hosts(addresses: str) -> Iterator[str]:
    return (address.strip().rpartition(":")[0].strip("[]") for address in addresses.split(","))


async def _admin(settings: BrokerSettings, timeout_s: float) -> AIOKafkaAdminClient:
    """A client; it has to be made where its loop runs."""
    return AIOKafkaAdminClient(
        bootstrap_servers=settings.broker, request_timeout_ms=round(timeout_s * 1000), **client_security(settings)
    )


async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]


@contextmanager
def _reasons() -> Iterator[list[str]]:
    """Why aiokafka could not connect: it says so in its log alone."""
    said: list[str] = []

    class _Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            # A time that ran out has no words of its own.
            said.append(f"{text}no answer in time" if text.endswith(": ") else text)

    listener, logger = _Listener(logging.WARNING), logging.getLogger("aiokafka")
    logger.addHandler(listener)
    try:
        yield said
    finally:
        logger.removeHandler(listener)


class _Asked:
    """The questions, to a broker that answers."""

    def __init__(self, admin: AIOKafkaAdminClient, settings: BrokerSettings, expected: Expected, clock: Clock) -> None:
        self._admin = admin
        self._settings = settings
        self._expected = expected
        self._clock = clock

    async def brokers(self) -> AsyncIterator[Finding]:
        """Each broker by the address that it advertises, which clients use after the first."""
        for broker in self._admin._client.cluster.brokers():  # noqa: SLF001 - it tells nobody
            about = f"kafka broker {broker.nodeId}"
            address = f"{broker.host}:{broker.port}"
            if await self._admin._client.ready(broker.nodeId):  # noqa: SLF001 - as above
                yield ok(about, f"{address} answers")
            else:
                yield wrong(
                    about, f"{address}, as it advertises itself, does not answer", "start it, or correct its listeners"
                )

    async def topics(self) -> AsyncIterator[Finding]:
        """Partitions, settings and rights of each topic."""
        names = list(self._expected.plans)
        try:
            answer = await self._send(TopicsAndRights(names))
        except (
            RuntimeError
        ):  # KafkaError is one, and so is what aiokafka raises if it shares no version with the broker
            yield unknown(
                "topics", "the broker is too old to say what the user may do with them", "run Kafka 3.6 or later"
            )
            return
        for told in answer.to_object()["topics"]:
            name = told["topic"]
            plan, used = self._expected.plans[name], self._expected.partitions if name == names[0] else 0
            for finding in look_at_partitions(told, used):
                yield finding
            if told["error_code"]:
                continue
            for finding in self._rights(name, told["authorized_operations"]):
                yield finding
            try:
                found = await topic_settings(self._admin, name)
            except SettingsUntold as error:
                yield unknown(
                    f"topic {name}", f"its settings are not told: {error}", "ask as the operator or as finance"
                )
            else:
                in_sync = min((len(one["isr"]) for one in told["partitions"]), default=0)
                for finding in look_at_topic_settings(plan, found, in_sync):
                    yield finding

    def _rights(self, name: str, bits: int) -> Iterator[Finding]:
        expected = [right for right in self._expected.rights if right.kind != GROUP and right.name == name]
        about = f"rights on topic {name}"
        if bits == _UNTOLD:
            yield unknown(about, "the broker knows no rights")
        elif lacking := [right.operation for right in expected if not bits & 1 << OPERATIONS[right.operation]]:
            yield wrong(
                about, f"{self._settings.broker_sasl_username} may not {', '.join(lacking)}",
                "run `flattr topics allow` as a super user",
            )  # fmt: skip
        elif expected:
            yield ok(about, f"{expected[0].user} may {', '.join(right.operation for right in expected)}, as it has to")

    async def rights_of_group(self) -> AsyncIterator[Finding]:
        """Whether the stream workers may join their group, if it is them that we ask for."""
        for right in self._expected.rights:
            if right.kind != GROUP:
                continue
            about = f"rights on group {right.name}"
            code = await self._described(right.name)
            if code == GroupAuthorizationFailedError.errno:
                yield wrong(about, f"{right.user} may not join it", "run `flattr topics allow` as a super user")
            elif code:
                yield unknown(about, f"Kafka says {for_code(code).__name__}", "ask again when Kafka has started")
            else:
                yield ok(about, f"{right.user} may join it")

    async def _described(self, group: str) -> int:
        """The code with which Kafka describes a group. The first to ask after a group has Kafka make their topic."""
        for _ in range(_GROUP_TRIES):
            try:
                coordinator = await self._admin.find_coordinator(group)
                answer = await self._admin._send_request(DescribeGroupsRequest([group]), coordinator)  # noqa: SLF001 - its method tells no codes
                return int(answer.to_object()["groups"][0]["error_code"])
            except GroupCoordinatorNotAvailableError:
                await asyncio.sleep(_GROUP_PAUSE_S)
            except KafkaError as error:
                return int(error.errno)
        return int(GroupCoordinatorNotAvailableError.errno)

    async def clock(self) -> AsyncIterator[Finding]:
        """The time of the controllers' leader, which says it of itself."""
        before = self._clock()
        try:
            answer = await self._send(Quorum())
        except RuntimeError:  # as above
            yield unknown("clock of kafka", "the broker does not tell the time", _SEEN)
            return
        told = answer.to_object()
        partitions = [one for topic in told["topics"] for one in topic["partitions"]]
        if told["error_code"] or not partitions or partitions[0]["error_code"]:
            yield unknown("clock of kafka", "only a user who may describe the cluster is told", _SEEN)
            return
        leader, voters = partitions[0]["leader"], partitions[0]["voters"]
        theirs = next((one["last_caught_up_ms"] for one in voters if one["replica_id"] == leader), 0)
        yield difference("kafka", before, theirs, self._clock())

    async def _send(self, request: Any) -> Any:  # noqa: ANN401 - aiokafka has no types
        return await self._admin._send_request(request)  # noqa: SLF001 - the client has no method for it
