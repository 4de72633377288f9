"""How the suite's tests are shared out among its workers: a file is one worker's, and long ones do not come last.

They have the fewest tests, by which pytest-xdist would have them begin last, and one worker would wait for the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

#: Folders that are one worker's as a whole: there is one cluster for the first, and two runs of chaos at once would
#: have each other's patience run out.
WHOLE: Final = ("tests/cluster/", "tests/chaos/")
#: Those with long tests. What starts many processes is followed by what starts few, for the other worker.
FIRST: Final = (
    "tests/cluster/", "tests/payout/", "tests/chaos/", "tests/api/", "tests/deploy/test_rehearsal",
    "tests/deploy/test_cluster", "tests/browser/", "tests/e2e/", "tests/upgrade/", "tests/faults/", "tests/streams/",
)  # fmt: skip


class LongFirst(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives each worker the next file, or folder, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """What a test is run together with, by one worker."""
    return next((name for name in WHOLE if nodeid.startswith(name)), nodeid.split("::", 1)[0])


def place(nodeid: str) -> int:
    """Tests with a lower one begin before others."""
    return next((at for at, name in enumerate(FIRST) if nodeid.startswith(name)), len(FIRST))
