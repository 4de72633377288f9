"""Let commands find the stack that `flattr up` runs in this folder, without being told where it is.

The stack writes what it tells its services to ``.flattr/env`` while it runs. A command that
is started beside it takes from there what its own environment does not say.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(".flattr")
#: These start a stack of their own and must not take over another's settings.
STARTERS: Final = frozenset({"up", "demo", "chaos", "bench"})


def environment_file(folder: Path) -> Path:
    """Where a stack in ``folder`` says how to reach it."""
    return folder / "env"


def write_environment(folder: Path, environment: Mapping[str, str]) -> None:
    """Say it: NAME=VALUE lines, readable by the owner alone, for a shell's ``set -a; . .flattr/env`` too."""
    path = environment_file(folder)
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{name}={value}\n" for name, value in sorted(environment.items())))
    fresh.replace(path)


def remove_environment(folder: Path) -> None:
    """The stack is gone."""
    environment_file(folder).unlink(missing_ok=True)


def adopt_running_stack(command: str, folder: Path = FOLDER) -> None:
    """Set what this process's environment does not say from the stack that runs in ``folder``, if one does."""
    path = environment_file(folder)
    if command in STARTERS or not path.exists() or not _runs(folder):
        return
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        os.environ.setdefault(name, value)


def _runs(folder: Path) -> bool:
    """Whether a stack holds the folder: the file of one that was killed tells nothing any more."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
