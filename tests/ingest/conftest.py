"""An ingest service on a real socket, in a thread of its own, before a real broker."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import EmbeddedBroker, ServiceProcess, free_port
from ingest.app import create_app
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue, keygen
from ingest.serve import server_options
from ingest.settings import IngestSettings
from tests.support.serving import Answer, ask


class Ingest:
    """A running service, and a member who talks to it."""

    def __init__(self, settings: IngestSettings) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self.server = uvicorn.Server(
            uvicorn.Config(create_app(settings), host="127.0.0.1", port=settings.port, **server_options(settings))
        )
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    def token(
        self, member: str = "ann", *, valid_s: int = 600, audience: str = "flattr", kid: str | None = None
    ) -> str:
        now_ms = system_clock()
        return issue(self.settings.token_keys, member, audience=audience, now_ms=now_ms, valid_s=valid_s, kid=kid)

    def pixel_token(self, member: str = "ann", *, valid_s: int = 600, **bound: str) -> str:
        """A token for one member's flattr of bob's https://example.org/a on the site `blog`, or as `bound` says."""
        bound = {"creator": "bob", "thing": "https://example.org/a", "site": "blog", **bound}
        keys, now_ms = self.settings.token_keys, system_clock()
        return issue(keys, member, audience="flattr", now_ms=now_ms, valid_s=valid_s, bound=bound)

    def get(self, path: str, **headers: str) -> Answer:
        """GET a path of the service."""
        return ask(self.url + path, headers=headers)

    def post(
        self,
        what: object,
        *,
        member: str = "ann",
        token: str | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST bytes as they are, anything else as JSON, as a member."""
        return ask(
            f"{self.url}/v1/clicks",
            method="POST",
            headers={
                "authorization": f"Bearer {token or self.token(member)}",
                "content-type": content_type,
                **(headers or {}),
            },
            body=what if isinstance(what, bytes) else json.dumps(what).encode(),
        )

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of /metrics."""
        inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
        sample = f"{name}{{{inside}}} " if inside else f"{name} "
        lines = [line for line in self.get("/metrics").body.decode().splitlines() if line.startswith(sample)]
        assert lines, f"no metric {sample}"
        return float(lines[0].rsplit(" ", 1)[1])


def wait_until(condition: Callable[[], object], timeout_s: float = 20) -> None:
    """Until the condition holds; fails the test when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def token_keys(tmp_path: Path) -> Path:
    """A key file with one HS256 key, `first`."""
    path = tmp_path / "token-keys.json"
    keygen(path, algorithm="HS256", kid="first")
    return path


def make_topics(address: str, topic: str, partitions: int = 4) -> None:
    """The two topics of a test, `topic` and `topic`-rejected."""
    asyncio.run(create_topics(address, [TopicPlan(topic, partitions), TopicPlan(f"{topic}-rejected", 1)]))


@contextmanager
def serving(settings: IngestSettings) -> Iterator[Ingest]:
    """Serve for the length of a block."""
    service = Ingest(settings)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def settings_for(broker: ServiceProcess, topic: str, token_keys: Path, **more: object) -> IngestSettings:
    """Settings of a service on a free port, before this broker."""
    values: dict[str, object] = {
        "broker": broker.address,
        "idempotence": not isinstance(broker, EmbeddedBroker),
        "topic_clicks": topic,
        "topic_rejected": f"{topic}-rejected",
        "token_keys": token_keys,
        "port": free_port(),
    }
    return IngestSettings.model_validate({**values, **more})


@pytest.fixture
def ingest(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path) -> Iterator[Ingest]:
    """A service before the embedded broker."""
    make_topics(embedded_broker.address, topic)
    with serving(settings_for(embedded_broker, topic, token_keys)) as service:
        yield service


def records(address: str, topic: str) -> list[ConsumerRecord]:
    """Everything that a topic holds now."""

    async def read() -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = consumer.assignment()
            ends = await consumer.end_offsets(partitions)
            found: list[ConsumerRecord] = []
            await consumer.seek_to_beginning()
            while sum(ends.values()) - len(found) > 0:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += batch
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())
