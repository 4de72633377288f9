"""A sealed month goes into files, leaves the tables, and comes back.

Both ways hold the close's lock. Each step is idempotent, and the same command given again goes on:

| archive     | writes                                                      | a crash right after it costs       |
|-------------|-------------------------------------------------------------|------------------------------------|
| verified    | nothing: the month is recomputed and compared with its seal | the same again                     |
| archiving   | a note: where to                                            | nothing: every row is there        |
| written     | the files, the manifest last                                | they are written again             |
| compared    | staging tables, from the files, as a restore fills them     | they are filled again              |
| leaving     | a note with the manifest's hash                             | nothing: now the manifest counts   |
| dropped ... | drops a table's rows of the month, table by table           | the other tables' rows are dropped |
| archived    | a note                                                      | nothing                            |

| restore      | writes                                                    | a crash right after it costs           |
|--------------|-----------------------------------------------------------|----------------------------------------|
| restoring    | a note                                                    | the month is away until it is restored |
| compared     | staging tables, without names of members erased meanwhile | they are filled again                  |
| replaced ... | a table's rows of the month in one step, table by table   | the same again                         |
| verified     | nothing: as above                                         | the same again                         |
| restored     | a note                                                    | nothing                                |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from ingest.contract.month import month_before, month_of, month_text
from warehouse import __version__
from warehouse.archive import manifest, tables
from warehouse.archive.manifest import NAME, PROOF, ArchiveRefused, File, Manifest
from warehouse.archive.notes import Note, notes
from warehouse.archive.place import Place
from warehouse.archive.tables import TABLES, staging
from warehouse.payout.audit.verify import audit
from warehouse.payout.close.gate import check_erasures
from warehouse.payout.close.lock import CLOSE, Held, locked
from warehouse.payout.close.proof import Proof, stored
from warehouse.payout.closed_months import sealed_months
from warehouse.storage.client import Warehouse, named
from warehouse.storage.settings import BackupSettings

#: Called with the name of each step that is done.
StepDone = Callable[[str], None]
_NOW: Final = {"mutations_sync": 2}


def due(warehouse: Warehouse, now_ms: int, months: int) -> list[int]:
    """Sealed months that ended more than ``months`` months ago, oldest first, but the newest sealed one.

    One that somebody has brought back from its archive stays until it is archived by name.
    """
    first = month_of(now_ms)
    for _ in range(months):
        first = month_before(first)
    finished = {note.month for note in notes(warehouse).values() if note.state not in {"archiving", "leaving"}}
    return [month for month in sorted(sealed_months(warehouse))[:-1] if month < first and month not in finished]


def archive(
    warehouse: Warehouse, month: int, to: str, settings: BackupSettings, *, step_done: StepDone = lambda _: None
) -> Note:
    """Move a sealed month into the folder YYYY-MM of ``to``; returns its note. Nothing leaves before it was read back.

    Raises ``ArchiveRefused`` for a month that is not sealed, that the month behind it still needs, whose rows are not
    what was sealed, or that is archived already; and ``MonthLocked`` while a close or an import runs.
    """
    proof = _sealed(warehouse, month)
    place = Place(_folder(to, month), settings)
    with locked(warehouse, CLOSE) as held, _reachable(place):
        move = _Move(warehouse, held, proof, place, step_done)
        note = notes(held).get(month)
        if note is None or not note.is_away:
            made = move.copy()
        elif note.state == "leaving" and note.place == place.text:
            made = move.checked(note)
        else:
            raise ArchiveRefused(_away(note))
        for table in TABLES:
            held.command(f"ALTER TABLE {table} DROP PARTITION %(month)s", {"month": month})
            step_done(f"dropped {table}")
        return move.note("archived", made)


def restore(
    warehouse: Warehouse,
    month: int,
    settings: BackupSettings,
    *,
    source: str = "",
    step_done: StepDone = lambda _: None,
) -> Note:
    """Bring an archived month back and verify it. ``source`` is the folder that has its folder, if that was moved.

    Raises ``ArchiveRefused`` if the month is not archived, or for files that are not those of its archive: then nothing
    was changed.
    """
    proof = _sealed(warehouse, month)
    with locked(warehouse, CLOSE) as held:
        note = notes(held).get(month)
        if note is None or not note.is_away:
            raise ArchiveRefused(f"{month_text(month)} is not archived: its rows are in the tables.")
        place = Place(_folder(source, month) if source else note.place, settings)
        move = _Move(warehouse, held, proof, place, step_done)
        with _reachable(place):
            made = move.checked(note)
            move.note("restoring", made)
            move.bring(made)
        _erase_again(held)
        step_done("compared")
        for table in TABLES:
            tables.replace(held, table, month)
            step_done(f"replaced {table}")
        move.clear()
        move.verify()
        return move.note("restored", made)


def _sealed(warehouse: Warehouse, month: int) -> Proof:
    """The month's proof. Raises ``ArchiveRefused`` if it is not sealed."""
    proof = stored(warehouse, month)
    if proof is None:
        raise ArchiveRefused(f"{month_text(month)} is not closed: only a sealed month is archived.")
    return proof


def _away(note: Note) -> str:
    text = month_text(note.month)
    if note.state == "archived":
        return f"{text} is archived in {note.place} already."
    folder = note.place.removesuffix(f"/{text}")
    way = f"month {text} --to {folder}" if note.state == "leaving" else f"restore {text}"
    return f"{text} is {note.state}, and its files are in {note.place}: run `flattr archive {way}` to its end first."


def _erase_again(held: Held) -> None:
    """Take the names of members who were erased meanwhile out of what no books need (docs/erasure.md)."""
    members = [member for (member,) in held.rows(named("archive_erased"))]
    for table in ("duplicates", "undos") if members else ():
        rename = f"ALTER TABLE {staging(table)} UPDATE member_id = '' WHERE member_id IN %(members)s"
        held.command(rename, {"members": members}, _NOW)


@contextmanager
def _reachable(place: Place) -> Iterator[None]:
    """Say which place does not take or give files: a full disk, a wrong folder or key."""
    try:
        yield
    except OSError as error:
        raise ArchiveRefused(f"{place.text} does not take or give the archive's files: {error}") from None


def _folder(place: str, month: int) -> str:
    return f"{place.rstrip('/')}/{month_text(month)}" if place else month_text(month)


def _file(table: str) -> str:
    return f"{table}.parquet"


@dataclass(frozen=True)
class _Move:
    """One way of one month, by the lock's holder. Staging tables are filled past the lock: they count for nothing."""

    warehouse: Warehouse
    held: Held
    proof: Proof
    place: Place
    step_done: StepDone

    @property
    def month(self) -> int:
        return self.proof.month

    def copy(self) -> Manifest:
        """Write the month, read it back, and note that it may leave."""
        check_erasures(self.held)
        self._check_not_needed()
        self.verify()
        if self.place.has(NAME):
            manifest.read(self.place, self.month, self.proof.seal)  # of this month, which was restored
        self.note("archiving", None)
        made = self._write()
        self.step_done("written")
        self.bring(made)
        self.step_done("compared")
        self.clear()
        self.note("leaving", made)
        return made

    def verify(self) -> None:
        """Raise ``ArchiveRefused`` unless the month's rows are what was sealed."""
        findings = audit(self.held, self.proof)
        if not findings.clean:
            problems = "; ".join(findings.problems[:3])
            raise ArchiveRefused(f"{month_text(self.month)} does not verify, and stays as it is: {problems}")
        self.step_done("verified")

    def note(self, state: str, made: Manifest | None) -> Note:
        """Note how the month stands."""
        row = {
            "month": self.month,
            "state": state,
            "place": self.place.text,
            "manifest_sha256": "" if made is None else manifest.sha256(made.text()),
            "bytes": 0 if made is None else made.bytes,
        }
        self.held.insert("archives", {name: [value] for name, value in row.items()})
        self.step_done(state)
        return notes(self.held)[self.month]

    def checked(self, note: Note) -> Manifest:
        """The manifest that was noted. Raises ``ArchiveRefused`` unless every file is as it says, to the last byte."""
        made = manifest.read(self.place, self.month, self.proof.seal, note.manifest_sha256)
        for table, file in made.files.items():
            name = _file(table)
            if not self.place.has(name):
                raise ArchiveRefused(f"{name} is missing in {self.place.text}: the archive was not copied to its end.")
            if self.place.sha256(name) != (file.sha256, file.bytes):
                raise ArchiveRefused(f"{name} in {self.place.text} was changed or cut short: take an intact copy.")
        return made

    def bring(self, made: Manifest) -> None:
        """Fill the staging tables. Raises ``ArchiveRefused`` unless they have the rows that were archived."""
        for table, file in made.files.items():
            known = dict(tables.columns_of(self.warehouse, table))
            if any(known.get(name) != kind for name, kind in file.columns):
                raise ArchiveRefused(
                    f"{table} has other columns than in {self.place.text}, which flattr {made.version} wrote: restore "
                    "with that version, then upgrade."
                )
            tables.make_staging(self.warehouse, table)
            with self.place.reading(_file(table)) as source:
                try:
                    tables.load(self.warehouse, table, file.columns, source)
                except pa.ArrowInvalid as error:
                    raise ArchiveRefused(f"{_file(table)} in {self.place.text} cannot be read: {error}") from None
            self.warehouse.sync()
            there = tables.content(
                self.warehouse, staging(table), self.month, merged=TABLES[table], columns=file.columns
            )
            if (there.rows, there.digest) != (file.rows, file.digest):
                raise ArchiveRefused(f"{_file(table)} in {self.place.text} has other rows than {table} had.")

    def clear(self) -> None:
        """Drop the staging tables."""
        for table in TABLES:
            tables.drop_staging(self.warehouse, table)

    def _check_not_needed(self) -> None:
        """Raise ``ArchiveRefused`` while the next month asks this one: for outliers, and for clicks sent once more."""
        if not self.held.rows("SELECT 1 FROM seals WHERE month > %(month)s LIMIT 1", {"month": self.month}):
            raise ArchiveRefused(
                f"{month_text(self.month)} is the newest closed month, and the next one still needs its rows: "
                "close that first."
            )

    def _write(self) -> Manifest:
        self.place.delete(NAME)
        with self.place.writing(PROOF) as out:
            out.write(self.proof.text().encode())
        files = {}
        for table, merged in TABLES.items():
            with self.place.writing(_file(table)) as out:
                tables.write(self.held, table, self.month, out)
            there = tables.content(self.held, table, self.month, merged=merged)
            files[table] = File(there.columns, there.rows, there.digest, *self.place.sha256(_file(table)))
            self.step_done(f"wrote {table}")
        ((migration,),) = self.held.rows("SELECT max(number) FROM migrations")
        made = Manifest(self.month, self.proof.seal, __version__, int(migration), files)
        with self.place.writing(NAME) as out:
            out.write(made.text().encode())
        return made
