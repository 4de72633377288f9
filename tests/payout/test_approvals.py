"""One person of finance alone moves no cent: what two people signed is what the bank gets, to the last byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.conftest import Migrated
from tests.payout.build import clock_after, closing, drained
from tests.payout.test_close import close
from tests.payout.test_finance import ALL_REGISTERED, NOVEMBER, TERMS, register
from warehouse.payout.books import approval
from warehouse.payout.books.approval import approve, approved_file, enrol, public_half, withdraw
from warehouse.payout.books.pain001 import bank_file
from warehouse.payout.books.payment_order import Terms, changed_accounts, order_of
from warehouse.payout.close.close import close_month
from warehouse.payout.close.proof import Proof, stored
from warehouse.payout.errors import PayoutRefused
from warehouse.payout.inputs import creators
from warehouse.storage.client import Warehouse

EVE, FAY, MAL = (Ed25519PrivateKey.generate() for _ in range(3))


def signed(warehouse: Warehouse, proof: Proof, *people: str, terms: Terms = TERMS) -> None:
    for name in people:
        approve(warehouse, order_of(warehouse, proof, terms), name, {"eve": EVE, "fay": FAY}[name])


TODAY = date(2026, 12, 1)


@pytest.fixture
def warehouse(novembers: Migrated) -> Iterator[Warehouse]:
    with novembers("test") as database:
        yield database


@pytest.fixture
def proof(warehouse: Warehouse) -> Proof:
    enrol(warehouse, "eve", public_half(EVE))
    enrol(warehouse, "fay", public_half(FAY))
    found = stored(warehouse, NOVEMBER)
    assert found is not None
    return found


def test_file_leaves_when_two_people_signed_it(warehouse: Warehouse, proof: Proof) -> None:
    with pytest.raises(PayoutRefused, match="approved by nobody"):
        approved_file(warehouse, proof, TODAY)
    signed(warehouse, proof, "eve", "eve")
    with pytest.raises(PayoutRefused, match="approved by eve: they need 2 people"):
        approved_file(warehouse, proof, TODAY)
    signed(warehouse, proof, "fay")
    assert approved_file(warehouse, proof, TODAY) == bank_file(order_of(warehouse, proof, TERMS))


def test_account_changed_after_two_approvals_lapses_them_and_is_named(
    warehouse: Warehouse, proof: Proof, tmp_path: Path
) -> None:
    signed(warehouse, proof, "eve", "fay")
    register(warehouse, tmp_path, ALL_REGISTERED.replace("GB29NWBK60161331926819", "DE89370400440532013000"))
    with pytest.raises(PayoutRefused, match=r"approved by nobody.* have changed: the iban of ada"):
        approved_file(warehouse, proof, TODAY)
    register(warehouse, tmp_path, ALL_REGISTERED)
    assert approved_file(warehouse, proof, TODAY)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"execute_on": date(2026, 12, 4)}, "execute on"),
        ({"scheme": "pain.001.001.03"}, "scheme"),
        ({"debtor": msgspec.structs.replace(TERMS.debtor, iban="AT611904300234573201")}, "debtor"),
        ({"changed_accounts": ("ada",)}, "changed accounts"),
    ],
)
def test_two_people_sign_the_same_terms(
    warehouse: Warehouse, proof: Proof, changes: dict[str, object], named: str
) -> None:
    signed(warehouse, proof, "eve")
    signed(warehouse, proof, "fay", terms=msgspec.structs.replace(TERMS, **changes))
    with pytest.raises(PayoutRefused, match=f"approved by fay: they need 2 people.*{named}"):
        approved_file(warehouse, proof, TODAY)


def test_one_persons_other_wish_does_not_undo_what_two_approved(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve", "fay")
    signed(warehouse, proof, "fay", terms=msgspec.structs.replace(TERMS, execute_on=date(2026, 12, 4)))
    assert approved_file(warehouse, proof, TODAY) == bank_file(order_of(warehouse, proof, TERMS))


def test_file_does_not_leave_after_the_day_that_was_approved(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve", "fay")
    assert approved_file(warehouse, proof, TERMS.execute_on)
    with pytest.raises(PayoutRefused, match="approved for 2026-12-03, which is over"):
        approved_file(warehouse, proof, date(2026, 12, 4))


def test_one_person_is_not_two(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve")
    with pytest.raises(PayoutRefused, match="enrolled already"):
        enrol(warehouse, "eve", public_half(MAL))
    with pytest.raises(PayoutRefused, match="two people need two keys"):
        enrol(warehouse, "mal", public_half(EVE))
    with pytest.raises(PayoutRefused, match="not enrolled as fay's"):
        approve(warehouse, order_of(warehouse, proof, TERMS), "fay", EVE)
    with pytest.raises(PayoutRefused, match="not enrolled as mal's"):
        approve(warehouse, order_of(warehouse, proof, TERMS), "mal", MAL)


def forged(
    order_text: str, file: bytes, key: Ed25519PrivateKey, *, name: str, public_key: str
) -> dict[str, list[object]]:
    order_sha256, file_sha256 = hashlib.sha256(order_text.encode()).hexdigest(), hashlib.sha256(file).hexdigest()
    return {
        "month": [NOVEMBER], "seal": [""], "order_sha256": [order_sha256], "payment_order": [order_text],
        "file_sha256": [file_sha256], "approver": [name], "public_key": [public_key],
        "signature": [key.sign(approval._signed(order_sha256, file_sha256)).hex()], "approved_at": [datetime.now(UTC)],
    }  # fmt: skip


def test_rows_that_nobody_enrolled_signed_are_worth_nothing(warehouse: Warehouse, proof: Proof) -> None:
    """Whoever can write the table of approvals, by whatever name and key, adds no approval."""
    signed(warehouse, proof, "eve")
    order = order_of(warehouse, proof, TERMS)
    file = bank_file(order)
    for name, public_key in (("mal", public_half(MAL)), ("fay", public_half(MAL)), ("fay", public_half(FAY))):
        row = forged(order.text(), file, MAL, name=name, public_key=public_key)
        warehouse.insert("payment_approvals", row)
    copied = forged(order.text(), file, EVE, name="fay", public_key=public_half(EVE))
    warehouse.insert("payment_approvals", copied)
    with pytest.raises(PayoutRefused, match="approved by eve: they need 2 people"):
        approved_file(warehouse, proof, TODAY)


def test_signature_of_another_file_or_order_is_worth_nothing(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve")
    order = order_of(warehouse, proof, TERMS)
    richer = msgspec.structs.replace(
        order, payments=tuple(msgspec.structs.replace(one, amount_minor=one.amount_minor * 2) for one in order.payments)
    )
    row = forged(order.text(), bank_file(order), FAY, name="fay", public_key=public_half(FAY))
    warehouse.insert("payment_approvals", row | {"payment_order": [richer.text()]})
    with pytest.raises(PayoutRefused, match="approved by eve: they need 2 people"):
        approved_file(warehouse, proof, TODAY)


def test_who_is_withdrawn_approves_no_longer_and_what_they_approved_lapses(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve", "fay")
    withdraw(warehouse, "fay")
    with pytest.raises(PayoutRefused, match="approved by eve: they need 2 people"):
        approved_file(warehouse, proof, TODAY)
    with pytest.raises(PayoutRefused, match=r"fay is not enrolled\. Enrolled are: eve"):
        withdraw(warehouse, "fay")


def test_first_seal_holds_and_a_second_stops_every_payment(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve", "fay")
    text = msgspec.json.encode({**msgspec.json.decode(proof.text()), "paid_micro": 1}).decode()
    other = Proof.read(text)
    early = datetime(2026, 1, 1, tzinfo=UTC)
    for at in (early, datetime(2030, 1, 1, tzinfo=UTC)):
        warehouse.insert("seals", {"month": [NOVEMBER], "seal": [other.seal], "previous": [""],
                                   "proof": [other.text()], "sealed_at": [at]})  # fmt: skip
    assert stored(warehouse, NOVEMBER) == proof
    with pytest.raises(PayoutRefused, match="2026-11 was sealed 2 times"):
        approved_file(warehouse, proof, TODAY)
    again = close_month(
        warehouse, NOVEMBER, clock=clock_after(NOVEMBER, closing()), log_ends=drained, settings=closing()
    )
    assert again == proof


def test_account_that_changed_of_late_is_told_and_a_first_account_is_none(
    warehouse: Warehouse, proof: Proof, tmp_path: Path
) -> None:
    order = order_of(warehouse, proof, TERMS)
    now = datetime.now(UTC)
    assert changed_accounts(warehouse, order, now, 3) == []
    register(warehouse, tmp_path, ALL_REGISTERED.replace("GB29NWBK60161331926819", "DE89370400440532013000"))
    assert changed_accounts(warehouse, order, now, 3) == ["ada"]
    assert changed_accounts(warehouse, order, now + timedelta(days=3, minutes=1), 3) == []


def test_account_cannot_be_dated_back_by_who_writes_the_register(warehouse: Warehouse, proof: Proof) -> None:
    order, now = order_of(warehouse, proof, TERMS), datetime.now(UTC)
    warehouse.command(
        "INSERT INTO creators SELECT * REPLACE (version + 100 AS version, 'DE89370400440532013000' AS iban, "
        "changed_at - INTERVAL 30 DAY AS changed_at) FROM creators WHERE creator_id = 'ada'"
    )
    assert changed_accounts(warehouse, order, now, 3) == ["ada"]


def test_private_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    public = approval.make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert public_half(approval.read_key(path)) == public
    with pytest.raises(FileExistsError):
        approval.make_key(path)
    path.write_text("no key")
    with pytest.raises(PayoutRefused, match="holds no private key"):
        approval.read_key(path)


def test_payees_on_hold_stop_the_file_though_it_was_approved(warehouse: Warehouse, proof: Proof) -> None:
    signed(warehouse, proof, "eve", "fay")
    creators.hold(warehouse, "bob", "account under review")
    with pytest.raises(PayoutRefused, match="On hold since the close: bob"):
        approved_file(warehouse, proof, TODAY)
    assert close(warehouse, NOVEMBER) == proof
