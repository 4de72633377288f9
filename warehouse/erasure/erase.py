"""Erase a member: a pseudonym in the open months; closed months stay as they were sealed.

Every step is idempotent, and a rerun after a crash repeats them all:

| step       | writes                                                       | a crash right after it costs             |
|------------|--------------------------------------------------------------|------------------------------------------|
| listed     | the list: hash of the member, pseudonym, first open month    | workers write the pseudonym from here on |
| pledges    | open months' pledges under the pseudonym, then deletes the id's | no close until the erasure is done    |
| debits     | the pseudonym in open months' debits; deletes mandates       | the same                                 |
| flattrs    | the same for flattrs, up to progress                         | the same                                 |
| counts     | the same for counts by member                                | the same                                 |
| quarantine | the same for its set, then its log                           | the same                                 |
| labels     | removes the name in duplicates, undos, late; bytes in rejected | the same                               |
| copies     | drops staging of a crashed close and leftovers of a replay   | the same                                 |
| done       | the audit record's last line                                 | nothing                                  |

Rows at or below a partition's progress were written before it, and are never written again with new content. So
copying and then deleting exactly those rows loses nothing that a worker writes meanwhile. Newer rows wait until
progress has passed them.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from ingest.contract.names import IDENTIFIER, identifier
from warehouse.moves.notes import FACTORS
from warehouse.payout.close.compute import drop_staging
from warehouse.payout.close.lock import CLOSE, locked
from warehouse.payout.close.stages import forget_stages
from warehouse.payout.errors import PayoutRefused, refusing
from warehouse.pseudonyms import member_sha256
from warehouse.storage.client import Warehouse, named

PREFIX: Final = "erased-"
#: Workers read the list every second and apply it within a flush; a pass before that would miss rows.
SETTLE_S: Final = 5.0
_NOW: Final = {"mutations_sync": 2}
#: Member and pseudonym share a partition now, and whenever the log grows once.
_SHARED: Final = max(FACTORS)
_CANDIDATES_PER_PLACE: Final = 16


class ErasureUnfinished(PayoutRefused):
    """Some rows are newer than progress: run the command again once the stream has caught up."""


@dataclass(frozen=True)
class Found:
    """How many rows of a table and month concern the member. ``fate`` is ``goes``, or why they stay."""

    table: str
    month: int
    rows: int
    fate: str


@dataclass(frozen=True)
class Erasure:
    """A listed erasure. ``proof`` is the SHA-256 of its id and the member's: knowing both proves that it was done."""

    id: str
    pseudonym: str
    open_from: int
    partition: int
    proof: str


def find(warehouse: Warehouse, member_id: str) -> list[Found]:
    """A member's rows, and what an erasure would do with them. Reads only. Raises ``PayoutRefused`` as ``erase``."""
    _check_id(warehouse, member_id)
    rows = warehouse.rows(named("erasure_found"), {"member": member_id, "mention": _mention(member_id)})
    return [Found(*row) for row in rows]


def erase(  # noqa: PLR0913 - what an erasure needs, named
    warehouse: Warehouse,
    member_id: str,
    partitions: int,
    *,
    log_days: int,
    settle_s: float = SETTLE_S,
    patience_s: float = 60,
    step_done: Callable[[str, int], None] = lambda _step, _rows: None,
) -> Erasure:
    """Erase a member, or finish an erasure that was interrupted.

    ``log_days`` is how long the topics retain records, and so how long the list remembers the hash. Raises
    ``ErasureUnfinished`` if progress has not passed all rows within ``patience_s``, and ``MonthLocked`` while a month
    is closing.
    """
    with locked(warehouse, CLOSE) as held:
        erasure = _list(held, member_id, partitions, log_days)
        run = _Run(held, erasure, member_id, step_done)
        run.note("listed", 1)
        time.sleep(settle_s)
        deadline = time.monotonic() + patience_s
        while True:
            held.check()
            run.take_steps()
            left = run.left()
            if not left:
                run.note("done", 0)
                return erasure
            if time.monotonic() > deadline:
                raise ErasureUnfinished(
                    f"{left} rows are newer than what is counted of partition {erasure.partition}. Start "
                    "`flattr streams`, or wait until it has caught up, and run the command again."
                )
            time.sleep(0.5)


def _list(warehouse: Warehouse, member_id: str, partitions: int, log_days: int) -> Erasure:
    _check_id(warehouse, member_id)
    sha256 = member_sha256(member_id)
    if warehouse.rows("SELECT 1 FROM erasures WHERE pseudonym = %(name)s", {"name": member_id}):
        raise PayoutRefused(f"{member_id} is itself the pseudonym of an erased member: there is nothing to erase.")
    shared = _SHARED * partitions
    drawn = {"prefix": PREFIX + secrets.token_hex(6), "candidates": _CANDIDATES_PER_PLACE * shared}
    ((keyed_hash, place, pseudonym),) = warehouse.rows(
        named("erasure_identity"), {"member": member_id, "shared": shared, **drawn}
    )
    partition = place % partitions
    listed = warehouse.rows(named("erasure_listed"), {"sha256": sha256})
    if listed:
        ((known_id, known_name, open_from),) = listed
        return Erasure(str(known_id), known_name, open_from, partition, _proof(str(known_id), member_id))
    if not pseudonym:
        raise PayoutRefused("No random pseudonym fell into the member's partition. Run the command again.")
    ((newest,),) = warehouse.rows("SELECT max(month) FROM seals")
    now = datetime.now(UTC)
    erasure = Erasure(str(uuid.uuid4()), pseudonym, newest + 1 if newest else 0, partition, "")
    warehouse.insert(
        "erasures",
        {
            "erasure": [erasure.id],
            "keyed_hash": [bytes.fromhex(keyed_hash)],
            "member_sha256": [sha256],
            "pseudonym": [pseudonym],
            "same_partition": [shared],
            "open_from": [erasure.open_from],
            "listed_at": [now],
            "forget_at": [now + timedelta(days=log_days)],
        },
    )
    return Erasure(erasure.id, pseudonym, erasure.open_from, partition, _proof(erasure.id, member_id))


def _check_id(warehouse: Warehouse, member_id: str) -> None:
    """Raise ``PayoutRefused`` for an id that no member can have had.

    Pledges older than the rule for ids may have others, which must be erased too. What is empty or blank stands in
    every row about no member, and is mentioned in every text: it would erase what is everybody's.
    """
    if IDENTIFIER.fullmatch(member_id) is not None:
        return
    pledged = warehouse.rows("SELECT 1 FROM pledges WHERE member_id = %(member)s LIMIT 1", {"member": member_id})
    begun = pledged or warehouse.rows(named("erasure_listed"), {"sha256": member_sha256(member_id)})
    if not begun or not member_id.strip():
        with refusing():
            identifier("member_id", member_id)


def _proof(erasure_id: str, member_id: str) -> str:
    return hashlib.sha256(f"{erasure_id}{member_id}".encode()).hexdigest()


def _mention(member_id: str) -> str:
    """A regular expression for the id as a whole word, as spelt in JSON, forms and addresses."""
    spellings = {member_id, json.dumps(member_id)[1:-1], quote(member_id, safe="")}
    words = "|".join(re.escape(one) for one in sorted(spellings))
    return rf"(^|[^A-Za-z0-9_.-])({words})($|[^A-Za-z0-9_.-])"


class _Run:
    """The steps after ``listed``, for one member."""

    def __init__(
        self, warehouse: Warehouse, erasure: Erasure, member_id: str, step_done: Callable[[str, int], None]
    ) -> None:
        self._warehouse = warehouse
        self._erasure = erasure
        self._step_done = step_done
        self._values = {
            "member": member_id,
            "pseudonym": erasure.pseudonym,
            "open_from": erasure.open_from,
            "mention": _mention(member_id),
        }

    def note(self, step: str, rows: int) -> None:
        """Write the audit record's line of a step."""
        self._warehouse.insert(
            "erasure_log",
            {
                "erasure": [self._erasure.id],
                "step": [step],
                "rows": [rows],
                "proof": [self._erasure.proof],
                "at": [datetime.now(UTC)],
            },
        )
        self._step_done(step, rows)

    def left(self) -> int:
        """How many rows of the open months still have the id."""
        return int(self._warehouse.rows(named("erasure_left"), self._values)[0][0])

    def take_steps(self) -> None:
        """Take every step once, for rows up to the current progress."""
        self._move("pledges", "pledges", "")
        self._debits()
        self._subscriptions()
        reach = self._warehouse.rows(named("erasure_reach"), {"partition": self._erasure.partition})
        if reach:
            self._values["reach"] = reach[0][0]
            self._move("flattrs", "flattrs", "AND position <= %(reach)s")
            self._move("counts", "counts_by_member", "AND position <= %(reach)s")
        self._quarantine()
        self._labels()
        self._copies()

    def _move(self, step: str, table: str, bound: str) -> None:
        """Copy to the pseudonym, then delete the id's rows. A crash in between leaves both, which blocks the close."""
        where = f"month >= %(open_from)s AND member_id = %(member)s {bound}"
        rows = self._count(table, where)
        if rows:
            self._warehouse.command(named(f"erasure_copy_{step}"), self._values)
            self._step_done(f"{step} copied", rows)
            self._change(table, "DELETE", where)
        self.note(step, rows)

    def _debits(self) -> None:
        """Debits of open months get the pseudonym; the mandate goes. The bank's files are books, and stay."""
        rows = self._update("debits", "member_id = %(pseudonym)s", "month >= %(open_from)s AND member_id = %(member)s")
        mandates = self._count("mandates", "member_id = %(member)s")
        if mandates:
            self._change("mandates", "DELETE", "member_id = %(member)s")
        self.note("debits", rows + mandates)

    def _subscriptions(self) -> None:
        """Subscriptions end with the membership; under a pseudonym, as later clicks come, nothing is posted."""
        rows = 0
        for table in ("subscription_orders", "replayed_orders"):
            own = self._count(table, "member_id = %(member)s")
            if own:
                self._change(table, "DELETE", "member_id = %(member)s")
            rows += own
        self.note("subscriptions", rows)

    def _quarantine(self) -> None:
        """Rename set and log together, because the set is a function of the log and the flattrs."""
        self._move("quarantine", "quarantine_set", "")
        mentioned = "(member_id = %(member)s OR match(evidence, %(mention)s) OR match(reason, %(mention)s))"
        hidden = "replaceRegexpAll({0}, %(mention)s, concat('\\\\1', %(pseudonym)s, '\\\\3'))"
        rows = self._update(
            "quarantine_log",
            "member_id = if(member_id = %(member)s, %(pseudonym)s, member_id), "
            f"evidence = {hidden.format('evidence')}, reason = {hidden.format('reason')}",
            f"month >= %(open_from)s AND {mentioned}",
        )
        self.note("quarantine log", rows)

    def _labels(self) -> None:
        rows = 0
        for table in ("duplicates", "undos"):
            # No name in closed months: the books there have the member's id, and must not link the pseudonym to it.
            name = "if(month >= %(open_from)s, %(pseudonym)s, '')"
            rows += self._update(table, f"member_id = {name}", "member_id = %(member)s")
        rows += self._update(
            "late",
            "click = replaceOne(click, concat('\"member_id\":', JSONExtractRaw(click, 'member_id')), "
            "concat('\"member_id\":\"', %(pseudonym)s, '\"'))",
            "JSONExtractString(click, 'member_id') = %(member)s",
        )
        # Keep the click id, so that receipts and `flattr verify` still find what became of the click.
        own_id = "toUUIDOrZero(JSONExtractString(raw, 'click_id'))"
        rows += self._update(
            "rejected",
            "member_id = '', detail = '', "
            f"raw = if({own_id} = toUUIDOrZero(''), '', concat('{{\"click_id\":\"', toString({own_id}), '\"}}'))",
            "member_id = %(member)s OR match(raw, %(mention)s) OR match(detail, %(mention)s)",
        )
        self.note("labels", rows)

    def _copies(self) -> None:
        months = self._warehouse.rows(
            "SELECT DISTINCT month FROM pools_staging WHERE member_id = %(member)s", self._values
        )
        for (month,) in months:
            forget_stages(self._warehouse, month)
            drop_staging(self._warehouse, month)
        rows = len(months)
        # Counts that a crashed close restated under the id; a rerun finds them again under the pseudonym.
        for table, bound in (("replayed_flattrs", ""), ("restated_counts", "AND month >= %(open_from)s")):
            where = f"member_id = %(member)s {bound}"
            copied = self._count(table, where)
            if copied:
                self._change(table, "DELETE", where)
            rows += copied
        self.note("copies", rows)

    def _update(self, table: str, assignments: str, where: str) -> int:
        rows = self._count(table, where)
        if rows:
            self._change(table, f"UPDATE {assignments}", where)
        return rows

    def _count(self, table: str, where: str) -> int:
        return int(self._warehouse.rows(f"SELECT count() FROM {table} WHERE {where}", self._values)[0][0])  # noqa: S608 - our names

    def _change(self, table: str, change: str, where: str) -> None:
        self._warehouse.command(f"ALTER TABLE {table} {change} WHERE {where}", self._values, _NOW)
