"""The auditor: a closed month computed again in plain Python, line by line and hash by hash.

A second implementation on purpose. It reads raw rows (flattrs unmerged, pledges, earlier ledger
lines), merges, counts, divides and books them with dictionaries and integers, and shares no
statement with the close: what both get right, two programs got right. It needs memory
for one member's flattrs at a time, plus one entry per creator.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from warehouse.client import Warehouse
from warehouse.money import fee as fee_of
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.months import month_before, month_text
from warehouse.payout.proof import Proof, stored
from warehouse.payout.split import split

NEVER: Final = (1 << 64) - 1
UNDO: Final = 1 << 19
SHOWN_MAX: Final = 100

Line = tuple[Any, ...]


@dataclass
class Findings:
    """What the audit compared, and every difference by table and line."""

    lines: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything agrees."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Keep a difference; beyond ``SHOWN_MAX`` only the first ones are kept."""
        if len(self.problems) < SHOWN_MAX:
            self.problems.append(problem)


class Digest:
    """SHA-256 over the sorted SHA-256 of lines: the proof's digest of a table."""

    def __init__(self) -> None:
        self._leaves: list[bytes] = []

    def add(self, line: str) -> None:
        """One line, with its newline."""
        self._leaves.append(hashlib.sha256(line.encode()).digest())

    def hexdigest(self) -> str:
        """The digest of all lines."""
        return hashlib.sha256(b"".join(sorted(self._leaves))).hexdigest()


def text_line(values: Iterable[object]) -> str:
    """A line as it is hashed: fields by tab, arrays of numbers in brackets."""
    return "\t".join(_text(value) for value in values) + "\n"


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(str, value))}]"
    return str(value)


def verify_month(warehouse: Warehouse, month: int) -> Findings:
    """Recompute a closed month and compare. Raises ``PayoutRefused`` when it is not closed."""
    proof = stored(warehouse, month)
    if proof is None:
        raise PayoutRefused(
            f"{month_text(month)} is not closed: `flattr month status {month_text(month)}` says what is missing."
        )
    audit = _Audit(warehouse, proof)
    audit.run()
    return audit.findings


class _Audit:
    def __init__(self, warehouse: Warehouse, proof: Proof) -> None:
        self.findings = Findings()
        self._warehouse = warehouse
        self._proof = proof
        self._month = proof.month
        self._rules: Mapping[str, Any] = proof.rules
        self._digests = {name: Digest() for name in ("pledges", "adjustments", "pools", "payouts", "ledger")}
        self._sums: dict[str, int] = defaultdict(int)
        self._earned: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._entries: list[Line] = []

    def run(self) -> None:
        """Members first, creators from their shares, the books from both, the hashes at the end."""
        self._compare("pools", self._pools(), self._stored_pools())
        adjustments = self._adjustments()
        self._compare("payouts", self._payouts(adjustments), self._stored("payouts", _PAYOUT_COLUMNS, "creator_id"))
        self._book(adjustments)
        self._compare("ledger", sorted(self._entries), sorted(self._stored("ledger", _LEDGER_COLUMNS, "kind")))
        self._compare_counts()
        self._compare_proof()

    # -- members

    def _pools(self) -> Iterator[Line]:
        pledges = self._pledges()
        lots = self._lots()
        ballots = self._ballots()
        ballot = next(ballots, None)
        for member in _merged(pledges, lots, self._members()):
            while ballot is not None and ballot[0] < member:
                ballot = next(ballots, None)
            own = ballot[1:] if ballot is not None and ballot[0] == member else (0, 0, {})
            yield self._pool(member, pledges.get(member, 0), lots.get(member, []), *own)

    def _pool(  # noqa: PLR0913, PLR0917 - what a pool is made of
        self,
        member: str,
        pledge: int,
        lots: list[tuple[int, int]],
        counted: int,
        things: int,
        flattrs: Mapping[str, int],
    ) -> Line:
        fee = fee_of(pledge, self._rules["fee_bps"])
        carried_in = sum(micro for _, micro in lots)
        pool = pledge - fee + carried_in
        rule = "unfunded" if pool == 0 else "split" if flattrs else self._rules["noclick"]
        kept_lots = []
        if rule == "carry":
            born = [*lots, (self._month, pledge - fee)]
            kept_lots = [lot for lot in born if lot[1] and self._age(lot[0]) < self._rules["noclick_expiry_months"]]
        carried_out = sum(micro for _, micro in kept_lots)
        charity = pool if rule == "charity" else pool - carried_out if rule == "carry" else 0
        kept = pool if rule == "keep" else 0
        shares = split(pool, flattrs, month=self._month, member_id=member)
        creators = sorted(flattrs, key=str.encode)
        for creator in creators:
            line = self._earned[creator]
            line[0] += 1
            line[1] += flattrs[creator]
            line[2] += shares[creator]
        total = sum(flattrs.values())
        for name, amount in {
            "pledged": pledge, "fee": fee, "charity": charity, "kept": kept, "counted": counted, "flattrs": total,
            "pooled": pool if rule == "split" else 0, "members_in": carried_in, "members_out": carried_out,
            "members": 1, "unfunded": rule == "unfunded",
        }.items():  # fmt: skip
            self._sums[name] += amount
        return (
            member, pledge, fee, carried_in, pool, counted, rule, charity, kept, carried_out,
            [origin for origin, _ in kept_lots], [micro for _, micro in kept_lots], things,
            creators, [flattrs[c] for c in creators], [shares[c] for c in creators],
        )  # fmt: skip

    def _age(self, origin: int) -> int:
        return (self._month // 100 - origin // 100) * 12 + self._month % 100 - origin % 100

    def _ballots(self) -> Iterator[tuple[str, int, int, dict[str, int]]]:
        """By member: counted flattrs, the sum of the active things, active flattrs by creator."""
        rows = self._warehouse.stream(
            "SELECT member_id, creator_id, hex(thing_id), first_position, version FROM flattrs "
            "WHERE month = %(month)s ORDER BY member_id",
            {"month": self._month},
            _RAW,
        )
        for member, own in groupby(rows, key=lambda row: row[0]):
            merged: dict[tuple[str, str], tuple[int, int]] = {}
            for _, creator, thing, first, version in own:
                before = merged.get((creator, thing), (NEVER, 0))
                merged[creator, thing] = (min(first, before[0]), max(version, before[1]))
            counted = [(key, version) for key, (first, version) in merged.items() if first != NEVER]
            active = [key for key, version in counted if not version & UNDO]
            flattrs: dict[str, int] = defaultdict(int)
            for creator, _ in active:
                flattrs[creator] += 1
            things = sum(int.from_bytes(bytes.fromhex(thing), "little") for _, thing in active) % (1 << 128)
            if counted:
                yield member, len(counted), things, dict(flattrs)

    def _members(self) -> Iterator[str]:
        rows = self._warehouse.stream(
            "SELECT DISTINCT member_id FROM flattrs WHERE month = %(month)s AND first_position != %(never)s",
            {"month": self._month, "never": NEVER},
        )
        return (member for (member,) in rows)

    def _pledges(self) -> dict[str, int]:
        rows = self._warehouse.rows(
            "SELECT member_id, version, amount_micro, paid FROM pledges WHERE month = %(month)s "
            "AND version <= %(pledges_version)s AND version IN (SELECT version FROM pledge_imports) "
            "ORDER BY member_id, version",
            {"month": self._month, **self._proof.snapshot},
        )
        newest = {member: (amount, paid) for member, _, amount, paid in rows}
        for member, (amount, paid) in newest.items():
            self._digests["pledges"].add(text_line((member, amount, paid)))
        return {member: amount if paid else 0 for member, (amount, paid) in newest.items()}

    def _lots(self) -> dict[str, list[tuple[int, int]]]:
        rows = self._warehouse.rows(
            "SELECT member_id, lots_month, lots_micro FROM pools WHERE month = %(month)s AND notEmpty(lots_month)",
            {"month": month_before(self._month)},
        )
        return {member: list(zip(origins, micros, strict=True)) for member, origins, micros in rows}

    def _stored_pools(self) -> Iterator[Line]:
        for row in self._stored("pools", _POOL_COLUMNS, "member_id"):
            *fields, creators, flattrs, shares = row
            self._digests["pools"].add(text_line((*fields, "\t".join(creators), flattrs, shares)))
            yield row

    # -- creators

    def _adjustments(self) -> list[Line]:
        rows = self._warehouse.rows(
            "SELECT id, kind, debit_class, debit_owner, credit_class, credit_owner, amount_micro, cites "
            "FROM adjustments WHERE version > %(adjustments_before)s AND version <= %(adjustments_version)s",
            self._proof.snapshot,
        )
        for row in rows:
            self._digests["adjustments"].add(text_line(row))
        return rows

    def _payouts(self, adjustments: list[Line]) -> Iterator[Line]:
        opening = self._opening()
        adjusted: dict[str, int] = defaultdict(int)
        for _, _, debit_class, debit_owner, credit_class, credit_owner, amount, _ in adjustments:
            if credit_class == "creator":
                adjusted[credit_owner] += amount
            if debit_class == "creator":
                adjusted[debit_owner] -= amount
        registry = self._registry()
        for creator in sorted({*self._earned, *opening, *adjusted}, key=str.encode):
            members, flattrs, earned = self._earned.get(creator, (0, 0, 0))
            carried_in, held_in = opening.get(creator, (0, 0))
            if flattrs or carried_in or held_in or adjusted[creator]:
                due = carried_in + held_in + earned + adjusted[creator]
                claimed, held = registry.get(creator, (False, False))
                reason, paid, held_out = self._decide(due, claimed=claimed, held=held)
                carried_out = due - paid - held_out
                payment = _payment_id(self._month, creator) if paid else ""
                for name, amount in {
                    "paid": paid, "held_in": held_in, "held_out": held_out, "creators_in": carried_in,
                    "creators_out": carried_out, "earned": earned, "adjusted": adjusted[creator],
                    "creators": 1, "creators_paid": paid > 0,
                }.items():  # fmt: skip
                    self._sums[name] += amount
                self._book_creator(creator, earned, held_in, held_out, paid)
                yield (
                    creator, members, flattrs, earned, carried_in, held_in, adjusted[creator],
                    paid, carried_out, held_out, reason, payment,
                )  # fmt: skip

    def _decide(self, due: int, *, claimed: bool, held: bool) -> tuple[str, int, int]:
        """Why, what is paid, what is held."""
        if due <= 0:
            return ("debt" if due else "nothing"), 0, 0
        if held:
            return "held", 0, due
        if self._rules["claim_required"] and not claimed:
            return "unclaimed", 0, due
        whole = due - due % int(self._rules["minor_micro"])
        if whole < self._rules["minimum_micro"] or whole == 0:
            return "below_minimum", 0, 0
        return "paid", whole, 0

    def _opening(self) -> dict[str, tuple[int, int]]:
        balances: dict[tuple[str, str], int] = defaultdict(int)
        rows = self._warehouse.stream(
            "SELECT debit_class, debit_owner, credit_class, credit_owner, amount_micro FROM ledger "
            "WHERE month < %(month)s",
            {"month": self._month},
        )
        for debit_class, debit_owner, credit_class, credit_owner, amount in rows:
            balances[debit_class, debit_owner] -= amount
            balances[credit_class, credit_owner] += amount
        owners = {owner for account, owner in balances if account in {"creator", "held"}}
        return {owner: (balances["creator", owner], balances["held", owner]) for owner in owners}

    def _registry(self) -> dict[str, tuple[bool, bool]]:
        rows = self._warehouse.rows(
            "SELECT creator_id, claimed, held FROM creators WHERE version <= %(creators_version)s "
            "ORDER BY creator_id, version",
            self._proof.snapshot,
        )
        return {creator: (bool(claimed), bool(held)) for creator, claimed, held in rows}

    # -- books

    def _book_creator(self, creator: str, earned: int, held_in: int, held_out: int, paid: int) -> None:
        self._entry("earn", creator, ("pool", ""), ("creator", creator), earned)
        self._entry("release", creator, ("held", creator), ("creator", creator), max(held_in - held_out, 0))
        self._entry("hold", creator, ("creator", creator), ("held", creator), max(held_out - held_in, 0))
        self._entry("pay", creator, ("creator", creator), ("payable", creator), paid)

    def _book(self, adjustments: list[Line]) -> None:
        for kind, debit, credit, name in (
            ("charge", "cash", "members", "pledged"),
            ("fee", "members", "fee", "fee"),
            ("fund", "members", "pool", "pooled"),
            ("charity", "members", "charity", "charity"),
            ("keep", "members", "kept", "kept"),
        ):
            self._entry(kind, "", (debit, ""), (credit, ""), self._sums[name])
        for name, kind, debit_class, debit_owner, credit_class, credit_owner, amount, cites in adjustments:
            self._entry(kind, name, (debit_class, debit_owner), (credit_class, credit_owner), amount, cites)

    def _entry(  # noqa: PLR0913, PLR0917 - the columns of an entry
        self, kind: str, owner: str, debit: tuple[str, str], credit: tuple[str, str], amount: int, cites: str = ""
    ) -> None:
        if amount:
            self._entries.append((kind, owner, *debit, *credit, amount, cites))

    # -- comparison

    def _stored(self, table: str, columns: str, order: str) -> Iterator[Line]:
        return self._warehouse.stream(
            f"SELECT {columns} FROM {table} WHERE month = %(month)s ORDER BY {order}",  # noqa: S608 - our names
            {"month": self._month},
        )

    def _compare(self, table: str, expected: Iterable[Line], found: Iterable[Line]) -> None:
        """Both are sorted by their first field, which names the line."""
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
                    self.findings.add(f"{table}: the line {_name(table, other)} is {other}, computed is {mine}")
                mine, other = next(ours, None), next(theirs, None)

    def _compare_counts(self) -> None:
        by_thing: dict[tuple[str, str], int] = {}
        rows = self._warehouse.stream(
            "SELECT member_id, creator_id, flattrs FROM counts_by_member WHERE month = %(month)s "
            "ORDER BY member_id, creator_id, position",
            {"month": self._month},
        )
        for member, creator, flattrs in rows:
            by_thing[member, creator] = flattrs
        if sum(by_thing.values()) != self._sums["flattrs"]:
            self.findings.add(
                f"counts_by_member: sums to {sum(by_thing.values())}, recounted are {self._sums['flattrs']} flattrs"
            )

    def _compare_proof(self) -> None:
        sums, proof = self._sums, self._proof
        moved: dict[str, int] = defaultdict(int)
        for _, _, debit_class, _, credit_class, _, amount, _ in self._entries:
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
            "carried_balance_micro": sums["creators_out"] + sums["members_out"],
            "held_balance_micro": sums["held_out"],
            "adjusted_micro": sums["adjusted"],
            "members": sums["members"],
            "members_unfunded": sums["unfunded"],
            "creators": sums["creators"],
            "creators_paid": sums["creators_paid"],
            "flattrs": sums["flattrs"],
            "counted": sums["counted"],
        }
        for name, number in computed.items():
            if getattr(proof, name) != number:
                self.findings.add(f"proof: {name} is {getattr(proof, name)}, computed is {number}")
        if moved["pool"]:
            self.findings.add(f"ledger: the account `pool` ends at {moved['pool']} instead of 0")
        if not proof.balanced:
            self.findings.add("proof: charged is not paid + fee + held + carried + charity")
        self._compare_hashes()

    def _compare_hashes(self) -> None:
        proof = self._proof
        for name, digest in self._digests.items():
            if proof.digests.get(name, EMPTY) != digest.hexdigest():
                self.findings.add(f"proof: the hash of {name} is not the one that was sealed")
        chain = self._warehouse.rows("SELECT month, seal, previous FROM seals ORDER BY month")
        before = ""
        for month, seal, previous in chain:
            if previous != before:
                self.findings.add(f"seals: {month_text(month)} does not follow on the seal before it")
            if month == proof.month and (seal != proof.seal or previous != proof.previous):
                self.findings.add(f"seals: the seal of {month_text(month)} is not the hash of its proof")
            before = seal


EMPTY: Final = Digest().hexdigest()
_RAW: Final = {"max_bytes_before_external_sort": 1_000_000_000}
_POOL_COLUMNS: Final = (
    "member_id, pledge_micro, fee_micro, carried_in_micro, pool_micro, counted, rule, charity_micro, kept_micro, "
    "carried_out_micro, lots_month, lots_micro, things, creators, creator_flattrs, creator_micro"
)
_PAYOUT_COLUMNS: Final = (
    "creator_id, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro, paid_micro, "
    "carried_out_micro, held_out_micro, reason, payment_id"
)
_LEDGER_COLUMNS: Final = "kind, owner, debit_class, debit_owner, credit_class, credit_owner, amount_micro, cites"


def _merged(*sources: Iterable[str]) -> list[str]:
    return sorted({name for source in sources for name in source}, key=str.encode)


def _key(line: Line) -> bytes:
    return "\0".join(str(part) for part in line[:6] if isinstance(part, str)).encode()


def _name(table: str, line: Line | None) -> str:
    parts = () if line is None else line[:6] if table == "ledger" else line[:1]
    return " ".join(str(part) for part in parts if part != "")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _payment_id(month: int, creator: str) -> str:
    return f"FL-{month}-{hashlib.sha256(f'{month}|{creator}'.encode()).hexdigest()[:24].upper()}"
