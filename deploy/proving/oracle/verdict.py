"""The comparison of the promises with the log, and of the log's meaning with the warehouse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from deploy.proving.oracle.evidence import Key, Line, Place, Promise, Stated
from deploy.proving.oracle.model import LABELS, Expected, partition_of

K = TypeVar("K")


class Wrong(StrEnum):
    """The kinds of problems."""

    LOST = "lost"
    DOUBLE = "double_counted"
    COUNT = "wrong_counts"
    ALTERED = "altered"
    RECEIPT = "wrong_receipts"
    MONEY = "unbalanced"
    OPEN = "not_closed"
    ENDED = "ended"


@dataclass(frozen=True)
class Mismatch:
    """One problem, with the clicks it concerns."""

    kind: Wrong
    text: str
    click_ids: tuple[str, ...] = ()


@dataclass
class Verdict:
    """The outcome. ``problems`` is empty when nothing was lost, doubled or miscounted."""

    acked: int = 0
    in_log: int = 0
    counted: int = 0
    duplicates: int = 0
    undos: int = 0
    late: int = 0
    problems: list[Mismatch] = field(default_factory=list)

    def count(self, kind: Wrong) -> int:
        """The number of problems of a kind."""
        return sum(problem.kind is kind for problem in self.problems)


def judge(
    promised: Sequence[Promise], lines: Sequence[Line], expected: Expected, stated: Stated, partitions: int
) -> Verdict:
    """Make all comparisons."""
    labels = Counter(expected.labels.values())
    return Verdict(
        acked=len({promise.click_id for promise in promised}),
        in_log=len(lines),
        counted=labels["counted"],
        duplicates=labels["duplicate"],
        undos=labels["undo"],
        late=labels["late"],
        problems=[
            *check_promises(promised, lines),
            *check_places(lines, partitions),
            *check_labels(lines, expected, stated),
            *check_flattrs(expected, stated),
            *check_counts(expected, stated),
            *check_tallies(expected, stated),
        ],
    )


def check_promises(promised: Iterable[Promise], lines: Sequence[Line]) -> list[Mismatch]:
    """Every promised click is in the log, at the position in its receipt, as it was sent."""
    at_place = {line.place: line for line in lines}
    by_id: dict[str, list[Line]] = {}
    for line in lines:
        by_id.setdefault(line.click_id, []).append(line)
    problems = []
    for promise in promised:
        found = by_id.get(promise.click_id)
        if not found:
            problems.append(
                _problem(Wrong.LOST, f"{promise.click_id} was acknowledged but is not in the log", promise.click_id)
            )
            continue
        if promise.partition is not None and promise.offset is not None and promise.index is not None:
            there = at_place.get((promise.partition, promise.offset, promise.index))
            if there is None or there.click_id != promise.click_id:
                text = f"{promise.click_id} is not at {promise.partition}/{promise.offset}/{promise.index}"
                problems.append(_problem(Wrong.RECEIPT, text, promise.click_id))
        for line in found:
            changed = _changed(promise, line)
            if changed:
                text = f"{promise.click_id} was sent with another {changed} than it has in the log"
                problems.append(_problem(Wrong.ALTERED, text, promise.click_id))
    return problems


def _changed(promise: Promise, line: Line) -> str:
    click = line.click
    if click["member_id"] != promise.member_id:
        return "member"
    for name in ("creator_id", "thing"):
        if click[name] != promise.sent.get(name):
            return name
    if click["action"] != promise.sent.get("action", "flattr"):
        return "action"
    # Every attempt has its own sent_at, so it is compared only with the line that this promise refers to.
    here = line.place == (promise.partition, promise.offset, promise.index)
    for name in ("clicked_at", "sent_at") if here else ("clicked_at",):
        at = promise.sent.get(name)
        if at is not None and at != click.get(name):
            return name
    return ""


def check_places(lines: Iterable[Line], partitions: int) -> list[Mismatch]:
    """Every click is in its member's partition, and every thing id belongs to one thing."""
    problems = []
    names: dict[str, tuple[str, str]] = {}
    for line in lines:
        click = line.click
        if partition_of(click["member_id"], partitions) != line.place[0]:
            text = f"{line.click_id} is in partition {line.place[0]}, not in its member's"
            problems.append(_problem(Wrong.ALTERED, text, line.click_id))
        thing = (click["creator_id"], click["thing"])
        if names.setdefault(click["thing_id"], thing) != thing:
            text = f"{click['thing_id']} names {names[click['thing_id']]} and {thing}"
            problems.append(_problem(Wrong.ALTERED, text, line.click_id))
    return problems


def check_labels(lines: Sequence[Line], expected: Expected, stated: Stated) -> list[Mismatch]:
    """Every click in the log has exactly one label, and no labels exist without a click."""
    said: dict[Place, list[str]] = {}
    for _, place, _, _ in stated.flattrs.values():
        if place is not None:
            said.setdefault(place, []).append("counted")
    for label, places in (
        ("duplicate", stated.duplicates), ("undo", stated.undos), ("late", stated.late), ("rejected", stated.rejected),
    ):  # fmt: skip
        for place in places:
            said.setdefault(place, []).append(label)
    problems = []
    for line in lines:
        labels = said.pop(line.place, [])
        if not labels:
            text = f"{line.click_id} at {line.place} should be {expected.labels[line.place]}, but is missing"
            problems.append(_problem(Wrong.LOST, text, line.click_id))
        elif labels != [expected.labels[line.place]]:
            text = f"{line.click_id} at {line.place} should be {expected.labels[line.place]}, but is {labels}"
            problems.append(_problem(Wrong.DOUBLE, text, line.click_id))
    for place, labels in said.items():
        problems.append(_problem(Wrong.DOUBLE, f"the warehouse has {labels} at {place}, where the log has nothing"))
    return problems


def check_flattrs(expected: Expected, stated: Stated) -> list[Mismatch]:
    """Each (month, member, thing) has one row, for its first click, active or not by its latest click."""
    problems = []
    for key, (at_ms, undone) in expected.last_word.items():
        row = stated.flattrs.get(key)
        line = expected.counted.get(key)
        ids = (line.click_id,) if line else ()
        if row is None:
            problems.append(Mismatch(Wrong.LOST, f"flattr {key} is missing", ids))
        elif row[3] is undone:
            problems.append(Mismatch(Wrong.COUNT, f"flattr {key}: undone is {undone} by the click of {at_ms}", ids))
        elif line is not None and row[:3] != (line.click_id, line.place, line.click["creator_id"]):
            problems.append(Mismatch(Wrong.COUNT, f"flattr {key} is {row}, expected {line.click_id} {line.place}", ids))
    problems += [
        Mismatch(Wrong.DOUBLE, f"flattr {key} has no click in the log")
        for key in stated.flattrs
        if key not in expected.last_word
    ]
    return problems


def check_counts(expected: Expected, stated: Stated) -> list[Mismatch]:
    """Counts by creator, thing and (member, creator)."""
    by_creator, by_thing, by_member = expected.counts()
    return [
        *_differences("by_creator", by_creator, stated.by_creator, expected),
        *_differences("by_thing", by_thing, stated.by_thing, expected),
        *_differences("by_member", by_member, stated.by_member, expected),
        # A close corrects counts before it divides money, and records which; they were wrong nevertheless.
        *(_problem(Wrong.COUNT, f"the close had to restate: {text}") for text in stated.restated),
    ]


def check_tallies(expected: Expected, stated: Stated) -> list[Mismatch]:
    """Tallies by partition and month."""
    problems = []
    for at in expected.tallies.keys() | stated.tallies.keys():
        want = tuple(expected.tallies[at][label] for label in LABELS) if at in expected.tallies else (0,) * len(LABELS)
        said = stated.tallies.get(at, (0,) * len(LABELS))
        if want != said:
            text = f"tallies of partition {at[0]}, {at[1]}: {LABELS} are {want}, stated {said}"
            problems.append(_problem(Wrong.COUNT, text))
    return problems


def _differences(name: str, want: Mapping[K, int], said: Mapping[K, int], expected: Expected) -> list[Mismatch]:
    problems = []
    for key in want.keys() | said.keys():
        if want.get(key, 0) != said.get(key, 0):
            text = f"counts {name} {key}: {want.get(key, 0)} flattrs, stated {said.get(key, 0)}"
            problems.append(Mismatch(Wrong.COUNT, text, _clicks_of(name, key, expected)))
    return problems


def _clicks_of(name: str, key: object, expected: Expected) -> tuple[str, ...]:
    """The counted clicks behind a count."""

    def touches(flattr: Key) -> bool:
        month, member, thing = flattr
        creator = expected.creators[flattr]
        return key == {"by_creator": (month, creator), "by_thing": (month, thing)}.get(name, (month, member, creator))

    return tuple(line.click_id for flattr, line in expected.counted.items() if touches(flattr))


def _problem(kind: Wrong, text: str, *click_ids: str) -> Mismatch:
    return Mismatch(kind, text, click_ids)
