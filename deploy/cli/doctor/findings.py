"""What the doctor says, and how checks run: side by side, each within a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from deploy.cli.failures import EXPECTED, sentence


class State(StrEnum):
    """How something was found."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    #: It could not be asked; the finding says why.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and unless that is well, what to do."""

    about: str
    state: State
    found: str
    to_do: str = ""


Check = Callable[[], Iterator[Finding]]


def ok(about: str, found: str) -> Finding:
    """It is as it has to be."""
    return Finding(about, State.OK, found)


def warning(about: str, found: str, to_do: str) -> Finding:
    """It works, and should not stay so."""
    return Finding(about, State.WARNING, found, to_do)


def wrong(about: str, found: str, to_do: str) -> Finding:
    """It does not work, or will lose something."""
    return Finding(about, State.WRONG, found, to_do)


def unknown(about: str, found: str, to_do: str = "") -> Finding:
    """Nobody could be asked."""
    return Finding(about, State.UNKNOWN, found, to_do)


def examine(checks: Mapping[str, Check], timeout_s: float) -> list[Finding]:
    """Run the checks side by side. One that takes longer than ``timeout_s`` keeps what it has found by then.

    An error of a check is a finding. Threads are daemons: one that hangs does not keep the command from ending.
    """
    found: dict[str, list[Finding]] = {name: [] for name in checks}
    threads = [
        threading.Thread(target=_drain, args=(name, check, found[name]), daemon=True) for name, check in checks.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for name, thread in zip(checks, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            # A list of its own: the thread may still add to the other.
            late = wrong(name, f"no answer within {timeout_s:g} s", "see whether it runs, and what its log says")
            found[name] = [*found[name], late]
    return [finding for findings in found.values() for finding in findings]


def _drain(name: str, check: Check, found: list[Finding]) -> None:
    try:
        _look(name, check, found)
    except Exception as error:  # noqa: BLE001 - a traceback helps nobody who looks for what is wrong
        found.append(wrong(name, f"could not be looked at: {type(error).__name__}", "report this as a bug"))


def _look(name: str, check: Check, found: list[Finding]) -> None:
    try:
        found.extend(check())
    except ValidationError:
        found.append(unknown(name, "not looked at, as its settings are wrong"))
    except EXPECTED as error:
        # Raises the error of a system that has no sentence.
        said = sentence(error)
        found.append(wrong(name, said, "see whether it runs, and whether its address and password are right"))
