"""Exports of a closed month: payouts as CSV and Parquet, payments as SEPA credit transfers (pain.001).

Every export gives the same bytes for the same closed month. Payments need approval, and their lines are checked
against the sealed digest first.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sepaxml import SepaTransfer
from sepaxml.validation import try_valid_xml

from ingest.contract.month import month_text
from warehouse.payout.books.approval import check_approved
from warehouse.payout.close.proof import Proof
from warehouse.payout.closed_months import Payout, all_payouts
from warehouse.payout.digest import Digest, text_line
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.creators import Creator, read_register
from warehouse.storage.client import Warehouse

_PAIN = "pain.001.001.03"
_SHOWN_MAX = 10
_PARQUET_TYPES = {"str": pa.string(), "int": pa.int64()}


@dataclass(frozen=True)
class Debtor:
    """The paying account and its holder."""

    name: str
    iban: str
    bic: str


def csv_text(lines: Iterable[Payout]) -> Iterator[str]:
    """The payouts as CSV, one string per line, header first; money in micro-units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Payout)])
    for line in lines:
        writer.writerow(astuple(line))
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def write_parquet(lines: Iterable[Payout], path: Path) -> None:
    """Write the payouts as a Parquet file with the columns of the CSV; numbers are int64, money in micro-units."""
    schema = pa.schema([(field.name, _PARQUET_TYPES[str(field.type)]) for field in fields(Payout)])
    rows = [astuple(line) for line in lines]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema]
    pq.write_table(pa.table(columns, schema=schema), path, compression="zstd")


def pain001(warehouse: Warehouse, proof: Proof, debtor: Debtor, execute_on: date, *, draft: bool = False) -> bytes:
    """The payments of a closed month as SEPA credit transfers (pain.001.001.03), validated against the XSD.

    ``EndToEndId`` is the payment id, by which a bank can recognise a payment sent twice. Raises ``PayoutRefused``
    without approval (unless ``draft``), when a line differs from what was sealed, and when a payee has no account in
    the register.
    """
    if proof.currency != "EUR":
        raise PayoutRefused(f"SEPA transfers are in EUR, but this month is in {proof.currency}: export CSV instead.")
    if not draft:
        check_approved(warehouse, proof)
    lines = list(_as_sealed(warehouse, proof))
    payments = [line for line in lines if line.paid_micro]
    if not payments:
        raise PayoutRefused(f"{month_text(proof.month)} has no payments, so there is nothing to transfer.")
    payees = _payees(warehouse, payments)
    transfer = SepaTransfer(
        {"name": debtor.name, "IBAN": debtor.iban, "BIC": debtor.bic, "batch": True, "currency": "EUR"}, schema=_PAIN
    )
    cent_micro = int(proof.rules["minor_micro"])
    for line in payments:
        payee = payees[line.creator_id]
        transfer.add_payment(
            {
                "name": payee.name,
                "IBAN": payee.iban,
                **({"BIC": payee.bic} if payee.bic else {}),
                "amount": line.paid_micro // cent_micro,
                "execution_date": execute_on,
                "description": f"Flattr {month_text(line.month)} {line.payment_id}",
                "endtoend_id": line.payment_id,
            }
        )
    return _repeatable(transfer.export(validate=False), proof, execute_on)


def _repeatable(xml: bytes, proof: Proof, execute_on: date) -> bytes:
    """Replace the library's random ids and time by ones from the seal and date, then validate against the XSD."""
    name = f"FL-{proof.month}-{proof.seal[:20].upper()}"
    for tag, text in {"MsgId": name, "PmtInfId": name, "CreDtTm": f"{execute_on}T00:00:00"}.items():
        xml = re.sub(f"<{tag}>[^<]*</{tag}>".encode(), f"<{tag}>{text}</{tag}>".encode(), xml)
    try_valid_xml(xml, _PAIN)
    return xml


def _as_sealed(warehouse: Warehouse, proof: Proof) -> Iterator[Payout]:
    """Yield the payout lines; at the end, raise ``PayoutRefused`` if their digest is not the sealed one."""
    digest = Digest()
    for line in all_payouts(warehouse, proof.month):
        values = [value for field, value in zip(fields(line), astuple(line), strict=True) if field.name != "currency"]
        digest.add(text_line(values[1:]))
        yield line
    if digest.hexdigest() != proof.digests.get("payouts", Digest().hexdigest()):
        month = month_text(proof.month)
        raise PayoutRefused(
            f"The payouts of {month} differ from what was sealed; nothing was exported. "
            f"`flattr month verify {month}` names the lines."
        )


def _payees(warehouse: Warehouse, payments: list[Payout]) -> dict[str, Creator]:
    register = read_register(warehouse, [line.creator_id for line in payments])
    missing = [line.creator_id for line in payments if not register.get(line.creator_id, Creator("")).iban]
    if missing:
        more = f" and {len(missing) - _SHOWN_MAX} more" if len(missing) > _SHOWN_MAX else ""
        raise PayoutRefused(
            f"No bank account is known for {', '.join(missing[:_SHOWN_MAX])}{more}: "
            "import them with `flattr creators import`."
        )
    return register
