"""`flattr streams` that kills itself with -9 right after a step of its n-th flush: STEP:N."""

from __future__ import annotations

import os
import signal
import sys

from deploy.cli.logs import set_up
from streams.app import worker_from
from streams.settings import StreamsSettings


def main() -> None:
    step_to_die_after, _, flushes = sys.argv[1].partition(":")
    left = int(flushes)

    def after_step(step: str) -> None:
        nonlocal left
        left -= step == step_to_die_after
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    set_up()
    worker_from(StreamsSettings(), after_step).run()


if __name__ == "__main__":
    main()
