from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import logs
from ingest.runtime.clock import system_clock
from ingest.runtime.repeated import QUIET_S, Repeated
from ingest.runtime.tokens import issue, keygen


def record(text: str, level: int = logging.ERROR, name: str = "aiokafka.client") -> logging.LogRecord:
    return logging.LogRecord(name, level, "file", 1, text, None, None)


def test_what_a_library_repeats_is_logged_once_a_minute_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("deploy.cli.logs.time.monotonic", lambda: now)
    once = logs.OncePerMinute(("aiokafka", "faust"))
    assert once.filter(record("node 1 is away"))
    assert not once.filter(record("node 2 is away"))
    assert once.filter(record("something else"))
    assert once.filter(record("late by 1.5", logging.WARNING, "faust.timer"))
    assert not once.filter(record("and another", logging.WARNING, "faust.timer"))
    assert all(once.filter(record("away", name="ours")) for _ in range(3))
    now += logs.REPEAT_QUIET_S
    again = record("node 1 is away")
    assert once.filter(again)
    assert again.getMessage() == "node 1 is away (1 like it left out)"


class Heard:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def warning(self, event: str, **values: object) -> None:
        self.lines.append(("warning", event, values))

    def error(self, event: str, **values: object) -> None:
        self.lines.append(("error", event, values))


def test_what_we_repeat_is_logged_once_a_minute_with_how_many_were_left_out() -> None:
    now, heard = [0.0], Heard()
    repeated = Repeated(heard, lambda: now[0])
    for reason in ("refused", "refused", "reset"):
        repeated.warning("away", reason=reason)
    repeated.error("full", free=0)
    now[0] = QUIET_S
    repeated.warning("away", reason="late")
    assert heard.lines == [
        ("warning", "away", {"reason": "refused"}),
        ("error", "full", {"free": 0}),
        ("warning", "away", {"reason": "late", "left_out": 2}),
    ]


def test_no_token_reaches_the_log(tmp_path: Path) -> None:
    keygen(tmp_path / "keys.json", algorithm="HS256", kid="k")
    token = issue(tmp_path / "keys.json", "ann", audience="flattr", now_ms=system_clock(), valid_s=60)
    script = f"""
import logging, structlog
from deploy.cli import logs
logs.set_up()
structlog.get_logger("a").info("refused", url="/v1/click.gif?token={token}")
logging.getLogger("b").warning("Bearer %s", "{token}")
try:
    raise ValueError("{token}")
except ValueError:
    structlog.get_logger("a").exception("a bug")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.count("...") >= 3
    assert token.rsplit(".", 1)[1] not in done.stderr
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["refused", "Bearer ...", "a bug"]
