"""docker-compose.yml's Kafka, started here with its own properties: TLS, SASL, and nothing that is not allowed by name.

The whole way goes over it, every service as its own user; then each user tries what it may not.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.helpers import create_ssl_context

from deploy.proving.chaos.arena import Served
from deploy.provision.secret_files import BROKER_USERS, init
from deploy.provision.topics import retention_days
from deploy.stack.embedded import ROOT, ApacheKafka, free_port
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from ingest.runtime.topic import SettingsUntold, topic_settings
from tests.support.serving import ask
from tests.support.waiting import wait_until
from warehouse.storage.client import Warehouse

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
#: Not properties: the image makes paths and passwords of the three, and hands the last to Java.
NO_PROPERTY = {
    "KAFKA_SSL_KEYSTORE_FILENAME", "KAFKA_SSL_KEYSTORE_CREDENTIALS", "KAFKA_SSL_KEY_CREDENTIALS", "KAFKA_OPTS",
}  # fmt: skip
PARTITIONS = 2
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]


def values(path: Path) -> dict[str, str]:
    """An environment file, as compose reads it."""
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, _, value in pairs}


class ComposeKafka(ApacheKafka):
    """The service `kafka` of docker-compose.yml; only folders, ports and hosts are this machine's."""

    @property
    def address(self) -> str:
        """By the name that is in its certificate."""
        return f"localhost:{self.port}"

    @property
    def secrets(self) -> Path:
        """What `flattr secrets init` wrote."""
        return self.folder / "secrets"

    def _properties(self) -> str:
        init(self.secrets)
        service = COMPOSE["services"]["kafka"]
        environment = {**service["environment"], **values(self.secrets / "kafka.env")}
        password = (self.secrets / "kafka" / environment["KAFKA_SSL_KEYSTORE_CREDENTIALS"]).read_text()
        keystore = self.secrets / "kafka" / environment["KAFKA_SSL_KEYSTORE_FILENAME"]
        mine = {
            "ssl.keystore.location": keystore,
            "ssl.keystore.password": password,
            "ssl.key.password": password,
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 4,
            "log.cleaner.dedupe.buffer.size": 4194304,
        }
        lines = [f"{as_property(name)}={value}" for name, value in environment.items() if name not in NO_PROPERTY]
        lines += [f"{name}={value}" for name, value in mine.items()]
        text = "\n".join([*lines, ""])
        for theirs, ours in {
            "SASL_SSL://:9092": f"SASL_SSL://localhost:{self.port}",
            "kafka:9092": self.address,
            "localhost:9093": f"localhost:{self._controller_port}",
            "/var/lib/kafka/data": str(self.folder / "data"),
            "/etc/kafka/secrets": str(self.secrets / "kafka"),
        }.items():
            assert theirs in text, theirs
            text = text.replace(theirs, ours)
        return text


def as_property(name: str) -> str:
    """The image's rule for its environment."""
    lower = name.removeprefix("KAFKA_").lower()
    return lower.replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeKafka]:
    with ComposeKafka(tmp_path_factory.mktemp("secure")) as node:
        made = flattr(["topics", "create", "--partitions", str(PARTITIONS), "--rights"], settings(node, "topics"))
        assert made.returncode == 0, made.stderr
        yield node


def settings(node: ComposeKafka, service: str, **changes: str) -> dict[str, str]:
    """The environment of a service as compose gives it, with this machine's addresses."""
    given = {
        **COMPOSE["services"][service]["environment"],
        **values(node.secrets / f"{service}.env"),
        "FLATTR_BROKER": node.address,
        "FLATTR_BROKER_CA_FILE": str(node.secrets / "ca.pem"),
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None and name.startswith("FLATTR_")}


def flattr(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments], env={**os.environ, **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def client(node: ComposeKafka, user: str, password: str | None = None) -> dict[str, Any]:
    """Arguments of a Kafka client that is that user."""
    jaas = values(node.secrets / "kafka.env")["KAFKA_LISTENER_NAME_SASL__SSL_PLAIN_SASL_JAAS_CONFIG"]
    return {
        "bootstrap_servers": node.address,
        "security_protocol": "SASL_SSL",
        "ssl_context": create_ssl_context(cafile=str(node.secrets / "ca.pem")),
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": user,
        "sasl_plain_password": password or jaas.partition(f'user_{user}="')[2].partition('"')[0],
    }


def test_a_click_goes_all_the_way_each_service_as_its_own_user(
    secure_kafka: ComposeKafka, warehouse: Warehouse, tmp_path: Path
) -> None:
    services = {}
    keys = secure_kafka.secrets / "tokens/keys.json"
    for name in ("ingest", "streams"):
        port = free_port()
        here = {
            f"FLATTR_{name.upper()}_PORT": str(port),
            f"FLATTR_{name.upper()}_HOST": "127.0.0.1",
            "FLATTR_WAREHOUSE": warehouse.url,
            "FLATTR_TOKEN_KEYS": str(keys),
            "FLATTR_INGEST_SPOOL": str(tmp_path / "spool"),
        }
        services[name] = Served(
            name, [sys.executable, "-m", "deploy", name], folder=tmp_path / name, port=port,
            environment=settings(secure_kafka, name, **here),
        )  # fmt: skip
    with services["ingest"], services["streams"]:
        token = issue(keys, "ann", audience="flattr", now_ms=system_clock(), valid_s=600)
        click = {"click_id": str(uuid.uuid4()), "creator_id": "bob", "thing": "https://bob.example/1"}
        answer = ask(
            f"http://127.0.0.1:{services['ingest'].port}/v1/clicks", method="POST",
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
            body=json.dumps(click).encode(),
        )  # fmt: skip
        assert answer.status == 202
        assert answer.json["receipts"][0]["offset"] == 0
        wait_until(lambda: warehouse.rows("SELECT count() FROM progress") != [(0,)], "the click is counted")
        verified = flattr(["verify", "--json"], settings(secure_kafka, "verify", FLATTR_WAREHOUSE=warehouse.url))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    checks = json.loads(verified.stdout)
    assert all(check["holds"] for check in checks)
    sampled = next(check for check in checks if "sample" in check["name"])
    assert sampled["left"] == 1


async def read(node: ComposeKafka, user: str, group: str | None = None, *, topic: str = "clicks") -> None:
    """Read a topic from its beginning; raises what the broker answers."""
    consumer = AIOKafkaConsumer(group_id=group, enable_auto_commit=False, **client(node, user))
    await consumer.start()
    try:
        if group is None:
            consumer.assign([TopicPartition(topic, 0)])
            await consumer.seek_to_beginning()
        else:
            consumer.subscribe([topic])
        await consumer.getmany(timeout_ms=3000)
    finally:
        await consumer.stop()


async def write(node: ComposeKafka, user: str, topic: str) -> None:
    """Write one record; raises what the broker answers."""
    producer = AIOKafkaProducer(enable_idempotence=False, request_timeout_ms=5000, **client(node, user))
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"{}", partition=0)
    finally:
        await producer.stop()


async def test_every_user_may_do_with_every_topic_what_is_granted_and_nothing_else(secure_kafka: ComposeKafka) -> None:
    """Each tries to write and to read each topic there is."""
    admin = AIOKafkaAdminClient(**client(secure_kafka, "operator"))
    await admin.start()
    topics = [topic for topic in await admin.list_topics() if not topic.startswith("__")]
    await admin.close()
    assert {"clicks", "rejected"} <= set(topics)
    users = [user for user in BROKER_USERS if user not in {"broker", "operator"}]
    tries = [(user, topic) for user in users for topic in topics]
    done = await asyncio.gather(*(tried(secure_kafka, *one) for one in tries))
    found = {(user, deed, topic) for (user, topic), deeds in zip(tries, done, strict=True) for deed in deeds}
    assert found == DECIDED


#: Who may do what; whoever is not here may not even ask about a topic.
DECIDED = {
    ("ingest", "Write", "clicks"),
    ("ingest", "Write", "rejected"),
    ("subscriptions", "Write", "clicks"),
    ("streams", "Read", "rejected"),
    *((user, "DescribeConfigs", "clicks") for user in ("finance", "erasure")),
    *((user, "Read", "clicks") for user in ("streams", "finance", "erasure", "api", "verify", "replay")),
}


async def tried(node: ComposeKafka, user: str, topic: str) -> list[str]:
    """What the broker lets the user do with the topic: who may not even ask about it may do nothing."""
    admin = AIOKafkaAdminClient(**client(node, user))
    await admin.start()
    (described,) = await admin.describe_topics([topic])
    await admin.close()
    if described["error_code"] == TopicAuthorizationFailedError.errno:
        return []
    let = []
    for deed, do in DEEDS.items():
        try:
            await do(node, user, topic=topic)
        except (TopicAuthorizationFailedError, SettingsUntold):
            continue
        let.append(deed)
    return let


async def told(node: ComposeKafka, user: str, topic: str) -> None:
    """Read the topic's settings; raises ``SettingsUntold``."""
    admin = AIOKafkaAdminClient(**client(node, user))
    await admin.start()
    try:
        await topic_settings(admin, topic)
    finally:
        await admin.close()


async def test_retention_is_told_to_whoever_may_ask_for_it(secure_kafka: ComposeKafka) -> None:
    for user, days in (("erasure", 100), ("streams", None)):
        how = client(secure_kafka, user)
        assert await retention_days(how.pop("bootstrap_servers"), "clicks", how) == days


#: What is tried, by the operation in Kafka.
DEEDS: dict[str, Callable[..., Awaitable[None]]] = {"Read": read, "Write": write, "DescribeConfigs": told}


async def test_only_the_streams_join_their_group(secure_kafka: ComposeKafka) -> None:
    await read(secure_kafka, "finance")
    with pytest.raises(GroupAuthorizationFailedError):
        await read(secure_kafka, "finance", "flattr-streams")
    with pytest.raises(GroupAuthorizationFailedError):
        await read(secure_kafka, "streams", "another")


def test_subscriptions_are_posted_by_a_user_that_does_nothing_else(
    secure_kafka: ComposeKafka, warehouse: Warehouse
) -> None:
    warehouse.insert(
        "subscription_orders",
        {"member_id": ["ann"], "creator_id": ["bob"], "thing_id": [b"t" * 16], "click_id": [b"c" * 16], "ends": [0],
         "version": [1 << 20], "position": [1], "until": [0], "site_id": [""]},
    )  # fmt: skip
    done = flattr(["subscriptions", "post"], settings(secure_kafka, "subscriptions", FLATTR_WAREHOUSE=warehouse.url))
    assert done.returncode == 0, done.stderr
    assert "1 flattrs of subscriptions posted" in done.stdout


@pytest.mark.parametrize("user", ["ingest", "streams", "finance", "erasure"])
async def test_no_service_makes_a_topic(secure_kafka: ComposeKafka, user: str) -> None:
    admin = AIOKafkaAdminClient(**client(secure_kafka, user))
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic("mine", 1, 1)])
    finally:
        await admin.close()
    assert answer.topic_errors[0][1] == TopicAuthorizationFailedError.errno


@pytest.mark.parametrize(("user", "password"), [("mallory", "guess"), ("operator", "guess")])
async def test_who_is_not_known_gets_nothing(secure_kafka: ComposeKafka, user: str, password: str) -> None:
    admin = AIOKafkaAdminClient(**client(secure_kafka, user, password))
    with pytest.raises(KafkaError):
        await admin.start()
    await admin.close()


async def test_without_tls_there_is_no_answer(secure_kafka: ComposeKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=secure_kafka.address, request_timeout_ms=3000)
    with pytest.raises(KafkaError):
        await admin.start()
    await admin.close()


def test_command_with_a_wrong_password_says_so_without_it(secure_kafka: ComposeKafka) -> None:
    wrong = settings(secure_kafka, "topics", FLATTR_BROKER_SASL_PASSWORD="guess-of-mallory")
    done = flattr(["topics", "create"], wrong)
    assert done.returncode == 1
    assert "guess-of-mallory" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
