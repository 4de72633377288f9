"""What a bank says about payments: ISO 20022 pain.002, camt.053 and camt.054 as plain facts. Bytes in, facts out.

It knows neither creators nor members: which payments are ours, and what a fact is worth, is decided by who books it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, Literal

from lxml import etree

from ingest.contract.thing import CONTROL
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs.bank_xml import read_message
from warehouse.payout.money import MICRO, as_text

#: rejected: the bank did not carry the payment out. returned: it did, and the money went back. accepted: not rejected
#: so far. booked: an ordinary booking. pending: a booking that is only announced.
Kind = Literal["rejected", "returned", "accepted", "booked", "pending"]

#: Sub-families of ISO 20022's bank transaction codes: returned, and called back.
_REVERSALS: Final = frozenset({"RRTN", "RPCR"})


@dataclass(frozen=True)
class Fact:
    """One thing that a bank says about one payment, or about a whole file of payments.

    ``end_to_end_id`` is empty when the bank names no single payment. ``file_id`` is the MsgId or PmtInfId of the file
    that was sent, if the bank says it; ``is_whole_file``: this is said of every payment in it. ``amount_micro``
    (micro-units of ``currency``) is None where the bank says none. ``is_credit``: the money came to our account; a
    status report books nothing, so there it is False. ``code`` is the reason, by ISO or the bank's own; ``note`` the
    bank's own words. ``account_reference`` (AcctSvcrRef) and ``transaction_id`` (TxId) are the bank's names of the
    booking.
    """

    kind: Kind
    end_to_end_id: str
    file_id: str = ""
    amount_micro: int | None = None
    currency: str = ""
    is_credit: bool = False
    code: str = ""
    note: str = ""
    account_reference: str = ""
    transaction_id: str = ""
    said_on: date | None = None
    is_whole_file: bool = False


def read_answers(content: bytes) -> list[Fact]:
    """Everything that the file says, in its order.

    Raises ``PayoutRefused`` with a sentence for what is no valid message of a bank (``bank_xml.read_message``), and
    when the transactions of an entry are more than the entry.
    """
    version, document = read_message(content)
    node = _Node(document[0], etree.QName(document).namespace or "")
    return list(_status_report(node) if version.startswith("pain.002") else _bookings(node))


class _Node:
    """An element of a valid message, whose children are found by their names alone."""

    def __init__(self, element: etree._Element, namespace: str) -> None:
        self._element = element
        self._namespace = namespace

    def all(self, path: str) -> Iterator[_Node]:
        """Every element at the path."""
        step, _, rest = path.partition("/")
        for found in self._element.iterchildren(f"{{{self._namespace}}}{step}"):
            node = _Node(found, self._namespace)
            yield from node.all(rest) if rest else (node,)

    def first(self, path: str) -> _Node | None:
        """The first element at the path."""
        return next(self.all(path), None)

    def text(self, *paths: str) -> str:
        """The text of the first element that has any at one of the paths, in one line without control characters."""
        for path in paths:
            found = self.first(path)
            if found is not None and found.words():
                return found.words()
        return ""

    def words(self) -> str:
        """Its own text."""
        return " ".join(CONTROL.sub(" ", self._element.text or "").split())

    def day(self, *paths: str) -> date | None:
        """The date that a date or time begins with."""
        text = self.text(*paths)
        return date.fromisoformat(text[:10]) if text else None

    def money(self, path: str) -> tuple[int, str] | None:
        """An amount in micro-units, which holds its five decimals exactly, and its currency."""
        found = self.first(path)
        if found is None:
            return None
        return int(Decimal(found.words()) * MICRO), str(found._element.get("Ccy"))  # noqa: SLF001 - its own class


def _status_report(report: _Node) -> Iterator[Fact]:
    """pain.002: a status of the whole file, of a block of payments, and of single ones; each may stand alone."""
    group = report.first("OrgnlGrpInfAndSts")
    said_on = report.day("GrpHdr/CreDtTm")
    if group is None:
        return
    whole = group.text("GrpSts")
    if whole == "RJCT":
        code, note = _reason(group, "StsRsnInf")
        file_id = group.text("OrgnlMsgId")
        yield Fact("rejected", "", file_id, code=code, note=note, said_on=said_on, is_whole_file=True)
    for block in report.all("OrgnlPmtInfAndSts"):
        file_id, status = block.text("OrgnlPmtInfId"), block.text("PmtInfSts") or whole
        if block.text("PmtInfSts") == "RJCT":
            code, note = _reason(block, "StsRsnInf")
            yield Fact("rejected", "", file_id, code=code, note=note, said_on=said_on, is_whole_file=True)
        for one in block.all("TxInfAndSts"):
            code, note = _reason(one, "StsRsnInf")
            amount, currency = one.money("OrgnlTxRef/Amt/InstdAmt") or (None, "")
            kind: Kind = "rejected" if (one.text("TxSts") or status) == "RJCT" else "accepted"
            yield Fact(
                kind,
                one.text("OrgnlEndToEndId"),
                file_id,
                amount,
                currency,
                code=code,
                note=note,
                account_reference=one.text("AcctSvcrRef"),
                said_on=said_on,
            )


def _bookings(message: _Node) -> Iterator[Fact]:
    """camt.053 and camt.054: entries of the account, each with none, one or many transactions."""
    for path in ("Stmt/Ntry", "Ntfctn/Ntry"):
        for entry in message.all(path):
            yield from _entry(entry)


def _entry(entry: _Node) -> Iterator[Fact]:
    whole = entry.money("Amt") or (0, "")
    is_credit = entry.text("CdtDbtInd") == "CRDT"
    transactions = [(details, one) for details in entry.all("NtryDtls") for one in details.all("TxDtls")]
    if not transactions:
        file_id = entry.text("NtryDtls/Btch/PmtInfId", "NtryDtls/Btch/MsgId")
        yield _booking(entry, entry, whole, file_id, reference=entry.text("AcctSvcrRef"), is_credit=is_credit)
        return
    is_single = len(transactions) == 1
    amounts = [_amount(one, whole if is_single else None) for _, one in transactions]
    senses = [_is_credit(one, otherwise=is_credit) for _, one in transactions]
    _check_sum(entry, whole, amounts, [sense == is_credit for sense in senses])
    seen: Counter[str] = Counter()
    for (details, one), amount, sense in zip(transactions, amounts, senses, strict=True):
        reference = one.text("Refs/AcctSvcrRef")
        if not reference and entry.text("AcctSvcrRef"):
            # One name for many: two transactions of one payment are told apart by their order.
            seen[one.text("Refs/EndToEndId")] += 1
            count = seen[one.text("Refs/EndToEndId")]
            reference = entry.text("AcctSvcrRef") + (f"/{count}" if count > 1 else "")
        file_id = one.text("Refs/PmtInfId") or details.text("Btch/PmtInfId", "Btch/MsgId")
        yield _booking(entry, one, amount, file_id, reference=reference, is_credit=sense)


def _booking(  # noqa: PLR0913 - what a booking says
    entry: _Node, one: _Node, amount: tuple[int, str] | None, file_id: str, *, reference: str, is_credit: bool
) -> Fact:
    code, note = _reason(one, "RtrInf")
    status = entry.text("Sts/Cd", "Sts/Prtry", "Sts")
    is_return = one.first("RtrInf") is not None or _is_reversal(entry, one)
    kind: Kind = "pending" if status != "BOOK" else "returned" if is_return else "booked"
    return Fact(
        kind,
        one.text("Refs/EndToEndId"),
        file_id,
        amount[0] if amount else None,
        amount[1] if amount else "",
        is_credit,
        code,
        note,
        reference,
        one.text("Refs/TxId"),
        entry.day("BookgDt/Dt", "BookgDt/DtTm", "ValDt/Dt", "ValDt/DtTm"),
    )


def _is_reversal(entry: _Node, one: _Node) -> bool:
    said = entry.text("RvslInd") in {"true", "1"}
    return said or (one.text("BkTxCd/Domn/Fmly/SubFmlyCd") or entry.text("BkTxCd/Domn/Fmly/SubFmlyCd")) in _REVERSALS


def _is_credit(one: _Node, *, otherwise: bool) -> bool:
    sense = one.text("CdtDbtInd")
    return sense == "CRDT" if sense else otherwise


def _amount(one: _Node, of_entry: tuple[int, str] | None) -> tuple[int, str] | None:
    """A transaction's amount: the entry's when it is the only one and says none itself.

    What was instructed comes last: charges may have been taken off it.
    """
    said = one.money("Amt") or one.money("AmtDtls/TxAmt/Amt")
    return said or of_entry or one.money("AmtDtls/InstdAmt/Amt")


def _check_sum(
    entry: _Node, whole: tuple[int, str], amounts: list[tuple[int, str] | None], same_sense: list[bool]
) -> None:
    """Raise ``PayoutRefused`` when an entry's transactions are more than the entry."""
    micro, currency = whole
    pairs = [(amount, same) for amount, same in zip(amounts, same_sense, strict=True) if amount]
    net = sum(amount[0] if same else -amount[0] for amount, same in pairs if amount[1] == currency)
    if net > micro:
        name = entry.text("AcctSvcrRef", "NtryRef") or "without a reference"
        raise PayoutRefused(
            f"The transactions of the entry {name} are {as_text(net)} {currency}, but the entry is {as_text(micro)}. "
            "Nothing was imported: ask the bank for the file again."
        )


def _reason(node: _Node, path: str) -> tuple[str, str]:
    """The first reason's code, and all that the bank adds in its own words, at most 300 characters."""
    found = list(node.all(path))
    codes = (one.text("Rsn/Cd", "Rsn/Prtry") for one in found)
    notes = [line.words() for one in found for line in one.all("AddtlInf")]
    return next((code for code in codes if code), ""), " ".join(notes)[:300]
