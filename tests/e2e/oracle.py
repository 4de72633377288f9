"""What the system must come to, worked out from what was sent and answered; shares no code with the system."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

POOL_MICRO = 1_800_000


@dataclass
class Oracle:
    """Keeps every click that was answered with a receipt."""

    accepted: int = 0
    keys: set[tuple[str, str, str]] = field(default_factory=set)

    def take(self, member_id: str, items: list[Any], receipts: Iterable[dict[str, Any]]) -> None:
        """Note the accepted items of one request."""
        for receipt in receipts:
            click = items[receipt["item"]]
            self.accepted += 1
            self.keys.add((member_id, click["creator_id"], click["thing"]))

    def flattrs_by_creator(self) -> Counter[str]:
        """Distinct things per creator and member, summed."""
        return Counter(creator for _, creator, _ in self.keys)

    def exact_shares(self, funded: set[str]) -> dict[str, Fraction]:
        """What each creator earns of the funded members' pools, before any rounding."""
        by_member: dict[str, Counter[str]] = defaultdict(Counter)
        for member, creator, _ in self.keys:
            if member in funded:
                by_member[member][creator] += 1
        shares: dict[str, Fraction] = defaultdict(Fraction)
        for creators in by_member.values():
            for creator, flattrs in creators.items():
                shares[creator] += Fraction(POOL_MICRO * flattrs, creators.total())
        return shares


def items_of(body: bytes, content_type: str) -> list[Any]:
    """The clicks of a request body, parsed by another parser than the service's; None for what is no JSON."""
    if content_type.endswith("ndjson"):
        return [_parsed(line) for line in body.split(b"\n")]
    parsed = _parsed(body)
    return parsed if isinstance(parsed, list) else [parsed]


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
