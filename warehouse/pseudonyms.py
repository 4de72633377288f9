"""Who was erased, for those who read ids from outside the warehouse: see erasure.py."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from warehouse.storage.client import Warehouse

if TYPE_CHECKING:
    from warehouse.payout.inputs.pledges import Pledge


def member_sha256(member_id: str) -> str:
    """The hash under which the list knows a member, hexadecimal."""
    return hashlib.sha256(member_id.encode()).hexdigest()


def under_pseudonyms(warehouse: Warehouse, pledges: Sequence[Pledge]) -> list[Pledge]:
    """Pledges with the names of erased members replaced: a file made before the erasure must not bring them back."""
    listed = warehouse.rows("SELECT member_sha256, pseudonym, open_from FROM erasures")
    if not listed:
        return list(pledges)
    names = {sha256: (pseudonym, open_from) for sha256, pseudonym, open_from in listed}
    renamed = []
    for pledge in pledges:
        pseudonym, open_from = names.get(member_sha256(pledge.member_id), ("", 0))
        known = pseudonym and pledge.month >= open_from
        renamed.append(replace(pledge, member_id=pseudonym) if known else pledge)
    return renamed
