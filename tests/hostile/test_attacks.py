"""What strangers do to a port costs it little memory, and those beside them are answered."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import pytest

from benchmarks.hostile_attacks import ATTACKS
from deploy.stack.embedded import ServiceProcess
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from tests.hostile.conftest import ROOT
from tests.support.serving import ask

GROWTH_MAX_MB = 64
SECONDS = 4


def memory_mb(part: ServiceProcess) -> float:
    """What the process holds in memory now."""
    assert part.process is not None
    for line in Path(f"/proc/{part.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


class MemoryMeter:
    """The most memory of a process while a block runs."""

    def __init__(self, part: ServiceProcess) -> None:
        self._part = part
        self.before_mb = self.most_mb = memory_mb(part)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.most_mb = max(self.most_mb, memory_mb(self._part))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth_mb(self) -> float:
        return self.most_mb - self.before_mb


def honest(part: ServiceProcess, keys: Path) -> int:
    """The status of what an honest client of the port gets, on a connection of its own."""
    url = f"http://127.0.0.1:{part.port}"
    if part.name == "api":
        return ask(f"{url}/live").status
    token = issue(keys, "ann", audience="flattr", now_ms=system_clock(), valid_s=600, kid=None)
    click = json.dumps({"creator_id": "bob", "thing": "https://example.org/a"}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return ask(f"{url}/v1/clicks", method="POST", headers=headers, body=click).status


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_costs_little_memory_and_nobody_else_an_answer(port_of: ServiceProcess, attack: str, keys: Path) -> None:
    assert honest(port_of, keys) in (200, 202)
    command = [sys.executable, "-m", "benchmarks.hostile_attacks", attack, "127.0.0.1", str(port_of.port), str(SECONDS)]
    with MemoryMeter(port_of) as meter, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as attacker:
        statuses = []
        while attacker.poll() is None:
            statuses.append(honest(port_of, keys))
            time.sleep(0.02)
        got = json.loads(attacker.communicate()[0])
    assert got["connections"] > 0
    assert set(statuses) <= {200, 202}
    assert meter.growth_mb <= GROWTH_MAX_MB
