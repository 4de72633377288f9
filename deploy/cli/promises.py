"""Compares the answers given to clients with what was counted: `flattr verify --answers`."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.proving.load.answers import read_answers
from warehouse.counts.equations import Equation, Reached, known
from warehouse.storage.archived import archived_months, refuse_archived
from warehouse.storage.client import Warehouse


def check_answers(warehouse: Warehouse, reached: Reached, folder: Path, most: int | None = None) -> Equation:
    """Check that accepted clicks (`flattr load --answers`) are in the warehouse, up to each partition's progress.

    Raises ``MonthArchived`` while there are clicks that no table has.

    ``most`` limits the check to an even sample: every n-th of the sorted click ids, which are random.
    """
    refuse_archived(warehouse, *archived_months(warehouse))
    offsets = reached.next_offsets()
    ids = set()
    for attempt in read_answers(folder):
        if attempt.status != 202:
            continue
        for receipt in json.loads(bytes(attempt.answer))["receipts"]:
            at = receipt["offset"]
            if at is not None and at < offsets[receipt["partition"]]:
                ids.add(receipt["click_id"].replace("-", ""))
    if most is not None:
        ids = set(sorted(ids)[:: max(1, len(ids) // most)])
    return Equation("clicks acknowledged = those that the warehouse knows", len(ids), len(known(warehouse, ids)))
