"""What a bank's reason means for a payout, by ISO 20022's lists of return and status reasons (``reason_codes.csv``).

Three things can follow. *Pay again*: the fault is ours, a bank's or the moment's, so the next close pays. *Renew*: the
account cannot take the money, so the creator is on hold until another one is imported. *Ask*: law, death, fraud, a
wish, or no reason; a person has to find out, and releases the hold by hand. What nobody knows is asked.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Final


class Action(StrEnum):
    """What follows from a reason."""

    PAY_AGAIN = "pay again"
    RENEW = "hold until the account is renewed"
    ASK = "ask"


_ACTIONS: Final = {"again": Action.PAY_AGAIN, "account": Action.RENEW, "ask": Action.ASK}
#: The bank has had the same before, so that what it rejects may have been paid.
DUPLICATES: Final = frozenset({"AM05", "DS15", "DU01", "DU02", "DU03", "DU04", "DU05", "DUPL"})


@dataclass(frozen=True)
class Reason:
    """A code, what follows from it, and its meaning in a few words."""

    code: str
    action: Action
    meaning: str

    def __str__(self) -> str:
        return ", ".join(part for part in (self.code, self.meaning) if part)


def reason_of(code: str) -> Reason:
    """The reason that a code stands for; of an unknown code, or none, that it is to be asked."""
    known = reasons().get(code)
    if known is not None:
        return known
    return Reason(code, Action.ASK, "a code that ISO 20022 does not list" if code else "the bank gives no reason")


@functools.cache
def reasons() -> dict[str, Reason]:
    """Every listed reason by its code."""
    lines = resources.files("warehouse.payout.inputs").joinpath("reason_codes.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row["code"]: Reason(row["code"], _ACTIONS[row["then"]], row["meaning"]) for row in rows}
