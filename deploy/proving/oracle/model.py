"""What the log means by the written rules, click by click with plain dictionaries. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy.proving.oracle.evidence import Key, Line, Place
from deploy.proving.oracle.when import Decision, When, month_end_ms, month_of

__all__ = ["LABELS", "Expected", "expect", "month_end_ms", "month_of", "murmur2", "partition_of"]

LABELS = ("accepted", "counted", "duplicate", "undo", "rejected", "late")


@dataclass
class Expected:
    """What the warehouse should contain."""

    counted: dict[Key, Line] = field(default_factory=dict)
    creators: dict[Key, str] = field(default_factory=dict)
    #: The latest click on a key, by (time in ms, is undo), so that an undo wins a tie.
    last_word: dict[Key, tuple[int, bool]] = field(default_factory=dict)
    labels: dict[Place, str] = field(default_factory=dict)
    tallies: dict[tuple[int, int], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def active(self) -> list[Key]:
        """The flattrs that were not undone."""
        return [key for key, (_, undone) in self.last_word.items() if not undone]

    def counts(self) -> tuple[Counter[tuple[int, str]], Counter[tuple[int, str]], Counter[tuple[int, str, str]]]:
        """Active flattrs by (month, creator), (month, thing) and (month, member, creator)."""
        by_creator: Counter[tuple[int, str]] = Counter()
        by_thing: Counter[tuple[int, str]] = Counter()
        by_member: Counter[tuple[int, str, str]] = Counter()
        for key in self.active():
            month, member, thing = key
            creator = self.creators[key]
            by_creator[month, creator] += 1
            by_thing[month, thing] += 1
            by_member[month, member, creator] += 1
        return by_creator, by_thing, by_member


def expect(lines: Sequence[Line], grace_s: int) -> Expected:
    """Evaluate the log. ``lines`` must be in order within each partition."""
    when = When(grace_s * 1000)
    expected = Expected(last_word=when.last_word)
    for line in lines:
        decision = when.decide(line.click, line.stamp_ms)
        tally = expected.tallies[line.place[0], decision.month]
        tally["accepted"] += 1
        label = _label(expected, line, decision)
        tally[label] += 1
        expected.labels[line.place] = label
        for key in decision.keys:
            expected.creators[key] = line.click["creator_id"]
    return expected


def _label(expected: Expected, line: Line, decision: Decision) -> str:
    if decision.late:
        return "late"
    if line.click["action"] in {"undo", "unsubscribe"}:
        return "undo"
    key = decision.keys[0]
    if key in expected.counted:
        return "duplicate"
    expected.counted[key] = line
    return "counted"


def partition_of(member_id: str, partitions: int) -> int:
    """The partition of a member's clicks, as in Kafka's default partitioner."""
    return (murmur2(member_id.encode()) & 0x7FFFFFFF) % partitions


def murmur2(key: bytes) -> int:
    """MurmurHash2 with Kafka's seed, written from its definition."""
    seed, m, mask = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
    h = (seed ^ len(key)) & mask
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    rest = key[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
