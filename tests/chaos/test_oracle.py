"""The oracle finds each thing that can go wrong, in a small world where nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2 as kafkas_murmur2

from deploy.proving.chaos.history import smallest
from deploy.proving.oracle.evidence import Line, Promise, Stated, promises, read_attempts
from deploy.proving.oracle.model import LABELS, Expected, expect, month_end_ms, month_of, murmur2, partition_of
from deploy.proving.oracle.verdict import Verdict, Wrong, judge
from ingest.contract import month as system

PARTITIONS = 4
GRACE_S = 5
END_MS = month_end_ms(202609)


def click(number: int, member: str, thing: str, at_ms: int, *, action: str = "flattr") -> dict[str, object]:
    return {
        "v": 1,
        "click_id": f"00000000-0000-4000-8000-{number:012}",
        "action": action,
        "member_id": member,
        "creator_id": f"creator-of-{thing}",
        "thing": f"https://x.example/{thing}",
        "thing_id": f"{abs(hash(thing)):032x}",
        "clicked_at": at_ms,
    }


@dataclass
class World:
    """Ann and Bob: a flattr, a duplicate of it, one taken back, a late one, one of the next month."""

    lines: list[Line]
    promised: list[Promise]
    expected: Expected
    stated: Stated

    def verdict(self) -> Verdict:
        return judge(self.promised, self.lines, self.expected, self.stated, PARTITIONS)


@pytest.fixture
def world() -> World:
    clicks = [
        click(1, "ann", "song", END_MS - 9000),
        click(2, "ann", "song", END_MS - 8000),
        click(3, "ann", "poem", END_MS - 7000),
        click(4, "ann", "poem", END_MS - 6000, action="undo"),
        click(5, "bob", "song", END_MS - 5000),
        click(6, "bob", "poem", END_MS - 4000),
        click(7, "bob", "poem", END_MS + 100),
    ]
    stamps = [END_MS - 1000] * 5 + [END_MS + GRACE_S * 1000, END_MS + 200]
    offsets = dict.fromkeys(range(PARTITIONS), 0)
    lines = []
    for one, stamp in zip(clicks, stamps, strict=True):
        partition = partition_of(str(one["member_id"]), PARTITIONS)
        lines.append(Line((partition, offsets[partition], 0), stamp, one))
        offsets[partition] += 1
    lines.sort(key=lambda line: line.place)
    promised = [
        Promise(line.click_id, line.click["member_id"], line.click, *line.place, "0-1", line.stamp_ms) for line in lines
    ]
    expected = expect(lines, GRACE_S)
    return World(lines, promised, expected, stated_of(expected, lines))


def stated_of(expected: Expected, lines: list[Line]) -> Stated:
    """What a system without faults would state."""
    stated = Stated()
    for key, (_, undone) in expected.last_word.items():
        first = expected.counted.get(key)
        stated.flattrs[key] = (
            first.click_id if first else "",
            first.place if first else None,
            expected.creators[key],
            not undone,
        )
    for line in lines:
        label = expected.labels[line.place]
        if label == "duplicate":
            stated.duplicates[line.place] = line.click_id
        elif label == "undo":
            stated.undos[line.place] = line.click_id
        elif label == "late":
            stated.late.add(line.place)
    by_creator, by_thing, by_member = expected.counts()
    stated.by_creator, stated.by_thing, stated.by_member = dict(by_creator), dict(by_thing), dict(by_member)
    stated.tallies = {at: tuple(tally[label] for label in LABELS) for at, tally in expected.tallies.items()}
    return stated


def test_a_world_without_faults_is_found_good(world: World) -> None:
    verdict = world.verdict()
    assert verdict.problems == []
    assert (verdict.acked, verdict.counted, verdict.duplicates, verdict.undos, verdict.late) == (7, 4, 1, 1, 1)


def promise_without_a_click(world: World) -> None:
    world.promised.append(replace(world.promised[0], click_id="never-written"))


def another_place(world: World) -> None:
    world.promised[0] = replace(world.promised[0], offset=77)


def another_member(world: World) -> None:
    world.promised[0] = replace(world.promised[0], member_id="mallory")


def another_thing(world: World) -> None:
    world.promised[0] = replace(world.promised[0], sent={**world.promised[0].sent, "thing": "https://evil.example"})


def wrong_partition(world: World) -> None:
    line = world.lines[0]
    world.lines[0] = replace(line, click={**line.click, "member_id": "somebody-of-another-partition-2"})


def flattr_gone(world: World) -> None:
    del world.stated.flattrs[next(iter(world.stated.flattrs))]


def label_gone(world: World) -> None:
    world.stated.duplicates.clear()


def label_twice(world: World) -> None:
    world.stated.undos[next(iter(world.stated.duplicates))] = "again"


def flattr_of_nobody(world: World) -> None:
    world.stated.flattrs[202609, "carl", "ff"] = ("x", (0, 99, 0), "creator", True)


def undo_forgotten(world: World) -> None:
    key = next(key for key, row in world.stated.flattrs.items() if not row[3])
    world.stated.flattrs[key] = (*world.stated.flattrs[key][:3], True)


def another_first_click(world: World) -> None:
    key, row = next(iter(world.stated.flattrs.items()))
    world.stated.flattrs[key] = ("another", *row[1:])


def creator_too_many(world: World) -> None:
    world.stated.by_creator[next(iter(world.stated.by_creator))] += 1


def thing_missing(world: World) -> None:
    world.stated.by_thing.popitem()


def member_too_few(world: World) -> None:
    world.stated.by_member[next(iter(world.stated.by_member))] -= 1


def tally_twice(world: World) -> None:
    at, tally = next(iter(world.stated.tallies.items()))
    world.stated.tallies[at] = (tally[0] + 1, tally[1] + 1, *tally[2:])


@pytest.mark.parametrize(
    ("breaks", "kind"),
    [
        (promise_without_a_click, Wrong.LOST),
        (another_place, Wrong.RECEIPT),
        (another_member, Wrong.ALTERED),
        (another_thing, Wrong.ALTERED),
        (wrong_partition, Wrong.ALTERED),
        (flattr_gone, Wrong.LOST),
        (label_gone, Wrong.LOST),
        (label_twice, Wrong.DOUBLE),
        (flattr_of_nobody, Wrong.DOUBLE),
        (undo_forgotten, Wrong.COUNT),
        (another_first_click, Wrong.COUNT),
        (creator_too_many, Wrong.COUNT),
        (thing_missing, Wrong.COUNT),
        (member_too_few, Wrong.COUNT),
        (tally_twice, Wrong.COUNT),
    ],
)
def test_each_wrong_is_found_and_named(world: World, breaks: Callable[[World], None], kind: Wrong) -> None:
    breaks(world)
    assert kind in {problem.kind for problem in world.verdict().problems}


def test_the_smallest_history_tells_of_the_click_from_every_side(world: World) -> None:
    lost = copy.deepcopy(world)
    lost.lines.pop(1)
    gone = world.lines[1]
    attempts = [
        {
            "body": f'{{"click_id":"{gone.click_id}"}}', "member_id": "ann", "url": "http://ingest-2", "request": "0-7",
            "attempt": 2, "sent_at": 5000, "answered_at": 5040, "status": 202,
        }
    ]  # fmt: skip
    faults = [(5100, "fault: kill ingest-2"), (60_000, "fault: kill warehouse")]
    told = "\n".join(smallest(lost.verdict().problems, attempts, lost.lines, faults))
    assert gone.click_id in told
    assert "0-7 try 2: answer 202" in told
    assert "kill ingest-2" in told
    assert "kill warehouse" not in told


def test_the_oracles_calendar_and_hash_agree_with_the_systems() -> None:
    """It shares no code with them, so they are compared here."""
    for at_ms in range(1_700_000_000_000, 1_800_000_000_000, 86_400_000 * 5):
        month = month_of(at_ms)
        assert month == system.month_of(at_ms)
        assert month_end_ms(month) == system.month_start_ms(system.month_after(month))
    for number in range(200):
        key = f"member-{number}".encode() * (number % 3 + 1)
        assert murmur2(key) == kafkas_murmur2(key) & 0xFFFFFFFF


def test_promises_are_read_item_by_item_from_the_answers_file(tmp_path: Path) -> None:
    def lines() -> Iterator[str]:
        yield (
            '{"request":"0-1","attempt":1,"member_id":"ann","url":"u","sent_at":1,"answered_at":2,"status":202,'
            '"body":"{\\"thing\\":\\"a\\"}\\nrubbish\\n{\\"thing\\":\\"c\\"}","answer":{"receipts":['
            '{"item":0,"click_id":"A","partition":1,"offset":5,"index":0},'
            '{"item":2,"click_id":"C","partition":1,"offset":null,"index":1}],"refused":[{"item":1}]}}'
        )
        yield '{"request":"0-2","attempt":1,"member_id":"bob","url":"u","sent_at":1,"answered_at":2,"status":503}'
        yield '{"request":"0-3","att'

    (tmp_path / "answers-0.ndjson").write_text("\n".join(lines()))
    found = promises(read_attempts(tmp_path))
    assert [(promise.click_id, promise.sent["thing"], promise.offset) for promise in found] == [
        ("A", "a", 5),
        ("C", "c", None),
    ]
