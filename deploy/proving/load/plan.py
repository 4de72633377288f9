"""What a load run sends, and when. Pure: the same plan gives the same clicks at the same times."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from deploy.proving.traffic import Traffic

#: A worker sends clicks until it is stopped.
_ENDLESS: Final = 1 << 62


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run; plain values only, as it is passed to worker processes as JSON.

    ``rate`` is requests per second over all processes in an open loop, whose requests are due at fixed times whatever
    the answers. Without it the loop is closed: each connection sends its next request when it has an answer. Shares are
    fractions of clicks, as in ``Traffic``.
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
    #: Every ``burst_every_s``, the rate is multiplied by ``burst_factor`` for ``burst_s``.
    burst_factor: float = 3.0
    burst_every_s: float = 10.0
    burst_s: float = 1.0
    timeout_s: float = 10.0
    #: A request that is not accepted in this time is given up; none of its clicks were acknowledged.
    give_up_s: float = 60.0
    clock: str = "system"
    audience: str = "flattr"
    #: Folder for the answers files; empty: none are written.
    answers: str = ""

    def traffic(self, worker: int) -> Traffic:
        """The clicks of one process. Processes share the members, so their requests may overlap."""
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
        """When this process's requests are due, in s from the start: Poisson, with bursts. Open loop only."""
        if self.rate is None:
            raise ValueError("a closed loop has no due times")
        chance = random.Random(f"due {self.seed} {worker}")  # noqa: S311 - a simulation needs repeatable randomness
        rate = self.rate / self.processes
        at = 0.0
        while True:
            bursting = self.burst_factor > 1 and at % self.burst_every_s < self.burst_s
            at += chance.expovariate(rate * self.burst_factor if bursting else rate)
            yield at
