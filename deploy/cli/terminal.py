"""Wait for a person at a terminal."""

from __future__ import annotations

import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def at_terminal() -> bool:
    """Whether somebody sees what we print and can press a key."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def wait_for_key(meanwhile: Callable[[], object], every_s: float = 0.3) -> None:
    """Return when any key is pressed (or the input ends); call ``meanwhile`` every so often until then."""
    with _unbuffered():
        while not select.select([sys.stdin], [], [], every_s)[0]:
            meanwhile()
        sys.stdin.read(1)


@contextmanager
def _unbuffered() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
