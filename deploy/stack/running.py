"""Lets commands find the stack that `flattr up` runs in this folder.

While it runs, the stack writes its services' environment to ``.flattr/env``. A command started in the same folder takes
from there whatever its own environment does not set.
"""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(".flattr")
#: Commands that start their own stack and must not use another's settings.
STARTERS: Final = frozenset({"up", "demo", "chaos", "bench"})


def environment_file(folder: Path) -> Path:
    """The environment file of a stack in ``folder``."""
    return folder / "env"


def write_environment(folder: Path, environment: Mapping[str, str]) -> None:
    """Write the environment as NAME=VALUE lines, mode 0600; a shell can read it with ``set -a; . .flattr/env``."""
    path = environment_file(folder)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items())))
    fresh.replace(path)


def remove_environment(folder: Path) -> None:
    """Remove the environment file of a stack that stops."""
    environment_file(folder).unlink(missing_ok=True)


def adopt_running_stack(command: str, folder: Path = FOLDER) -> None:
    """Set variables that are unset in this process from the stack that runs in ``folder``, if any."""
    path = environment_file(folder)
    if command in STARTERS or not path.exists() or not _runs(folder):
        return
    for line in path.read_text().splitlines():
        name, _, quoted = line.partition("=")
        os.environ.setdefault(name, "".join(shlex.split(quoted)))


def _runs(folder: Path) -> bool:
    """Whether a stack holds the folder's lock; the file of a killed stack is obsolete."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
