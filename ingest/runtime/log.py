"""The log of a module that commands import too."""

from __future__ import annotations

from typing import Any


def log(name: str) -> Any:  # noqa: ANN401 - as structlog says
    """The module's logger. structlog is imported with the first line: commands write none, and it is slow to import."""
    import structlog

    return structlog.get_logger(name)
