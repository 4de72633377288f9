"""A second implementation of the close, in plain Python, which recomputes a closed month from raw rows.

It reads unmerged flattrs, versioned pledges and earlier ledger entries, and merges, counts, divides and books them
with dictionaries and integers. It shares no SQL with the close, so that both are unlikely to have the same error.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from ingest.contract.month import month_before
from warehouse.payout.audit.left_out import LeftOut
from warehouse.payout.close.proof import Proof
from warehouse.payout.digest import Digest, text_line
from warehouse.payout.money import fee as fee_of
from warehouse.payout.split import split
from warehouse.storage.client import Warehouse

NEVER: Final = (1 << 64) - 1
UNDO: Final = 1 << 19
#: Sorting a month of raw rows spills to disk beyond a gigabyte of the warehouse's memory.
SORT_SPILLS: Final = {"max_bytes_before_external_sort": 1_000_000_000}

Line = tuple[Any, ...]


class Recomputed:
    """The month's lines. Consume ``pools``, ``payouts`` and ``entries`` in this order: each needs the one before.

    ``sums`` has the totals by name once all have been consumed; money is in micro-units.
    """

    def __init__(self, warehouse: Warehouse, proof: Proof) -> None:
        self.sums: dict[str, int] = defaultdict(int)
        self.left_out = LeftOut(warehouse, proof.month, proof.snapshot)
        self.digests = {
            "pledges": Digest(),
            "adjustments": Digest(),
            "quarantined": self.left_out.digest,
            "quarantine_log": self.left_out.log_digest,
        }
        self._warehouse = warehouse
        self._proof = proof
        self._month = proof.month
        self._rules: Mapping[str, Any] = proof.rules
        self._earned: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._entries: list[Line] = []
        self._adjustments = self._read_adjustments()

    def pools(self) -> Iterator[Line]:
        """Yield every member's line by name, dividing the pools."""
        pledges = self._pledges()
        lots = self._lots()
        ballots = self._ballots()
        ballot = next(ballots, None)
        for member in _merged(pledges, lots, self._members()):
            while ballot is not None and ballot[0] < member:
                ballot = next(ballots, None)
            own = ballot[1:] if ballot is not None and ballot[0] == member else (0, 0, {})
            # A member whose flattrs are all left out has a line only if there is money.
            if own[0] or member in pledges or member in lots:
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
        retained_lots = []
        if rule == "carry":
            born = [*lots, (self._month, pledge - fee)]
            retained_lots = [lot for lot in born if lot[1] and self._age(lot[0]) < self._rules["noclick_expiry_months"]]
        carried_out = sum(micro for _, micro in retained_lots)
        charity = pool if rule == "charity" else pool - carried_out if rule == "carry" else 0
        retained = pool if rule == "keep" else 0
        shares = split(pool, flattrs, month=self._month, member_id=member)
        creators = sorted(flattrs, key=str.encode)
        for creator in creators:
            line = self._earned[creator]
            line[0] += 1
            line[1] += flattrs[creator]
            line[2] += shares[creator]
        total = sum(flattrs.values())
        for name, amount in {
            "pledged": pledge, "fee": fee, "charity": charity, "kept": retained, "counted": counted, "flattrs": total,
            "pooled": pool if rule == "split" else 0, "members_in": carried_in, "members_out": carried_out,
            "members": 1, "unfunded": rule == "unfunded",
        }.items():  # fmt: skip
            self.sums[name] += amount
        return (
            member, pledge, fee, carried_in, pool, counted, rule, charity, retained, carried_out,
            [origin for origin, _ in retained_lots], [micro for _, micro in retained_lots], things,
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
            SORT_SPILLS,
        )
        for member, own in groupby(rows, key=lambda row: row[0]):
            merged: dict[tuple[str, str], tuple[int, int]] = {}
            for _, creator, thing, first, version in own:
                before = merged.get((creator, thing), (NEVER, 0))
                merged[creator, thing] = (min(first, before[0]), max(version, before[1]))
            counted = [
                (key, version)
                for key, (first, version) in merged.items()
                if not self._is_left_out(member, *key, first, version) and first != NEVER
            ]
            active = [key for key, version in counted if not version & UNDO]
            flattrs: dict[str, int] = defaultdict(int)
            for creator, _ in active:
                flattrs[creator] += 1
            things = sum(int.from_bytes(bytes.fromhex(thing), "little") for _, thing in active) % (1 << 128)
            if counted:
                yield member, len(counted), things, dict(flattrs)

    def _is_left_out(self, member: str, creator: str, thing: str, first: int, version: int) -> bool:
        covered = self.left_out.covers(member, creator, thing)
        if covered and first != NEVER:
            self.sums["counted_left_out"] += 1
            self.sums["quarantined"] += not version & UNDO
        return covered

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
            self.digests["pledges"].add(text_line((member, amount, paid)))
        # An amount of 0 takes a pledge back: the hash covers it, and the member has no line for it.
        return {member: amount if paid else 0 for member, (amount, paid) in newest.items() if amount}

    def _lots(self) -> dict[str, list[tuple[int, int]]]:
        rows = self._warehouse.rows(
            "SELECT member_id, lots_month, lots_micro FROM pools WHERE month = %(month)s AND notEmpty(lots_month)",
            {"month": month_before(self._month)},
        )
        return {member: list(zip(origins, micros, strict=True)) for member, origins, micros in rows}

    def _read_adjustments(self) -> list[Line]:
        before, last = (self._proof.snapshot.get(f"adjustments_{name}", 0) for name in ("before", "version"))
        listed = set(self._proof.adjustments)
        rows = [
            tuple(row)
            for version, *row in self._warehouse.rows(
                "SELECT version, id, kind, debit_class, debit_owner, credit_class, credit_owner, amount_micro, cites "
                "FROM adjustments"
            )
            # Until 0.2 proofs named versions.
            if row[0] in listed or before < version <= last
        ]
        for row in rows:
            self.digests["adjustments"].add(text_line(row))
        return rows

    def payouts(self) -> Iterator[Line]:
        """Yield every creator's line by name, booking it."""
        opening = self._opening()
        adjusted: dict[str, int] = defaultdict(int)
        for _, _, debit_class, debit_owner, credit_class, credit_owner, amount, _ in self._adjustments:
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
                    self.sums[name] += amount
                self._book_creator(creator, earned, held_in, held_out, paid)
                yield (
                    creator, members, flattrs, earned, carried_in, held_in, adjusted[creator],
                    paid, carried_out, held_out, reason, payment,
                )  # fmt: skip

    def _decide(self, due: int, *, claimed: bool, held: bool) -> tuple[str, int, int]:
        """The reason, the amount paid and the amount held."""
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

    def _book_creator(self, creator: str, earned: int, held_in: int, held_out: int, paid: int) -> None:
        self._entry("earn", creator, ("pool", ""), ("creator", creator), earned)
        self._entry("release", creator, ("held", creator), ("creator", creator), max(held_in - held_out, 0))
        self._entry("hold", creator, ("creator", creator), ("held", creator), max(held_out - held_in, 0))
        self._entry("pay", creator, ("creator", creator), ("payable", creator), paid)

    def entries(self) -> list[Line]:
        """The ledger entries, sorted."""
        for kind, debit, credit, name in (
            ("charge", "cash", "members", "pledged"),
            ("fee", "members", "fee", "fee"),
            ("fund", "members", "pool", "pooled"),
            ("charity", "members", "charity", "charity"),
            ("keep", "members", "kept", "kept"),
        ):
            self._entry(kind, "", (debit, ""), (credit, ""), self.sums[name])
        for name, kind, debit_class, debit_owner, credit_class, credit_owner, amount, cites in self._adjustments:
            self._entry(kind, name, (debit_class, debit_owner), (credit_class, credit_owner), amount, cites)
        return sorted(self._entries)

    def _entry(  # noqa: PLR0913, PLR0917 - the columns of an entry
        self, kind: str, owner: str, debit: tuple[str, str], credit: tuple[str, str], amount: int, cites: str = ""
    ) -> None:
        if amount:
            self._entries.append((kind, owner, *debit, *credit, amount, cites))


def _merged(*sources: Iterable[str]) -> list[str]:
    return sorted({name for source in sources for name in source}, key=str.encode)


def _payment_id(month: int, creator: str) -> str:
    return f"FL-{month}-{hashlib.sha256(f'{month}|{creator}'.encode()).hexdigest()[:24].upper()}"
