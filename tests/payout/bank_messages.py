"""What banks answer, written from a few words: pain.002, camt.053 and camt.054 in their two versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape

ISO: Final = "urn:iso:std:iso:20022:tech:xsd:"
STATUS_REPORTS: Final = ("pain.002.001.03", "pain.002.001.10")
BOOKINGS: Final = ("camt.053.001.02", "camt.053.001.08", "camt.054.001.02", "camt.054.001.08")
Sense = Literal["CRDT", "DBIT"]


@dataclass(frozen=True)
class Status:
    """A payment's line of a status report."""

    end_to_end_id: str
    status: str = "RJCT"
    code: str = ""
    amount: str = ""
    note: str = ""
    currency: str = "EUR"


@dataclass(frozen=True)
class Transaction:
    """A transaction of an entry. Without ``code`` it is no return, with "-" a return without a reason."""

    end_to_end_id: str = ""
    amount: str = ""
    code: str = ""
    reference: str = ""
    transaction_id: str = ""
    sense: Sense | Literal[""] = ""
    note: str = ""
    currency: str = "EUR"


@dataclass(frozen=True)
class Entry:
    """An entry of an account."""

    amount: str
    transactions: Sequence[Transaction] = ()
    reference: str = ""
    sense: Sense = "CRDT"
    status: str = "BOOK"
    reversal: bool = False
    day: str = "2026-12-07"
    family: str = ""
    batch: str = ""
    currency: str = "EUR"


def tag(name: str, content: str, attributes: str = "") -> str:
    """An element, or nothing without content."""
    return f"<{name}{attributes}>{content}</{name}>" if content else ""


def status_report(  # noqa: PLR0913 - what a report says
    version: str, file_id: str, transactions: Sequence[Status] = (), *, group: str = "", block: str = "", code: str = ""
) -> bytes:
    """pain.002; ``code`` is the reason of the whole file or block, whichever has a status."""
    reason = tag("StsRsnInf", tag("Rsn", tag("Cd", code)))
    lines = "".join(_status(one) for one in transactions)
    blocks = tag(
        "OrgnlPmtInfAndSts",
        tag("OrgnlPmtInfId", file_id) + tag("PmtInfSts", block) + (reason if block else "") + lines,
    )
    return _document(
        version,
        tag(
            "CstmrPmtStsRpt",
            tag("GrpHdr", tag("MsgId", "BANK-1") + tag("CreDtTm", "2026-12-03T08:30:00"))
            + tag(
                "OrgnlGrpInfAndSts",
                tag("OrgnlMsgId", file_id)
                + tag("OrgnlMsgNmId", "pain.001.001.09")
                + tag("GrpSts", group)
                + (reason if group else ""),
            )
            + (blocks if block or transactions else ""),
        ),
    )


def _status(one: Status) -> str:
    money = tag("OrgnlTxRef", tag("Amt", tag("InstdAmt", one.amount, f' Ccy="{one.currency}"')))
    return tag(
        "TxInfAndSts",
        tag("OrgnlEndToEndId", escape(one.end_to_end_id))
        + tag("TxSts", one.status)
        + tag("StsRsnInf", tag("Rsn", tag("Cd", one.code)) + tag("AddtlInf", escape(one.note)))
        + money,
    )


def bookings(version: str, entries: Sequence[Entry]) -> bytes:
    """camt.053 or camt.054."""
    message, report = (
        ("BkToCstmrStmt", "Stmt") if version.startswith("camt.053") else ("BkToCstmrDbtCdtNtfctn", "Ntfctn")
    )
    balance = tag(
        "Bal",
        tag("Tp", tag("CdOrPrtry", tag("Cd", "CLBD")))
        + '<Amt Ccy="EUR">1000.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>2026-12-07</Dt></Dt>',
    )
    return _document(
        version,
        tag(
            message,
            tag("GrpHdr", tag("MsgId", "BANK-2") + tag("CreDtTm", "2026-12-07T22:00:00+01:00"))
            + tag(
                report,
                tag("Id", "S-1")
                + tag("CreDtTm", "2026-12-07T22:00:00+01:00")
                + tag("Acct", tag("Id", tag("IBAN", "DE89370400440532013000")))
                + (balance if report == "Stmt" else "")
                + "".join(_entry(version, entry) for entry in entries),
            ),
        ),
    )


def _entry(version: str, entry: Entry) -> str:
    family = tag("Fmly", tag("Cd", "ICDT") + tag("SubFmlyCd", entry.family)) if entry.family else ""
    batch = tag("Btch", tag("PmtInfId", entry.batch))
    details = batch + "".join(_transaction(version, one) for one in entry.transactions)
    return tag(
        "Ntry",
        tag("Amt", entry.amount, f' Ccy="{entry.currency}"')
        + tag("CdtDbtInd", entry.sense)
        + tag("RvslInd", "true" if entry.reversal else "")
        + tag("Sts", entry.status if version.endswith("02") else tag("Cd", entry.status))
        + tag("BookgDt", tag("Dt", entry.day))
        + tag("AcctSvcrRef", entry.reference)
        + tag("BkTxCd", tag("Domn", tag("Cd", "PMNT") + family) if family else "<Prtry><Cd>NTRF+159</Cd></Prtry>")
        + tag("NtryDtls", details),
    )


def _transaction(version: str, one: Transaction) -> str:
    money = tag("Amt", one.amount, f' Ccy="{one.currency}"')
    old = version.endswith("02")
    refs = tag(
        "Refs",
        tag("AcctSvcrRef", one.reference)
        + tag("EndToEndId", escape(one.end_to_end_id))
        + tag("TxId", one.transaction_id),
    )
    reason = "" if one.code == "-" else tag("Rsn", tag("Cd", one.code))
    parties = (
        "<RltdPties><Cdtr><Nm>Ada</Nm></Cdtr></RltdPties>" if old else "<RltdPties><Cdtr><Pty/></Cdtr></RltdPties>"
    )
    returned = f"<RtrInf>{reason}{tag('AddtlInf', escape(one.note))}</RtrInf>" if one.code else ""
    details = tag("AmtDtls", tag("TxAmt", money)) if old else money + tag("CdtDbtInd", one.sense)
    return tag("TxDtls", refs + details + parties + returned)


def _document(version: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{ISO}{version}">{content}</Document>'.encode()
