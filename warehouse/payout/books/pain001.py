"""The bank's file: a payment order as SEPA credit transfers (ISO 20022 pain.001), checked against its schema."""

from __future__ import annotations

import re

from sepaxml import SepaTransfer

from ingest.contract.month import month_text
from warehouse.payout.bank_schema import check_schema
from warehouse.payout.books.payment_order import PaymentOrder


def bank_file(order: PaymentOrder) -> bytes:
    """The file of an order: the same bytes for the same order.

    ``EndToEndId`` is the payment id, so a repeated file pays nobody twice at a bank that looks.
    """
    debtor, on = order.terms.debtor, order.terms.execute_on
    account = {"name": debtor.name, "IBAN": debtor.iban, "batch": True, "currency": "EUR"}
    # In SEPA the account names its bank; an empty BIC is none, and no file of the schema.
    bank = {"BIC": debtor.bic} if debtor.bic else {}
    transfer = SepaTransfer({**account, **bank}, schema=order.terms.scheme)
    for payment in order.payments:
        transfer.add_payment(
            {
                "name": payment.name,
                "IBAN": payment.iban,
                **({"BIC": payment.bic} if payment.bic else {}),
                "amount": payment.amount_minor,
                "execution_date": on,
                "description": f"Flattr {month_text(order.month)} {payment.payment_id}",
                "endtoend_id": payment.payment_id,
            }
        )
    return _repeatable(transfer.export(validate=False), order)


def file_name(order: PaymentOrder) -> str:
    """How the bank calls an order's file, and its only block of payments, when it answers: MsgId and PmtInfId."""
    return f"FL-{order.month}-{order.sha256[:20].upper()}"


def _repeatable(xml: bytes, order: PaymentOrder) -> bytes:
    """Put the order's own ids and time in place of the library's random ones, then check against the schema."""
    name = file_name(order)
    for tag, text in {"MsgId": name, "PmtInfId": name, "CreDtTm": f"{order.terms.execute_on}T00:00:00"}.items():
        xml = re.sub(f"<{tag}>[^<]*</{tag}>".encode(), f"<{tag}>{text}</{tag}>".encode(), xml)
    check_schema(xml, order.terms.scheme)
    return xml
