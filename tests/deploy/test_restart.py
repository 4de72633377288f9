"""How a part of the stack is brought back: on real processes, by a clock of the test's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy.stack.embedded import ServiceProcess, free_port
from deploy.stack.restart import CALM_S, LONGEST_PAUSE_S, Restart
from tests.support.waiting import wait_until

LISTENS = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
FAILS = "import sys; print('no such topic'); sys.exit(3)"


class Part(ServiceProcess):
    """A part that listens, or, as its file says, fails at once."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        super().__init__("part", [sys.executable, "-c", LISTENS, str(port)], folder=folder, port=port)

    def break_it(self) -> None:
        self.command[2] = FAILS

    def mend_it(self) -> None:
        self.command[2] = LISTENS


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


def test_a_part_that_fails_again_and_again_is_tried_ever_more_seldom_and_comes_back(
    tmp_path: Path, clock: Time
) -> None:
    said: list[str] = []
    with Part(tmp_path) as part:
        restart = Restart(part, said.append, clock)
        assert not restart.look()
        part.break_it()
        part.kill()
        restart.look()
        assert said[0].startswith("part was killed by SIGKILL; starting it again in 0.5 s\nLast lines of ")
        pauses = []
        for _ in range(8):
            clock.now += LONGEST_PAUSE_S
            restart.look()
            assert part.process is not None
            part.process.wait(10)
            restart.look()
            pauses.append(said[-1])
        assert pauses[0] == "part exited with code 3: no such topic; starting it again in 1 s"
        assert pauses[-1] == "part exited with code 3: no such topic; starting it again in 30 s"
        part.mend_it()
        clock.now += LONGEST_PAUSE_S
        restart.look()

        def back() -> bool:
            clock.now += 1
            return restart.look()

        wait_until(back, "it is back")
        assert said[-1].startswith("part is back after ")
        clock.now += CALM_S + 1
        part.kill()
        restart.look()
        assert "starting it again in 0.5 s" in said[-1]


def test_looking_never_waits_for_a_part_that_is_not_ready(tmp_path: Path, clock: Time) -> None:
    said: list[str] = []
    with Part(tmp_path) as part:
        restart = Restart(part, said.append, clock)
        part.command[2] = "import time; time.sleep(60)"
        part.kill()
        restart.look()
        clock.now += 1
        restart.look()
        clock.now += 80
        assert not restart.look()
        assert part.running()
        clock.now += 20
        assert not restart.look()
        assert not part.running()
        assert said[-1] == "part was not ready within 90 s; starting it again in 1 s"


def test_a_port_that_another_took_is_one_more_try(tmp_path: Path, clock: Time) -> None:
    said: list[str] = []
    part = Part(tmp_path)
    restart = Restart(part, said.append, clock)
    restart.look()
    with Part(tmp_path / "other") as other:
        part.port = other.port
        clock.now += 1
        restart.look()
    assert "cannot be started: cannot start part: another process listens" in said[-1]
