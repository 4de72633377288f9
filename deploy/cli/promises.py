"""What clients were promised, against what became of it: `flattr verify --answers`."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.proving.load.answers import read_answers
from warehouse.counts.equations import Equation, Reached, known
from warehouse.storage.client import Warehouse


def check_answers(warehouse: Warehouse, reached: Reached, folder: Path, most: int | None = None) -> Equation:
    """Compare what clients were promised (`flattr load --answers`) with what became of it, as far as it is counted.

    ``most`` looks up so many at most, evenly drawn: click ids are random, so every n-th of the sorted ones.
    """
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
