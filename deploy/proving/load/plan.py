"""What a load run sends, and when. Pure: the same plan gives the same clicks at the same due times."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from deploy.proving.traffic import Traffic

#: A worker's clicks are drawn as long as it runs.
_ENDLESS: Final = 1 << 62


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. It travels to the worker processes as JSON, so it holds plain values only.

    ``rate`` is requests a second over all processes (open loop: requests are due at their time,
    whatever the answers do); without it the loop is closed: each connection sends its next request
    when it has its answer. Shares are of clicks, as in ``Traffic``.
    """

    urls: tuple[str, ...]
    token_keys: str
    rate: float | None = None
    seconds: float | None = None
    connections: int = 32
    processes: int = 1
    seed: int = 1
    members: int = 1000
    creators: int = 100
    things_per_creator: int = 40
    retry_share: float = 0.03
    duplicate_share: float = 0.05
    undo_share: float = 0.02
    malformed_share: float = 0.01
    skew_share: float = 0.02
    batch_share: float = 0.1
    #: Every ``burst_every_s`` the rate is ``burst_factor`` times as high for ``burst_s``.
    burst_factor: float = 3.0
    burst_every_s: float = 10.0
    burst_s: float = 1.0
    timeout_s: float = 10.0
    #: A request that nobody took for so long is given up; its clicks were promised to nobody.
    give_up_s: float = 60.0
    clock: str = "system"
    audience: str = "flattr"
    #: Folder of the answers files; empty: none are written.
    answers: str = ""

    def traffic(self, worker: int) -> Traffic:
        """The clicks of one of the processes. Members are shared: their requests may meet anywhere."""
        return Traffic(
            members=self.members,
            creators=self.creators,
            clicks=_ENDLESS,
            seed=self.seed * 1009 + worker,
            things_per_creator=self.things_per_creator,
            retry_share=self.retry_share,
            duplicate_share=self.duplicate_share,
            undo_share=self.undo_share,
            malformed_share=self.malformed_share,
            skew_share=self.skew_share,
            batch_share=self.batch_share,
        )

    def due_times(self, worker: int) -> Iterator[float]:
        """Seconds from the start at which this process's requests are due: Poisson, with bursts. Open loop only."""
        if self.rate is None:
            raise ValueError("a closed loop has no due times")
        chance = random.Random(f"due {self.seed} {worker}")  # noqa: S311 - a simulation wants repeatable dice
        rate = self.rate / self.processes
        at = 0.0
        while True:
            bursting = self.burst_factor > 1 and at % self.burst_every_s < self.burst_s
            at += chance.expovariate(rate * self.burst_factor if bursting else rate)
            yield at
