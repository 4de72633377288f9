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
from typing import Any

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
    assert "streams died (code -9)" in killed["text"]
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


@pytest.mark.timeout(120)
def test_up_names_a_crashed_part_brings_it_back_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    ports = [word for name in ("broker", "warehouse", "ingest", "streams", "api") for word in (f"--{name}-port", "0")]
    with out.open("wb") as sink:
        process = subprocess.Popen(
            flattr("up", "--data", str(tmp_path / "data"), *ports), cwd=ROOT, stdout=sink, stderr=sink
        )
    try:
        wait_until(lambda: "ready " in out.read_text() or process.poll() is not None, "flattr up", timeout_s=60)
        pids = {path.stem: int(path.read_text()) for path in (tmp_path / "data").glob("*/*.pid")}
        assert set(pids) == {"broker", "warehouse", "ingest", "streams", "api"}
        said = (tmp_path / "data" / "env").read_text()
        assert "FLATTR_BROKER=127.0.0.1:" in said
        os.kill(pids["api"], signal.SIGKILL)
        wait_until(lambda: "api restarted" in out.read_text(), "api to come back", timeout_s=30)
        assert "api died (code -9)" in out.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, out.read_text()
    assert out.read_text().endswith("stopped\n")
    assert not (tmp_path / "data" / "env").exists()
    for name, pid in pids.items():
        assert not Path(f"/proc/{pid}").exists(), f"{name} is still there"
