"""Why the worker stops. Each message says what is wrong and what to do."""

from __future__ import annotations


class StreamStopped(Exception):
    """The worker cannot go on without losing or doubling clicks, so it does not."""


class LogMismatch(StreamStopped):
    """The log and the warehouse's progress are not of one history."""
