"""The standard streams, and waiting for a key at a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def open_standard_streams() -> None:
    """Open those that the caller closed, on nothing: else Python has None there, and the next socket their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def at_terminal() -> bool:
    """Whether both input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def wait_for_key(meanwhile: Callable[[], object], every_s: float = 0.3) -> None:
    """Wait for a key or the end of input, calling ``meanwhile`` every ``every_s`` seconds."""
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
