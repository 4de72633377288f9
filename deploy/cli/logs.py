"""Logging: one line per event on stderr, readable on a terminal and JSON elsewhere."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Final

import structlog

from ingest.http.redact import redacted_text

REPEAT_QUIET_S: Final = 60.0
_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_REMEMBERED_MAX: Final = 1000
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")


class OncePerMinute(logging.Filter):
    """Passes one line a minute of libraries that repeat themselves during an outage, saying how many it left out.

    aiokafka repeats several messages twenty times a second while a broker is down. Errors are told apart by their text
    without its numbers, warnings and less only by library.
    """

    def __init__(self, libraries: tuple[str, ...]) -> None:
        super().__init__()
        self._libraries = libraries
        self._left_out: dict[tuple[str, str], int] = {}
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is of another library, new, or was last logged long enough ago."""
        library = next((name for name in self._libraries if record.name.startswith(name)), None)
        if library is None:
            return True
        text = record.getMessage()
        kind = (library, _NUMBER.sub("0", text) if record.levelno >= logging.ERROR else "")
        now = time.monotonic()
        if now - self._said.get(kind, -REPEAT_QUIET_S) < REPEAT_QUIET_S:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return False
        if len(self._said) >= _REMEMBERED_MAX:
            self._said.clear()
            self._left_out.clear()
        self._said[kind] = now
        if left_out := self._left_out.pop(kind, 0):
            record.msg, record.args = f"{text} ({left_out} like it left out)", None
        return True


class InOneLine(OncePerMinute):
    """The same, without tracebacks: ClickHouse's driver logs one of forty lines for each attempt to connect."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the message, whose traceback goes."""
        record.exc_info = record.exc_text = None
        return super().filter(record)


class _WithoutTokens(structlog.stdlib.ProcessorFormatter):
    """Redacts tokens from every line, wherever they come from."""

    def format(self, record: logging.LogRecord) -> str:
        """The rendered line, redacted."""
        return redacted_text(super().format(record))


def set_up(level: str = "INFO") -> None:
    """Send structlog and the standard library's loggers through one formatter to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _WithoutTokens(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                render,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # At the handler, as a filter on a parent logger does not see its children's records.
    handler.addFilter(OncePerMinute(("aiokafka", "faust", "mode", "asyncio", _EXPORTER)))
    logging.getLogger("clickhouse_driver.connection").addFilter(InOneLine(("clickhouse_driver",)))
    # Each attempt of a failing export logs a different warning; the final error is enough.
    logging.getLogger(_EXPORTER).setLevel(logging.ERROR)
