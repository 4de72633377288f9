"""Several workers on one port: they add up, and a restart of them all loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

from deploy.stack.embedded import EmbeddedBroker
from tests.ingest.conftest import make_topics, wait_until
from tests.ingest.test_outage import Service, counted
from tests.support.serving import ask


def command_line(pid: str) -> str:
    """Of a process; empty when it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_workers_restart_one_after_the_other_while_clicks_are_taken(
    tmp_path: Path, embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    make_topics(embedded_broker.address, topic)
    service = Service(tmp_path, embedded_broker, topic, token_keys, FLATTR_INGEST_WORKERS="2")
    taken: set[str] = set()
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            click_id = str(uuid.uuid4())
            while service.post(click_id) != 202:
                pass
            taken.add(click_id)

    def workers() -> set[str]:
        assert service.part.process is not None
        children = Path(f"/proc/{service.part.process.pid}/task/{service.part.process.pid}/children").read_text()
        return {child for child in children.split() if "spawn_main" in command_line(child)}

    clients = [threading.Thread(target=load) for _ in range(4)]
    with service.part:
        try:
            for client in clients:
                client.start()
            wait_until(lambda: len(taken) > 50)
            assert service.part.process is not None
            before = workers()
            assert len(before) == 2
            os.kill(service.part.process.pid, signal.SIGHUP)
            wait_until(lambda: len(workers()) == 2 and not workers() & before, 80)
            more = len(taken) + 50
            wait_until(lambda: len(taken) > more, 40)
        finally:
            stop.set()
            for client in clients:
                client.join()
        url = service.url.replace("/v1/clicks", "/metrics")
        line = f"flattr_ingest_clicks_accepted_total {len(taken)}.0".encode()
        wait_until(lambda: line in ask(url).body)
    assert taken <= set(counted(embedded_broker.address, topic))


def test_missing_topic_and_missing_keys_are_a_sentence(
    tmp_path: Path, embedded_broker: EmbeddedBroker, token_keys: Path
) -> None:
    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy", "ingest"],
            env={
                **os.environ,
                "FLATTR_BROKER": embedded_broker.address,
                "FLATTR_INGEST_IDEMPOTENCE": "false",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    for environment, part in [
        ({"FLATTR_TOKEN_KEYS": str(token_keys), "FLATTR_TOPIC_CLICKS": "nowhere"}, "no topic nowhere"),
        ({"FLATTR_TOKEN_KEYS": str(tmp_path / "none.json"), "FLATTR_TOPIC_CLICKS": "nowhere"}, "flattr token keygen"),
    ]:
        done = run(**environment)
        assert done.returncode == 1
        assert part in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr
