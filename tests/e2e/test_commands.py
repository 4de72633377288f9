"""`flattr demo` and `flattr up` as a person runs them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
KEYS = [
    "clicks_sent",
    "accepted",
    "counted",
    "duplicates",
    "rejected",
    "late",
    "flattrs",
    "pledged_micro",
    "fee_micro",
    "paid_micro",
    "carried_micro",
    "charity_micro",
    "held_micro",
    "balanced",
    "seconds",
]


def flattr(*words: str) -> list[str]:
    return [sys.executable, "-m", "deploy", *words]


def has_traffic(shown: Path) -> bool:
    return "Clicks arrive" in shown.read_text()


def demo(folder: Path, *, kill_streams: bool) -> dict[str, Any]:
    figures = folder / "out.json"
    data = folder / "data"
    command = flattr(
        "demo", "--members", "100", "--creators", "20", "--clicks", "4000", "--seed", "7",
        "--data", str(data), "--json", str(figures),
    )  # fmt: skip
    with (folder / "out.txt").open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        try:
            if kill_streams:
                wait_until(lambda: has_traffic(folder / "out.txt") or process.poll() is not None, "traffic")
                assert process.poll() is None, (folder / "out.txt").read_text()
                os.kill(int((data / "streams" / "streams.pid").read_text()), signal.SIGKILL)
            assert process.wait(150) == 0, (folder / "out.txt").read_text()
        finally:
            process.kill()
            process.wait()
    found: dict[str, Any] = json.loads(figures.read_text())
    found["text"] = (folder / "out.txt").read_text()
    return found


@pytest.mark.timeout(300)
def test_demo_with_a_killed_worker_gives_the_same_flattrs_and_payouts(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "killed").mkdir()
    calm = demo(tmp_path / "calm", kill_streams=False)
    killed = demo(tmp_path / "killed", kill_streams=True)

    assert set(KEYS) <= set(calm)
    assert calm["balanced"]
    assert "streams was killed by SIGKILL" in killed["text"]
    assert calm["clicks_sent"] == 4000
    assert calm["accepted"] == calm["counted"] + calm["duplicates"] + calm["rejected"] + calm["late"]
    micro = [key for key in KEYS if key.endswith("_micro")]
    assert calm["pledged_micro"] == sum(calm[key] for key in micro) - calm["pledged_micro"]
    for key in ["counted", "flattrs", *micro]:
        assert killed[key] == calm[key], key
    # A request whose answer a busy machine owes for too long is sent again: its clicks are duplicates, in either run.
    assert killed["accepted"] - killed["duplicates"] == calm["accepted"] - calm["duplicates"]


@pytest.mark.timeout(120)
def test_demo_takes_clicks_from_a_file(tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.ndjson"
    lines = [
        '{"member_id": "ann", "creator_id": "bob", "thing": "https://bob.example/1"}',
        '{"member_id": "ann", "creator_id": "bob", "thing": "https://BOB.example/1#top"}',
        '{"member_id": "ann", "creator_id": "cleo", "thing": "https://cleo.example/a"}',
        '{"member_id": "dan", "creator_id": "bob", "thing": "https://bob.example/1"}',
        "this is no click",
    ]
    clicks.write_text("\n".join(lines) + "\n")
    figures = tmp_path / "out.json"
    command = flattr("demo", "--input", str(clicks), "--data", str(tmp_path / "data"), "--json", str(figures))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert (found["clicks_sent"], found["accepted"], found["flattrs"], found["duplicates"]) == (5, 4, 3, 1)
    assert found["refused_by_reason"] == {"json_malformed": 1}


@pytest.mark.timeout(120)
def test_demo_at_a_terminal_keeps_its_pages_up_until_a_key_is_pressed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = flattr("demo", "--members", "20", "--clicks", "100", "--data", str(tmp_path / "data"))
    process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"Press any key" not in shown:
        shown += os.read(ours, 65536)
    assert b"live page" in shown[: shown.index(b"Clicks arrive")]
    (address,) = re.findall(rb"(http://[\d.:]+/months/\d{4}-\d\d)", shown)
    with urllib.request.urlopen(address.decode(), timeout=10) as page:
        assert "Closed and sealed" in page.read().decode()
    os.write(ours, b"q")
    assert process.wait(60) == 0
    os.close(ours)


class Up:
    """`flattr up` on free ports, as a person runs it."""

    def __init__(self, folder: Path, *options: str) -> None:
        names = ("broker", "warehouse", "warehouse-http", "ingest", "streams", "api")
        ports = [word for name in names for word in (f"--{name}-port", "0")]
        self.data, self.out = folder / "data", folder / "out.txt"
        with self.out.open("wb") as sink:
            command = flattr("up", "--data", str(self.data), *ports, *options)
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink)

    def __enter__(self) -> Self:
        self.wait_said("Ctrl-C stops everything")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.said

    @property
    def said(self) -> str:
        return self.out.read_text()

    def wait_said(self, text: str) -> None:
        wait_until(lambda: text in self.said or self.process.poll() is not None, text, timeout_s=90)
        assert text in self.said, self.said

    def pids(self) -> dict[str, int]:
        return {path.stem: int(path.read_text()) for path in self.data.glob("*/*.pid")}

    def environment(self) -> dict[str, str]:
        lines = (self.data / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.mark.timeout(120)
def test_up_names_a_crashed_part_brings_it_back_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        pids = up.pids()
        assert set(pids) == {"broker", "warehouse", "ingest", "streams", "api"}
        assert up.environment()["FLATTR_BROKER"].startswith("127.0.0.1:")
        os.kill(pids["api"], signal.SIGKILL)
        up.wait_said("api is back after")
        assert "api was killed by SIGKILL; starting it again in 0.5 s" in up.said
    assert up.said.endswith("stopped\n")
    assert not (tmp_path / "data" / "env").exists()
    for name, pid in pids.items():
        assert not Path(f"/proc/{pid}").exists(), f"{name} is still there"


@pytest.mark.timeout(120)
def test_up_names_its_pages_and_they_are_there(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        addresses = re.findall(r"(http://127\.0\.0\.1:\d+\S*)   (?:live|months|the equations|a page)", up.said)
        assert len(addresses) == 4
        for address in addresses:
            with urllib.request.urlopen(address, timeout=30) as page:
                assert "text/html" in page.headers["content-type"], address


@pytest.mark.timeout(180)
def test_up_brings_every_part_back_side_by_side_and_survives_a_death_during_a_start(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        before = up.pids()
        for name in ("warehouse", "ingest", "streams"):
            os.kill(before[name], signal.SIGKILL)
        wait_until(lambda: up.pids()["streams"] != before["streams"], "streams is started again")
        # Before it can be ready.
        os.kill(up.pids()["streams"], signal.SIGKILL)
        for name in ("warehouse", "ingest", "streams"):
            up.wait_said(f"{name} is back after")
        assert up.said.count("streams was killed by SIGKILL") == 2
        assert "starting it again in 1 s" in up.said
        # Ingest needs no warehouse, and did not wait for the others.
        assert up.said.index("ingest is back") < up.said.index("streams is back")


@pytest.mark.timeout(240)
@pytest.mark.kafka
def test_up_with_apache_kafka_keeps_its_log_over_its_death_and_a_restart(tmp_path: Path) -> None:
    def post(environment: dict[str, str], thing: str) -> None:
        token = subprocess.run(
            flattr("token", "issue", "alice"), env={**os.environ, **environment}, cwd=tmp_path, capture_output=True,
            text=True, check=True,
        ).stdout.strip()  # fmt: skip
        body = json.dumps({"creator_id": "bob", "thing": f"https://bob.example/{thing}"}).encode()
        address = f"http://127.0.0.1:{environment['FLATTR_INGEST_PORT']}/v1/clicks"
        request = urllib.request.Request(address, body, {"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202

    def counts(environment: dict[str, str]) -> int:
        address = f"http://127.0.0.1:{environment['FLATTR_API_PORT']}/v1/creators/bob/counts"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return int(json.loads(answer.read())["flattrs"])

    with Up(tmp_path, "--kafka") as up:
        assert "Apache Kafka" in up.said
        assert up.environment()["FLATTR_CLOSE_STAMPS_BOUNDED"] == "true"
        post(up.environment(), "1")
        os.kill(up.pids()["kafka"], signal.SIGKILL)
        up.wait_said("kafka is back after")
        post(up.environment(), "2")
        wait_until(lambda: counts(up.environment()) == 2, "both are counted")
    with Up(tmp_path, "--kafka") as up:
        assert up.environment()["FLATTR_LOG_EPOCH"] == "0"
        post(up.environment(), "3")
        wait_until(lambda: counts(up.environment()) == 3, "the log goes on")
    other = subprocess.run(
        flattr("up", "--data", str(tmp_path / "data"), "--broker-port", "0"), cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert other.returncode == 1
    assert "is in Apache Kafka: add --kafka" in other.stderr
