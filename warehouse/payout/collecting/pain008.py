"""The bank's file of debits (ISO 20022 pain.008, SEPA core), checked against its schema. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from sepaxml import SepaDD

from ingest.contract.month import month_text
from warehouse.payout.bank_schema import check_schema
from warehouse.payout.close.settings import DebitScheme
from warehouse.payout.collecting.mandates import Mandate

#: FRST: the first debit by a mandate. RCUR: a later one.
SequenceType = Literal["FRST", "RCUR"]


@dataclass(frozen=True)
class Creditor:
    """Who collects: the name and account that the bank knows, and the creditor identifier (AT-02)."""

    name: str
    iban: str
    bic: str
    creditor_id: str


@dataclass(frozen=True)
class Debit:
    """One direct debit; ``amount_minor`` is in cents. ``end_to_end_id`` is how the bank answers."""

    month: int
    end_to_end_id: str
    amount_minor: int
    mandate: Mandate
    sequence: SequenceType


@dataclass(frozen=True)
class Header:
    """What all debits of a file share. ``made_at`` is in UTC."""

    message_id: str
    made_at: datetime
    creditor: Creditor
    scheme: DebitScheme
    collect_on: date


def block_id(message_id: str, sequence: str) -> str:
    """The PmtInfId of a file's debits of one sequence type."""
    return f"{message_id}-{sequence}"


def debit_file(header: Header, debits: Sequence[Debit]) -> bytes:
    """The file: the same bytes for the same values."""
    creditor = header.creditor
    config = {"name": creditor.name, "IBAN": creditor.iban, "creditor_id": creditor.creditor_id}
    if creditor.bic:
        config["BIC"] = creditor.bic
    file = SepaDD({**config, "batch": True, "currency": "EUR"}, schema=header.scheme)
    for debit in debits:
        mandate = debit.mandate
        file.add_payment(
            {
                "name": mandate.name,
                "IBAN": mandate.iban,
                **({"BIC": mandate.bic} if mandate.bic else {}),
                "amount": debit.amount_minor,
                "type": debit.sequence,
                "collection_date": header.collect_on,
                "mandate_id": mandate.mandate_id,
                "mandate_date": mandate.signed_on,
                "description": f"Flattr {month_text(debit.month)} {debit.end_to_end_id}",
                "endtoend_id": debit.end_to_end_id,
            }
        )
    xml = _repeatable(file.export(validate=False), header.message_id, header.made_at)
    check_schema(xml, header.scheme)
    return xml


def _repeatable(xml: bytes, message_id: str, made_at: datetime) -> bytes:
    """Put our own ids and time in place of the library's random ones."""
    for tag, text in {"MsgId": message_id, "CreDtTm": f"{made_at:%Y-%m-%dT%H:%M:%S}"}.items():
        xml = re.sub(f"<{tag}>[^<]*</{tag}>".encode(), f"<{tag}>{text}</{tag}>".encode(), xml)

    def named(block: re.Match[bytes]) -> bytes:
        name = block_id(message_id, block["sequence"].decode()).encode()
        return b"<PmtInfId>" + name + b"</PmtInfId>" + block["between"] + block["sequence"]

    return re.sub(
        rb"<PmtInfId>[^<]*</PmtInfId>(?P<between>(?:(?!<PmtInfId>).)*?<SeqTp>)(?P<sequence>[A-Z]{4})",
        named,
        xml,
        flags=re.DOTALL,
    )
