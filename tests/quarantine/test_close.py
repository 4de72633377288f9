"""A month is closed as if the flattrs in quarantine had never been clicked, to the micro-unit."""

from __future__ import annotations

import pytest

from tests.payout.build import Flattr, closing, flattrs_of, pledge, state_month
from tests.payout.test_close import close, payouts
from tests.payout.test_verify import tampered
from tests.quarantine.build import NOW, flag, release, shares_without
from warehouse.payout.audit.verify import verify_month
from warehouse.payout.errors import PayoutRefused
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

MONTH = 202611
TABLE = "mia ada 3\nmia bob 4\nnil ada 2\nnil cat 1\nrob rex 9\nnix rex 2\nnix ada 1"
MONTHS_FLATTRS = [
    *flattrs_of(TABLE),
    Flattr("nil", "dan", "d", undone=True),
    Flattr("mia", "eve", "e", undone=True, clicked=False),
]
PLEDGES = {"mia": 2_000_000, "nil": 5_550_000, "nix": 2_000_000, "rob": 9_990_000, "oda": 2_000_000}
THING = "https://bob.example/2"


def fill(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, MONTHS_FLATTRS, duplicates=3)
    pledge(warehouse, MONTH, PLEDGES, unpaid=["nix"])


SUBJECTS = {
    "member": Subject.of(member_id="rob"),
    "member and creator": Subject.of(member_id="mia", creator_id="bob"),
    "creator": Subject.of(creator_id="ada"),
    "site": Subject.of(site_id="site"),
    "flattr taken back": Subject.of(member_id="nil", creator_id="dan"),
    "member without a pledge": Subject.of(member_id="nix"),
    "undo without a flattr": Subject.of(member_id="mia", creator_id="eve"),
    "nobody": Subject.of(member_id="nobody"),
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_close_pays_as_if_the_flattrs_in_quarantine_had_never_been(warehouse: Warehouse, subject: Subject) -> None:
    fill(warehouse)
    flag(warehouse, subject, unseen=True)
    proof = close(warehouse)
    left_out = {row for row in MONTHS_FLATTRS if subject.covers(row.member_id, row.creator_id, "", "site")}
    rest = [row for row in MONTHS_FLATTRS if row not in left_out]
    expected = shares_without(MONTH, rest, PLEDGES, {"nix"})
    rows = warehouse.rows("SELECT member_id, creator_id, share_micro FROM shares")
    assert {(member, creator): micro for member, creator, micro in rows} == expected
    assert proof.quarantined == sum(row.clicked and not row.undone for row in left_out)
    assert proof.flattrs + proof.quarantined == sum(row.clicked and not row.undone for row in MONTHS_FLATTRS)
    assert proof.balanced
    assert "quarantine_log" in proof.digests
    assert proof.snapshot["quarantine_step"] == 1
    assert verify_month(warehouse, MONTH).problems == []


def test_one_flattr_in_quarantine_leaves_the_members_others(warehouse: Warehouse) -> None:
    fill(warehouse)
    flag(warehouse, Subject.of(member_id="mia", thing_id=thing_of("bob", THING)))
    assert close(warehouse).quarantined == 1
    rows = warehouse.rows("SELECT creator_id, flattrs FROM shares WHERE member_id = 'mia' ORDER BY creator_id")
    assert rows == [("ada", 3), ("bob", 3)]
    assert verify_month(warehouse, MONTH).problems == []


def thing_of(creator: str, thing: str) -> str:
    from ingest.contract.thing import thing_id

    return thing_id(creator, thing)


def test_released_before_the_close_is_as_if_never_flagged(warehouse: Warehouse) -> None:
    fill(warehouse)
    subject = Subject.of(member_id="rob")
    flag(warehouse, subject)
    release(warehouse, subject)
    proof = close(warehouse)
    assert proof.quarantined == 0
    rows = warehouse.rows("SELECT member_id, creator_id, share_micro FROM shares")
    assert {(m, c): micro for m, c, micro in rows} == shares_without(MONTH, MONTHS_FLATTRS, PLEDGES, {"nix"})
    assert verify_month(warehouse, MONTH).problems == []


def test_flattr_that_two_flags_cover_stays_until_both_are_released(warehouse: Warehouse) -> None:
    fill(warehouse)
    both, one = Subject.of(member_id="mia", creator_id="bob"), Subject.of(creator_id="bob")
    assert flag(warehouse, both).flattrs == 4
    assert flag(warehouse, one).flattrs == 4
    assert release(warehouse, both).flattrs == 4
    assert release(warehouse, one).flattrs == 0


def test_flattr_clicked_after_the_flag_is_left_out_by_the_close(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, [])
    flag(warehouse, Subject.of(member_id="rob"), unseen=True)
    fill(warehouse)
    assert close(warehouse).quarantined == 9
    assert "rex" not in payouts(warehouse) or payouts(warehouse)["rex"][0] == 0
    assert verify_month(warehouse, MONTH).problems == []


def test_month_without_a_flag_has_the_bytes_it_always_had(warehouse: Warehouse) -> None:
    fill(warehouse)
    proof = close(warehouse)
    assert '"quarantined"' not in proof.text()
    assert not {"quarantined", "quarantine_log"} & proof.digests.keys()


def test_members_in_shards_leave_the_same_out(warehouse: Warehouse) -> None:
    fill(warehouse)
    flag(warehouse, SUBJECTS["creator"])
    close(warehouse, settings=closing(close_shards=4))
    assert verify_month(warehouse, MONTH).problems == []


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        (
            "quarantine_set",
            "DELETE WHERE creator_id = 'ada' AND member_id = 'mia'",
            "quarantine_set: the flattr mia ada",
        ),
        ("quarantine_set", "UPDATE held = 0 WHERE member_id = 'nil'", "quarantine_set: the flattr nil ada"),
        ("quarantine_log", "DELETE WHERE kind = 'creator'", "pools: the line mia is"),
        ("quarantine_log", "UPDATE reason = 'another' WHERE 1", "proof: the hash of quarantine_log"),
        ("quarantine_log", "UPDATE creator_id = 'bob' WHERE kind = 'creator'", "pools: the line mia is"),
        ("quarantine_versions", "DELETE WHERE 1", "quarantine_set: the flattr mia ada"),
    ],
)
def test_tampering_with_the_quarantine_of_a_closed_month_is_found(
    warehouse: Warehouse, table: str, change: str, named: str
) -> None:
    fill(warehouse)
    flag(warehouse, SUBJECTS["creator"])
    close(warehouse)
    assert verify_month(warehouse, MONTH).problems == []
    with tampered(warehouse, table, change):
        problems = verify_month(warehouse, MONTH).problems
    assert any(problem.startswith(named) for problem in problems), problems


def test_step_without_reason_twice_or_of_what_is_not_flagged_is_refused(warehouse: Warehouse) -> None:
    fill(warehouse)
    rob = Subject.of(member_id="rob")
    with pytest.raises(PayoutRefused, match="reason"):
        flag(warehouse, rob, reason=" ")
    with pytest.raises(
        PayoutRefused, match=r"not flagged in 2026-11; only what is flagged can be released\. Flagged there: nothing"
    ):
        release(warehouse, rob)
    flag(warehouse, rob)
    with pytest.raises(PayoutRefused, match="already in quarantine, since step 1 by fin: looks bought"):
        flag(warehouse, rob)
    with pytest.raises(PayoutRefused, match="Flagged there: member rob"):
        release(warehouse, Subject.of(member_id="rob", creator_id="rex"))
    assert warehouse.rows("SELECT step, action, who, toUnixTimestamp64Milli(at) FROM quarantine_log") == [
        (1, "flag", "fin", NOW)
    ]
