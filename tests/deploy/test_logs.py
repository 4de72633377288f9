from __future__ import annotations

import logging

import pytest

from deploy import logs


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, "file", 1, text, None, None)


def test_same_message_is_logged_once_per_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("deploy.logs.time.monotonic", lambda: now)
    once = logs.OncePerWhile()
    assert [once.filter(record("away")), once.filter(record("away")), once.filter(record("back"))] == [
        True,
        False,
        True,
    ]
    now += logs.REPEAT_QUIET_S
    assert once.filter(record("away"))
