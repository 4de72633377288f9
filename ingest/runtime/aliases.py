"""Aliases: addresses that moved keep one counter. An alias replaces a prefix of whole path segments by another.

The file is one JSON object, ``{"old": "new"}`` or ``{"old": {"to": "new", "from": "2026-12"}}``, reloaded when it
changes. A thing must have one name throughout a month, or its counter would split and a member could flattr it twice.
So a change without a month takes effect from the next month on. The month is that of the click's true time, as in the
stream, so that a retry after the month's end names the same thing.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ingest.contract import thing as things
from ingest.contract.month import month_after, month_of, month_start_ms, month_text, parse_month
from ingest.contract.thing import canonical, is_address
from ingest.runtime.clock import Clock, system_clock
from ingest.runtime.log import log
from ingest.runtime.watched_file import FileError, WatchedFile


class AliasError(FileError):
    """An alias is chained to another, or is not a canonical address."""


class AliasTable:
    """The aliases in force at one time. Tables compare by identity, so caches of names can use them as keys."""

    __slots__ = ("_old_of", "pairs")

    def __init__(self, pairs: Mapping[str, str]) -> None:
        """Check the prefixes. Raises ``AliasError`` when a side is not canonical or a target is itself an alias."""
        self.pairs = dict(pairs)
        self._old_of: dict[str, list[str]] = {}
        for old, new in pairs.items():
            self._old_of.setdefault(new, []).append(old)
            for side in (old, new):
                if not is_address(side) or "?" in side or canonical(side) != side:
                    raise AliasError(
                        f"alias {old!r} -> {new!r}: {side!r} is not a canonical http(s) address without a query"
                    )
        for old, new in pairs.items():
            other = next((prefix for prefix in pairs if _covers(prefix, new) or _covers(new, prefix)), None)
            if other is not None:
                raise AliasError(f"alias {old!r} -> {new!r} would be replaced again by {other!r}")

    def moved(self, address: str) -> str:
        """A canonical address with its longest aliased prefix replaced."""
        if not self.pairs:
            return address
        bare = address.partition("?")[0]
        for prefix in _prefixes(bare):
            new = self.pairs.get(prefix)
            if new is not None:
                return _joined(new, address[len(prefix) :])
        return address

    def names(self, address: str) -> list[str]:
        """An address that has not moved, and after it those that moved there."""
        if not self.pairs:
            return [address]
        found = [address]
        for prefix in _prefixes(address.partition("?")[0]):
            rest = address[len(prefix) :]
            for old in self._old_of.get(prefix, ()):
                # Which of them it was depends on the slashes at the ends of both prefixes.
                found += [old + rest, f"{old}/{rest}", old + rest.removeprefix("/")]
        return [one for one in dict.fromkeys(found) if self.moved(one) == address]


def _prefixes(address: str) -> list[str]:
    """An address and its prefixes of whole path segments, longest first."""
    found = [address]
    root = address.index("/", address.index("://") + 3)
    end = len(address)
    while (end := address.rfind("/", root, end)) >= 0:
        found += [address[: end + 1], address[:end]]
    return found


def _covers(prefix: str, address: str) -> bool:
    return prefix in _prefixes(address)


def _joined(new: str, rest: str) -> str:
    if rest.startswith("/") and new.endswith("/"):
        return new + rest[1:]
    return new + rest if not rest or rest[0] in "/?" or new.endswith("/") else f"{new}/{rest}"


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an address moved to, and from which month on (such as 202612). ``since`` is 0 if no month is given."""

    to: str
    since: int = 0


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: str
    since: str = msgspec.field(name="from")


def read_aliases(path: Path) -> dict[str, Alias]:
    """Read the file: old prefix -> alias. Raises ``FileError``."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=dict[str, str | _Entry])
        found = {
            old: Alias(entry) if isinstance(entry, str) else Alias(entry.to, parse_month(entry.since))
            for old, entry in entries.items()
        }
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(
            f'{path} is not a valid aliases file (a JSON object, "old": "new" or {{"to", "from"}}): {error}'
        ) from error
    _schedule(found)
    return found


class Schedule:
    """Which table is in force when: each from the start of its month on. The first month is 0."""

    def __init__(self, pairs_by_month: Mapping[int, Mapping[str, str]]) -> None:
        """Build the tables. Raises ``AliasError``."""
        self._months: list[int] = []
        self._tables: list[AliasTable] = []
        for month in sorted(pairs_by_month):
            if not self._tables or self._tables[-1].pairs != pairs_by_month[month]:
                self._months.append(month)
                self._tables.append(AliasTable(pairs_by_month[month]))
        self._starts_ms = [month_start_ms(month) if month else 0 for month in self._months]
        #: The table, if there is only one.
        self.only = self._tables[0] if len(self._tables) == 1 else None

    def at(self, at_ms: int) -> AliasTable:
        """The table for clicks made at this time."""
        return self.only or self._tables[bisect_right(self._starts_ms, at_ms) - 1]

    def in_month(self, month: int) -> AliasTable:
        """The table of a month such as 202611."""
        return self.only or self._tables[bisect_right(self._months, month) - 1]

    def months_until(self, month: int) -> list[int]:
        """The months up to this one in which another table takes effect."""
        return [start for start in self._months if start <= month]

    def changed_to(self, aliases: Mapping[str, Alias], month: int) -> Schedule:
        """The schedule after the file changed in this month: from the next month on, the file applies.

        Until then only its entries with an explicit month are added.
        """
        following = month_after(month)
        dated = {old: alias for old, alias in aliases.items() if 0 < alias.since <= month}
        starts = {*self.months_until(month), *(alias.since for alias in dated.values())}
        retained = {start: {**self.in_month(start).pairs, **_in_force(dated, start)} for start in starts}
        later = {following, *(alias.since for alias in aliases.values() if alias.since > following)}
        return Schedule({**retained, **{start: _in_force(aliases, start) for start in later}})


def _schedule(aliases: Mapping[str, Alias]) -> Schedule:
    return Schedule({month: _in_force(aliases, month) for month in {0, *(alias.since for alias in aliases.values())}})


def _in_force(aliases: Mapping[str, Alias], month: int) -> dict[str, str]:
    return {old: alias.to for old, alias in aliases.items() if alias.since <= month}


class Aliases:
    """A deployment's aliases, at most a second behind their file. If the file becomes invalid, nothing changes."""

    def __init__(
        self,
        path: Path | None = None,
        clock: Clock = system_clock,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file, if there is one. Raises ``FileError``."""
        self._clock = clock
        self._file = None if path is None else WatchedFile(path, read_aliases, monotonic=monotonic)
        self.schedule = _schedule(self._file.value if self._file else {})

    def look(self) -> Schedule:
        """Reload the file if it changed, and return the schedule."""
        if self._file is not None and self._file.changed():
            self._take(self._file.value)
        return self.schedule

    def _take(self, aliases: Mapping[str, Alias]) -> None:
        month = month_of(self._clock())
        before = self.schedule.in_month(month).pairs
        try:
            self.schedule = self.schedule.changed_to(aliases, month)
        except AliasError as error:
            log(__name__).error("invalid aliases file ignored; the previous aliases stay in force", reason=str(error))
            return
        undated = sorted(old for old, alias in aliases.items() if not alias.since and before.get(old) != alias.to)
        if undated or before.keys() - aliases.keys():
            log(__name__).warning(
                "changed aliases take effect next month, since this month's counters would split; "
                'add "from" to new ones, or a restart before then would apply them at once',
                from_month=month_text(month_after(month)),
                new=undated[:20],
                gone=sorted(before.keys() - aliases.keys())[:20],
            )


def thing_id(creator_id: str, thing: str, table: AliasTable) -> str:
    """The id of a creator's thing under these aliases, however it is written. Raises ``ValueError``."""
    return things.thing_id(creator_id, _named(thing, table))


def thing_ids(creator_id: str, thing: str, table: AliasTable) -> list[str]:
    """The same, and after it the ids that the thing had before it moved. Raises ``ValueError``."""
    name = _named(thing, table)
    names = table.names(name) if is_address(name) else [name]
    return [things.thing_id(creator_id, one) for one in names]


def _named(thing: str, table: AliasTable) -> str:
    name = canonical(thing)
    if not name:
        raise ValueError("must not be blank")
    return table.moved(name) if is_address(name) else name
