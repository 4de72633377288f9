"""Recomputes closed months from the pledges file and the log, and checks that no money is missing."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clickhouse_driver import Client

from deploy.proving.oracle.model import Expected
from deploy.proving.oracle.verdict import Mismatch, Wrong

MICRO: Final = 1_000_000


@dataclass(frozen=True)
class Rules:
    """The rules of the run."""

    fee_percent: int = 10
    minimum_micro: int = 10 * MICRO
    cent_micro: int = 10_000


def read_pledges(path: Path) -> dict[tuple[int, str], int]:
    """Read what each member paid for each month, in micro-euro; unpaid pledges are left out."""
    with path.open(newline="") as file:
        return {
            (int(row["month"].replace("-", "")), row["member_id"]): round(float(row["amount"]) * 100) * 10_000
            for row in csv.DictReader(file)
            if row["paid"] == "true"
        }


def sealed_months(warehouse_url: str) -> list[int]:
    """The closed months, in order."""
    return [month for (month,) in _rows(warehouse_url, "SELECT DISTINCT month FROM seals ORDER BY month")]


def check_money(
    warehouse_url: str, months: list[int], pledges: Mapping[tuple[int, str], int], expected: Expected, rules: Rules
) -> list[Mismatch]:
    """Check every closed month, in order: shares, payouts, carries and totals."""
    problems: list[Mismatch] = []
    carried: dict[str, int] = {}
    for month in months:
        paid_in = {member: amount for (of, member), amount in pledges.items() if of == month}
        shares = _rows(
            warehouse_url,
            "SELECT member_id, creator_id, flattrs, share_micro FROM shares WHERE month = %(month)s",
            month,
        )
        problems += _check_shares(month, paid_in, shares, expected, rules)
        payouts = {
            creator: values
            for creator, *values in _rows(
                warehouse_url,
                "SELECT creator_id, earned_micro, carried_in_micro, paid_micro, carried_out_micro "
                "FROM payouts WHERE month = %(month)s",
                month,
            )
        }
        problems += _check_payouts(month, shares, payouts, carried, rules)
        problems += _check_whole(warehouse_url, month, paid_in, payouts, rules)
        carried = {creator: values[3] for creator, values in payouts.items()}
    return problems


def _check_shares(
    month: int, paid_in: Mapping[str, int], shares: list[tuple[str, str, int, int]], expected: Expected, rules: Rules
) -> list[Mismatch]:
    ballots: dict[str, Counter[str]] = defaultdict(Counter)
    for key in expected.active():
        if key[0] == month:
            ballots[key[1]][expected.creators[key]] += 1
    stated: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for member, creator, flattrs, share in shares:
        stated[member][creator] = (flattrs, share)
    problems = []
    for member in ballots.keys() | stated.keys():
        ballot, lines = ballots[member], stated[member]
        pledge = paid_in.get(member, 0)
        pool = pledge - pledge * rules.fee_percent // 100
        if {creator: flattrs for creator, (flattrs, _) in lines.items()} != dict(ballot):
            problems.append(_money(f"{month}: {member} flattred {dict(ballot)}, but the shares are {lines}"))
        elif sum(share for _, share in lines.values()) != pool:
            problems.append(_money(f"{month}: the shares of {member} do not add up to {pool}"))
        elif any(
            abs(share * ballot.total() - pool * ballot[creator]) >= ballot.total()
            for creator, (_, share) in lines.items()
        ):
            problems.append(_money(f"{month}: a share of {member} is wrong by a micro-euro or more: {lines}"))
    return problems


def _check_payouts(
    month: int,
    shares: list[tuple[str, str, int, int]],
    payouts: Mapping[str, list[int]],
    carried: Mapping[str, int],
    rules: Rules,
) -> list[Mismatch]:
    earned: Counter[str] = Counter()
    for _, creator, _, share in shares:
        earned[creator] += share
    problems = []
    for creator in earned.keys() | payouts.keys() | carried.keys():
        due = earned[creator] + carried.get(creator, 0)
        paid = due // rules.cent_micro * rules.cent_micro if due >= rules.minimum_micro else 0
        want = [earned[creator], carried.get(creator, 0), paid, due - paid]
        said = payouts.get(creator, [0, 0, 0, 0])
        if want != said:
            problems.append(
                _money(f"{month}: {creator}'s earned, carried in, paid, carried out should be {want}, but are {said}")
            )
    return problems


def _check_whole(
    warehouse_url: str, month: int, paid_in: Mapping[str, int], payouts: Mapping[str, list[int]], rules: Rules
) -> list[Mismatch]:
    ledger = dict(
        _rows(warehouse_url, "SELECT kind, sum(amount_micro) FROM ledger WHERE month = %(month)s GROUP BY kind", month)
    )
    ((charity,),) = _rows(warehouse_url, "SELECT sum(charity_micro) FROM pools WHERE month = %(month)s", month)
    charged = sum(paid_in.values())
    fee = sum(amount * rules.fee_percent // 100 for amount in paid_in.values())
    paid = sum(values[2] for values in payouts.values())
    carried_more = sum(values[3] - values[1] for values in payouts.values())
    problems = []
    if charged != fee + charity + paid + carried_more:
        problems.append(
            _money(f"{month}: charged {charged}, fee {fee}, charity {charity}, paid {paid}, carried {carried_more}")
        )
    for kind, amount in (("charge", charged), ("fee", fee), ("pay", paid), ("charity", charity)):
        if ledger.get(kind, 0) != amount:
            problems.append(_money(f"{month}: the ledger's {kind} is {ledger.get(kind, 0)}, not {amount}"))
    return problems


def _money(text: str) -> Mismatch:
    return Mismatch(Wrong.MONEY, text)


def _rows(warehouse_url: str, sql: str, month: int = 0) -> list[tuple[Any, ...]]:
    client = Client.from_url(warehouse_url)
    try:
        return list(client.execute(sql, {"month": month}))
    finally:
        client.disconnect()
