"""Two people before money leaves: each signs the payment order and the bank's file, to the last byte.

An operator enrols the public half of a person's Ed25519 key (RFC 8032) under the person's name; the private half stays
with the person. An export checks both signatures against the keys that are enrolled now, over the order as it is now:
whatever differs from what was signed, the approval lapses. So nobody who can write the tables, finance included, can
pay anything that two people have not seen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ingest.contract.month import month_text
from ingest.contract.names import identifier
from warehouse.payout.books.pain001 import bank_file
from warehouse.payout.books.payment_order import PaymentOrder, differences, order_of
from warehouse.payout.close.proof import Proof
from warehouse.payout.errors import PayoutRefused, refusing
from warehouse.storage.client import Warehouse, named

APPROVERS_NEEDED: Final = 2
_PUBLIC_KEY: Final = re.compile(r"[0-9a-f]{64}")
_DOMAIN: Final = b"flattr payment approval 1\n"


@dataclass(frozen=True)
class Approval:
    """A valid signature: by whom, when, and of which order."""

    approver: str
    public_key: str
    order: PaymentOrder
    file_sha256: str
    approved_at: datetime


def make_key(path: Path) -> str:
    """Write a new private key to a file that only its owner can read; the public half, hexadecimal."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(pem)
    return public_half(key)


def read_key(path: Path) -> Ed25519PrivateKey:
    """A person's private key from its PEM file. Raises ``PayoutRefused``."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise PayoutRefused(f"{path} holds no private key: {error}. Make one with `flattr approver keygen`.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise PayoutRefused(f"{path} holds no Ed25519 key. Make one with `flattr approver keygen`.")
    return key


def public_half(key: Ed25519PrivateKey) -> str:
    """The public key, 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def enrolled(warehouse: Warehouse) -> dict[str, str]:
    """Public key by name of everybody who may approve now."""
    return dict(warehouse.rows(named("payout_approvers")))


def enrol(warehouse: Warehouse, name: str, public_key: str) -> None:
    """Let a person approve from now on. Raises ``PayoutRefused`` when the name or the key is enrolled already."""
    with refusing():
        identifier("name", name)
    if _PUBLIC_KEY.fullmatch(public_key) is None:
        raise PayoutRefused("A public key is 64 hexadecimal digits, as `flattr approver keygen` prints it.")
    known = enrolled(warehouse)
    if name in known:
        raise PayoutRefused(f"{name} is enrolled already: `flattr approver withdraw {name}` first.")
    other = next((other for other, key in known.items() if key == public_key), None)
    if other is not None:
        raise PayoutRefused(f"This key is {other}'s: two people need two keys.")
    _state(warehouse, name, public_key, is_enrolled=True)


def withdraw(warehouse: Warehouse, name: str) -> None:
    """Let a person approve no longer; what they approved lapses. Raises ``PayoutRefused`` when nobody is so called."""
    known = enrolled(warehouse)
    if name not in known:
        raise PayoutRefused(f"{name} is not enrolled. Enrolled are: {', '.join(sorted(known)) or 'nobody'}.")
    _state(warehouse, name, known[name], is_enrolled=False)


def _state(warehouse: Warehouse, name: str, public_key: str, *, is_enrolled: bool) -> None:
    now = datetime.now(UTC)
    row: dict[str, Sequence[object]] = {
        "name": [name], "public_key": [public_key], "enrolled": [is_enrolled], "changed_at": [now],
    }  # fmt: skip
    warehouse.insert("approvers", row)


def approve(warehouse: Warehouse, order: PaymentOrder, name: str, key: Ed25519PrivateKey) -> list[str]:
    """Sign an order and the file that comes of it; the names of all who have approved the very same.

    Raises ``PayoutRefused`` when the key is not the one that is enrolled under the name.
    """
    if enrolled(warehouse).get(name) != public_half(key):
        raise PayoutRefused(
            f"This key is not enrolled as {name}'s: an operator enrols its public half with "
            f"`flattr approver enrol {name} {public_half(key)}`."
        )
    file_sha256 = hashlib.sha256(bank_file(order)).hexdigest()
    warehouse.insert(
        "payment_approvals",
        {
            "month": [order.month],
            "seal": [order.seal],
            "order_sha256": [order.sha256],
            "payment_order": [order.text()],
            "file_sha256": [file_sha256],
            "approver": [name],
            "public_key": [public_half(key)],
            "signature": [key.sign(_signed(order.sha256, file_sha256)).hex()],
            "approved_at": [datetime.now(UTC)],
        },
    )
    return sorted({one.approver for one in approvals(warehouse, order.month) if one.order == order})


def approvals(warehouse: Warehouse, month: int) -> list[Approval]:
    """Every approval of a month that holds: signed by a key that is enrolled now under that name. Oldest first."""
    known = enrolled(warehouse)
    found = []
    for name, public_key, text, file_sha256, signature, at in warehouse.rows(
        named("payout_payment_approvals"), {"month": month}
    ):
        order_sha256 = hashlib.sha256(text.encode()).hexdigest()
        if known.get(name) == public_key and _verifies(public_key, signature, _signed(order_sha256, file_sha256)):
            found.append(Approval(name, public_key, PaymentOrder.read(text), file_sha256, at))
    return found


def approved_file(warehouse: Warehouse, proof: Proof, today: date) -> bytes:
    """The bank's file of a closed month, as two people have signed it; of several such orders the newest.

    Raises ``PayoutRefused`` while fewer than two people have approved what would be sent now; the sentence names them,
    and what has changed since. Also when the approved day is over: the bank would pay on a day that nobody approved.
    """
    month = month_text(proof.month)
    given = approvals(warehouse, proof.month)
    if not given:
        raise PayoutRefused(
            f"{month} is approved by nobody: payments need {APPROVERS_NEEDED} people, each with `flattr month approve "
            f"{month}`."
        )
    refusals = []
    # Of every order that somebody approved: one person's later approval of another one must not undo two people's.
    for terms in dict.fromkeys(one.order.terms for one in reversed(given)):
        current = order_of(warehouse, proof, terms)
        file = bank_file(current)
        file_sha256 = hashlib.sha256(file).hexdigest()
        names = {one.approver for one in given if one.order == current and one.file_sha256 == file_sha256}
        if len(names) >= APPROVERS_NEEDED:
            _check_day(current, today)
            return file
        refusals.append((current, names))
    current, names = refusals[0]
    lapsed = [sentence for one in given if one.order != current for sentence in differences(one.order, current)]
    changed = f" Approvals lapsed, for these have changed: {'; '.join(dict.fromkeys(lapsed))}." if lapsed else ""
    who = " and ".join(sorted(names)) or "nobody"
    raise PayoutRefused(
        f"The payments of {month} as they are now are approved by {who}: they need {APPROVERS_NEEDED} people.{changed}"
    )


def _check_day(order: PaymentOrder, today: date) -> None:
    if order.terms.execute_on < today:
        raise PayoutRefused(
            f"The payments of {month_text(order.month)} were approved for {order.terms.execute_on}, which is over. If "
            "the bank has the file, there is nothing to do; if not, two people approve another day."
        )


def _signed(order_sha256: str, file_sha256: str) -> bytes:
    return _DOMAIN + f"{order_sha256}\n{file_sha256}\n".encode()


def _verifies(public_key: str, signature: str, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True
