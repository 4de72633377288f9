"""The auditor: compares a closed month with its recomputation, line by line and digest by digest.

The stored tables, the stream's counts, the proof and the chain of seals are compared with the second implementation
in ``recompute.py``. Both sides are read as sorted streams.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from ingest.contract.month import month_text
from warehouse.payout.audit.recompute import SORT_SPILLS, Line, Recomputed
from warehouse.payout.close.proof import Proof, stored
from warehouse.payout.digest import Digest, text_line
from warehouse.payout.errors import PayoutRefused
from warehouse.storage.archived import refuse_archived
from warehouse.storage.client import Warehouse

SHOWN_MAX: Final = 100


@dataclass
class Findings:
    """How many lines were compared, and the differences by table and line, at most ``SHOWN_MAX``."""

    lines: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything agrees."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Add a difference, unless there are ``SHOWN_MAX`` already."""
        if len(self.problems) < SHOWN_MAX:
            self.problems.append(problem)


def verify_month(warehouse: Warehouse, month: int) -> Findings:
    """Recompute a closed month and compare. Raises ``PayoutRefused`` if it is open, ``MonthArchived`` if it left."""
    refuse_archived(warehouse, month)
    proof = stored(warehouse, month)
    if proof is None:
        raise PayoutRefused(
            f"{month_text(month)} is not closed: `flattr month status {month_text(month)}` says what is missing."
        )
    return audit(warehouse, proof)


def audit(warehouse: Warehouse, proof: Proof) -> Findings:
    """Recompute the month of a proof and compare."""
    whole = _Audit(warehouse, proof)
    whole.run()
    return whole.findings


class _Audit:
    def __init__(self, warehouse: Warehouse, proof: Proof) -> None:
        self.findings = Findings()
        self._warehouse = warehouse
        self._proof = proof
        self._month = proof.month
        self._computed = Recomputed(warehouse, proof)
        self._digests = {name: Digest() for name in ("pools", "payouts", "ledger")}

    def run(self) -> None:
        """Compare members first, then creators, the ledger and the digests: each is computed from the ones before."""
        self._compare("pools", self._computed.pools(), self._stored_pools())
        payouts = self._stored("payouts", _PAYOUT_COLUMNS, "creator_id")
        self._compare("payouts", self._computed.payouts(), payouts)
        entries = self._computed.entries()
        self._compare("ledger", entries, sorted(self._stored("ledger", _LEDGER_COLUMNS, "kind")))
        self._compare_quarantine()
        self._compare_counts()
        self._compare_proof(entries)

    def _stored_pools(self) -> Iterator[Line]:
        for row in self._stored("pools", _POOL_COLUMNS, "member_id"):
            *fields, creators, flattrs, shares = row
            self._digests["pools"].add(text_line((*fields, "\t".join(creators), flattrs, shares)))
            yield row

    def _stored(self, table: str, columns: str, order: str) -> Iterator[Line]:
        return self._warehouse.stream(
            f"SELECT {columns} FROM {table} WHERE month = %(month)s ORDER BY {order}",  # noqa: S608 - our names
            {"month": self._month},
        )

    def _compare(self, table: str, expected: Iterable[Line], found: Iterable[Line]) -> None:
        """Merge-compare two streams, both sorted by the fields that name a line."""
        ours, theirs = iter(expected), iter(found)
        mine, other = next(ours, None), next(theirs, None)
        while mine is not None or other is not None:
            self.findings.lines += 1
            if table in {"payouts", "ledger"} and other is not None and (mine is None or _key(other) <= _key(mine)):
                self._digests[table].add(text_line(other))
            if other is None or (mine is not None and _key(mine) < _key(other)):
                self.findings.add(f"{table}: the line {_name(table, mine)} is missing")
                mine = next(ours, None)
            elif mine is None or _key(other) < _key(mine):
                self.findings.add(f"{table}: the line {_name(table, other)} should not be there")
                other = next(theirs, None)
            else:
                if tuple(map(_plain, mine)) != tuple(map(_plain, other)):
                    self.findings.add(f"{table}: the line {_name(table, other)} is {other}, recomputed {mine}")
                mine, other = next(ours, None), next(theirs, None)

    def _compare_quarantine(self) -> None:
        computed = self._computed.left_out
        for key in sorted(computed.found ^ computed.stored()):
            should = "is missing" if key in computed.found else "should not be there"
            self.findings.add(f"quarantine_set: the flattr {' '.join(key)} {should}")

    def _compare_counts(self) -> None:
        rows = self._warehouse.stream(
            "SELECT member_id, creator_id, flattrs FROM counts_by_member WHERE month = %(month)s "
            "ORDER BY member_id, creator_id, position",
            {"month": self._month},
            SORT_SPILLS,
        )
        newest = (list(lines)[-1] for _, lines in groupby(rows, key=lambda row: row[:2]))
        stated = sum(flattrs for _, _, flattrs in newest)
        recounted = self._computed.sums["flattrs"] + self._computed.sums["quarantined"]
        if stated != recounted:
            self.findings.add(f"counts_by_member: the sum is {stated}, but there are {recounted} flattrs")

    def _compare_proof(self, entries: list[Line]) -> None:
        sums, proof = self._computed.sums, self._proof
        moved: dict[str, int] = defaultdict(int)
        for _, _, debit_class, _, credit_class, _, amount, _ in entries:
            moved[debit_class] -= amount
            moved[credit_class] += amount
        computed = {
            "pledged_micro": sums["pledged"],
            "fee_micro": moved["fee"] + moved["kept"],
            "kept_micro": moved["kept"],
            "paid_micro": moved["payable"],
            "held_micro": moved["held"],
            "carried_micro": moved["creator"] + moved["members"],
            "charity_micro": moved["charity"],
            "charged_back_micro": moved["cash"] + sums["pledged"],
            "carried_balance_micro": sums["creators_out"] + sums["members_out"],
            "held_balance_micro": sums["held_out"],
            "adjusted_micro": sums["adjusted"],
            "members": sums["members"],
            "members_unfunded": sums["unfunded"],
            "creators": sums["creators"],
            "creators_paid": sums["creators_paid"],
            "flattrs": sums["flattrs"],
            "counted": sums["counted"] + sums["counted_left_out"],
            "quarantined": sums["quarantined"],
        }
        for name, number in computed.items():
            if getattr(proof, name) != number:
                self.findings.add(f"proof: {name} is {getattr(proof, name)}, recomputed {number}")
        if moved["pool"]:
            self.findings.add(f"ledger: the account `pool` ends at {moved['pool']} instead of 0")
        if not proof.balanced:
            self.findings.add("proof: charged does not equal paid + fee + held + carried + charity + charged back")
        self._compare_hashes()

    def _compare_hashes(self) -> None:
        proof = self._proof
        for name, digest in {**self._digests, **self._computed.digests}.items():
            if proof.digests.get(name, EMPTY) != digest.hexdigest():
                self.findings.add(f"proof: the hash of {name} is not the sealed one")
        noted: dict[int, tuple[str, ...]] = dict(
            self._warehouse.rows("SELECT month, (seal, previous, proof) FROM first_seals")
        )
        for month, *row in self._warehouse.rows("SELECT month, seal, previous, proof FROM seals FINAL"):
            if tuple(row) != noted.get(month):
                self.findings.add(f"seals: the row of {month_text(month)} is not what was noted when it was sealed")
        chain = self._warehouse.rows("SELECT month, seal, previous FROM seals ORDER BY month")
        before = ""
        for month, seal, previous in chain:
            if previous != before:
                self.findings.add(f"seals: {month_text(month)} does not name the seal before it")
            if month == proof.month and (seal != proof.seal or previous != proof.previous):
                self.findings.add(f"seals: the seal of {month_text(month)} is not the hash of its proof")
            before = seal


EMPTY: Final = Digest().hexdigest()
_POOL_COLUMNS: Final = (
    "member_id, pledge_micro, fee_micro, carried_in_micro, pool_micro, counted, rule, charity_micro, kept_micro, "
    "carried_out_micro, lots_month, lots_micro, things, creators, creator_flattrs, creator_micro"
)
_PAYOUT_COLUMNS: Final = (
    "creator_id, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro, paid_micro, "
    "carried_out_micro, held_out_micro, reason, payment_id"
)
_LEDGER_COLUMNS: Final = "kind, owner, debit_class, debit_owner, credit_class, credit_owner, amount_micro, cites"


def _key(line: Line) -> bytes:
    return "\0".join(str(part) for part in line[:6] if isinstance(part, str)).encode()


def _name(table: str, line: Line | None) -> str:
    key = () if line is None else line[:6] if table == "ledger" else line[:1]
    return " ".join(str(part) for part in key if part != "")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
