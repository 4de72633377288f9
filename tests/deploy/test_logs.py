from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import logs
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue, keygen


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, "file", 1, text, None, None)


def test_same_message_is_logged_once_per_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("deploy.cli.logs.time.monotonic", lambda: now)
    once = logs.OncePerWhile(("aiokafka",))
    assert [once.filter(record("away")), once.filter(record("away")), once.filter(record("back"))] == [
        True,
        False,
        True,
    ]
    now += logs.REPEAT_QUIET_S
    assert once.filter(record("away"))


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
