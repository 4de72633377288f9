"""Why the worker stops; each message says what is wrong and what to do."""

from __future__ import annotations


class StreamStopped(Exception):
    """The worker stops because it cannot continue without losing or duplicating clicks."""


class LogMismatch(StreamStopped):
    """The log does not match the warehouse's progress."""
