"""The count in Bytewax, with recovery: python bytewax_flow.py BROKER TOPIC CLICKS BLOCK FOLDER.

One flattr per month, member and thing; flattrs per creator and per member. Reads the topic to its end, writes the
counts to FOLDER/counts.json, and prints the clicks of the second half a second: until the last snapshot is written.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

#: As many as Flattr decodes at once, give or take.
_BATCH_CLICKS = 10_000


class Click(msgspec.Struct, gc=False):
    """What the count wants of a click."""

    member_id: str
    creator_id: str
    thing_id: str
    clicked_at: int


class Half:
    """When half of the clicks were read, and how many they were by then; of a run too short for that, its start."""

    def __init__(self, clicks: int) -> None:
        self.clicks = clicks
        self.read = 0
        self.read_then = 0
        self.at_s = time.perf_counter()

    def add(self, clicks: int) -> None:
        """Note clicks that were read."""
        self.read += clicks
        if not self.read_then and self.clicks // 2 <= self.read < self.clicks:
            self.at_s, self.read_then = time.perf_counter(), self.read


class Decoder:
    """Blocks to (member, (flattr, creator))."""

    def __init__(self, half: Half) -> None:
        self._half = half
        self._lines = msgspec.json.Decoder(Click).decode_lines
        self._months: dict[int, int] = {}

    def __call__(self, messages: list[KafkaSourceMessage[Any, Any]]) -> Iterable[tuple[str, tuple[str, str]]]:
        """All clicks of a batch."""
        clicks = [click for message in messages for click in self._lines(message.value)]
        self._half.add(len(clicks))
        return [
            (click.member_id, (f"{self._month(click.clicked_at)}{click.thing_id}", click.creator_id))
            for click in clicks
        ]

    def _month(self, at_ms: int) -> int:
        day = at_ms // 86_400_000
        if day not in self._months:
            at = datetime.fromtimestamp(at_ms / 1000, UTC)
            self._months[day] = at.year * 100 + at.month
        return self._months[day]


def new_flattr(seen: set[str] | None, click: tuple[str, str]) -> tuple[set[str], list[tuple[str, int]]]:
    """Of a member: (creator, the member's flattrs) for the first click on a thing, nothing for a later one."""
    seen = set() if seen is None else seen
    flattr, creator = click
    if flattr in seen:
        return seen, []
    seen.add(flattr)
    return seen, [(creator, len(seen))]


def by_creator(item: tuple[str, tuple[str, int]]) -> tuple[str, tuple[str, int]]:
    """From (member, (creator, member's flattrs)) to (creator, (member, member's flattrs))."""
    member, (creator, flattrs) = item
    return creator, (member, flattrs)


def one_more(count: int | None, by: tuple[str, int]) -> tuple[int, tuple[int, str, int]]:
    """Of a creator: one flattr more."""
    count = (count or 0) + 1
    return count, (count, *by)


class Counts(DynamicSink[Any], StatelessSinkPartition[Any]):
    """The newest count of every creator and member: the largest, for a member's come by way of many creators."""

    def __init__(self) -> None:
        self.creators: dict[str, int] = {}
        self.members: dict[str, int] = {}

    def build(self, _step_id: str, _worker: int, _workers: int) -> Counts:  # noqa: D102 - as its base has it
        return self

    def write_batch(self, items: list[tuple[str, tuple[int, str, int]]]) -> None:  # noqa: D102 - as its base has it
        for creator, (flattrs, member, member_flattrs) in items:
            self.creators[creator] = max(flattrs, self.creators.get(creator, 0))
            self.members[member] = max(member_flattrs, self.members.get(member, 0))


def main() -> None:
    """Run to the end of the topic."""
    broker, topic, clicks, block, folder = (
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        int(sys.argv[4]),
        Path(sys.argv[5]),
    )
    recovery = folder / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, 1)
    # Its states make no circles, and looking for some in hundreds of thousands of sets takes a third of its time.
    gc.disable()
    half, counts = Half(clicks), Counts()
    flow = Dataflow("counting")
    source = KafkaSource([broker], [topic], tail=False, batch_size=max(1, _BATCH_CLICKS // block))
    members = op.flat_map_batch("decode", op.input("clicks", flow, source), Decoder(half))
    flattrs = op.map("by_creator", op.stateful_flat_map("dedupe", members, new_flattr), by_creator)
    op.output("counts", op.stateful_map("count", flattrs, one_more), counts)
    # Its default, and what it counts again after a crash.
    run_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(recovery)))
    seconds = time.perf_counter() - half.at_s
    (folder / "counts.json").write_text(json.dumps({"creators": counts.creators, "members": counts.members}))
    print((half.read - half.read_then) / seconds)


if __name__ == "__main__":
    main()
