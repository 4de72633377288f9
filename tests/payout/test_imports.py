"""Imports show what they change before they write, pledges can be taken back, and unknown names are refused."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from deploy.cli.previews import show_pledges, show_register
from ingest.contract.month import month_of, month_text, parse_month
from ingest.runtime.clock import system_clock
from tests.payout.build import clock_after, closing, drained, flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.payout.test_commands import RUN
from tests.payout.test_finance import everything_verifies
from warehouse.payout.close.close import close_month
from warehouse.payout.close.gate import check_currency, check_order, check_pledges
from warehouse.payout.errors import MonthLocked, PayoutRefused
from warehouse.payout.inputs.creators import RegisterPreview, hold, import_creators, read_register
from warehouse.payout.inputs.pledge_preview import Change, MonthSums, Owed, PledgePreview, preview_pledges
from warehouse.payout.inputs.pledge_versions import as_owed, standing_pledges
from warehouse.payout.inputs.pledges import import_pledges
from warehouse.payout.inputs.strict_csv import ImportRefused
from warehouse.payout.inputs.withdrawals import withdraw_import, withdraw_members
from warehouse.quarantine import desk
from warehouse.quarantine.log import Subject, read_steps
from warehouse.storage.client import Warehouse

EUR = 1_000_000
NOVEMBER, DECEMBER = 202611, 202612
HEADER = "member_id,month,amount,currency,paid\n"
T = TypeVar("T")


class Shown(list[T]):
    """Previews as they are shown, each of them confirmed."""

    def __call__(self, preview: T) -> bool:
        self.append(preview)
        return True


def owed(euros: int, *, paid: bool = True) -> Owed:
    return Owed(euros * EUR, "EUR", paid)


def imported(warehouse: Warehouse, folder: Path, rows: str, name: str = "pledges.csv") -> PledgePreview:
    """Import rows without their header, and return what was shown before."""
    shown = Shown[PledgePreview]()
    path = folder / name
    path.write_text(HEADER + rows)
    import_pledges(warehouse, path, "EUR", confirm=shown)
    return shown[0]


def standing(warehouse: Warehouse, month: int = NOVEMBER) -> dict[str, tuple[int, bool, int]]:
    return {
        one.member_id: (one.owed.amount_micro // EUR, one.owed.paid, one.version)
        for one in standing_pledges(warehouse, [month])
    }


def test_preview_counts_sums_and_ranks_what_changes() -> None:
    before = {(NOVEMBER, "mia"): owed(2), (NOVEMBER, "leo"): owed(2, paid=False), (NOVEMBER, "oda"): owed(5)}
    before |= {(DECEMBER, "mia"): owed(2)}
    after: dict[tuple[int, str], Owed | None] = {
        (NOVEMBER, "mia"): owed(200), (NOVEMBER, "leo"): owed(2), (NOVEMBER, "oda"): None,
        (DECEMBER, "mia"): owed(2), (DECEMBER, "new"): owed(2),
    }  # fmt: skip
    assert preview_pledges(before, after, {"new"}) == PledgePreview(
        added=1, changed=2, withdrawn=1, unchanged=1, untouched=0,
        sums=(
            MonthSums(NOVEMBER, 9 * EUR, 202 * EUR, 7 * EUR, 202 * EUR),
            MonthSums(DECEMBER, 2 * EUR, 4 * EUR, 2 * EUR, 4 * EUR),
        ),
        largest=(
            Change(NOVEMBER, "mia", owed(2), owed(200)),
            Change(NOVEMBER, "oda", owed(5), None),
            Change(NOVEMBER, "leo", owed(2, paid=False), owed(2)),
            Change(DECEMBER, "new", None, owed(2)),
        ),
        never_seen=("new",),
    )  # fmt: skip


def test_only_the_ten_largest_changes_are_shown() -> None:
    after: dict[tuple[int, str], Owed | None] = {(NOVEMBER, f"m{n:02}"): owed(n) for n in range(1, 31)}
    shown = preview_pledges({}, after).largest
    assert [change.member_id for change in shown] == [f"m{n:02}" for n in range(30, 20, -1)]


def test_import_shows_what_it_then_writes(warehouse: Warehouse, tmp_path: Path) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("leo ada 1"))
    first = imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\nleo,2026-11,2,EUR,no\noda,2026-11,2,EUR,yes\n")
    assert (first.added, first.changed, first.unchanged, first.untouched) == (3, 0, 0, 0)
    assert first.never_seen == ("mia", "oda"), "leo has flattred"
    second = imported(warehouse, tmp_path, "mia,2026-11,200,EUR,yes\nleo,2026-11,2,EUR,no\nzoe,2026-12,2,EUR,yes\n")
    assert (second.added, second.changed, second.unchanged, second.untouched) == (1, 1, 1, 1)
    assert second.largest[0] == Change(NOVEMBER, "mia", owed(2), owed(200))
    assert second.never_seen == ("zoe",)
    assert second.sums[0] == MonthSums(NOVEMBER, 6 * EUR, 204 * EUR, 4 * EUR, 202 * EUR)
    assert standing(warehouse) == {"mia": (200, True, 2), "leo": (2, False, 1), "oda": (2, True, 1)}
    assert warehouse.rows("SELECT rows, months FROM pledge_imports ORDER BY version") == [
        (3, [NOVEMBER]), (2, [NOVEMBER, DECEMBER]),
    ]  # fmt: skip


def test_import_that_is_not_confirmed_writes_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "pledges.csv"
    path.write_text(HEADER + "mia,2026-11,2,EUR,yes\n")
    with pytest.raises(PayoutRefused, match=r"Nothing was imported from pledges\.csv"):
        import_pledges(warehouse, path, "EUR", confirm=lambda _: False)
    assert warehouse.rows("SELECT (SELECT count() FROM pledges), (SELECT count() FROM pledge_imports)") == [(0, 0)]


def test_nothing_else_is_imported_while_somebody_looks(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "pledges.csv"
    path.write_text(HEADER + "mia,2026-11,2,EUR,yes\n")

    def confirm(_: PledgePreview) -> bool:
        with pytest.raises(MonthLocked):
            import_pledges(warehouse, path, "EUR")
        return True

    assert import_pledges(warehouse, path, "EUR", confirm=confirm).version == 1


def test_file_that_changes_nothing_asks_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\nleo,2026-11,2,EUR,yes\n")
    path = tmp_path / "again.csv"
    path.write_text(HEADER + "leo,2026-11,2.00,EUR,1\n")
    assert import_pledges(warehouse, path, "EUR", confirm=lambda _: False).version == 0


def test_member_whose_only_pledge_was_taken_back_is_new_again(warehouse: Warehouse, tmp_path: Path) -> None:
    imported(warehouse, tmp_path, "mai,2026-11,2,EUR,yes\n")
    withdraw_members(warehouse, NOVEMBER, ["mai"])
    assert imported(warehouse, tmp_path, "mai,2026-12,2,EUR,yes\n").never_seen == ("mai",)


def test_withdrawn_pledge_is_as_if_it_had_never_been(warehouse: Warehouse, tmp_path: Path) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1\nleo bob 1"))
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\nmai,2026-11,200,EUR,yes\nleo,2026-11,2,EUR,yes\n")
    shown = Shown[PledgePreview]()
    withdraw_members(warehouse, NOVEMBER, ["mai", "leo"], shown)
    assert (shown[0].withdrawn, shown[0].untouched) == (2, 1)
    assert shown[0].sums == (MonthSums(NOVEMBER, 204 * EUR, 2 * EUR, 204 * EUR, 2 * EUR),)
    assert standing(warehouse) == {"mia": (2, True, 1)}
    proof = close(warehouse, NOVEMBER)
    assert (proof.pledged_micro, proof.charity_micro, proof.members, proof.members_unfunded) == (2 * EUR, 0, 2, 1)
    assert warehouse.rows("SELECT member_id FROM pools ORDER BY 1") == [("leo",), ("mia",)], "leo flattred, unfunded"
    everything_verifies(warehouse)


def test_whole_import_is_taken_back_but_not_what_a_later_one_says(warehouse: Warehouse, tmp_path: Path) -> None:
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\n")
    imported(warehouse, tmp_path, "mia,2026-11,20,EUR,yes\nleo,2026-11,20,EUR,yes\noda,2026-12,20,EUR,yes\n")
    imported(warehouse, tmp_path, "leo,2026-11,3,EUR,yes\n")
    assert withdraw_import(warehouse, 2).months == (NOVEMBER, DECEMBER)
    assert standing(warehouse) == {"leo": (3, True, 3)}
    assert standing(warehouse, DECEMBER) == {}
    with pytest.raises(PayoutRefused, match="No pledge holds by import 2"):
        withdraw_import(warehouse, 2)
    with pytest.raises(PayoutRefused, match="No pledge in 2026-12 holds by import 3"):
        withdraw_import(warehouse, 3, DECEMBER)
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\n")
    assert standing(warehouse) == {"mia": (2, True, 5), "leo": (3, True, 3)}


def test_withdrawal_of_one_month_of_an_import_leaves_the_others(warehouse: Warehouse, tmp_path: Path) -> None:
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\nmia,2026-12,2,EUR,yes\n")
    withdraw_import(warehouse, 1, DECEMBER)
    assert (set(standing(warehouse)), set(standing(warehouse, DECEMBER))) == ({"mia"}, set())


def test_nobody_is_withdrawn_when_one_name_is_wrong_or_it_is_not_confirmed(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\n")
    with pytest.raises(PayoutRefused, match="No pledge of mai holds in 2026-11"):
        withdraw_members(warehouse, NOVEMBER, ["mia", "mai"])
    with pytest.raises(PayoutRefused, match="Nothing was withdrawn"):
        withdraw_members(warehouse, NOVEMBER, ["mia"], lambda _: False)
    assert standing(warehouse) == {"mia": (2, True, 1)}


def test_closed_month_keeps_its_pledges(warehouse: Warehouse, tmp_path: Path) -> None:
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\nmia,2026-12,2,EUR,yes\n")
    close(warehouse, NOVEMBER)
    attempts: list[Callable[[], object]] = [
        lambda: withdraw_members(warehouse, NOVEMBER, ["mia"]),
        lambda: withdraw_import(warehouse, 1),
        lambda: withdraw_import(warehouse, 1, NOVEMBER),
    ]
    for attempt in attempts:
        with pytest.raises(PayoutRefused, match=r"2026-11 is closed.*charge-back"):
            attempt()
    assert withdraw_import(warehouse, 1, DECEMBER).rows == 1
    everything_verifies(warehouse)


def test_one_row_of_a_wrong_year_makes_no_month_due_once_it_is_taken_back(warehouse: Warehouse, tmp_path: Path) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1"))
    imported(warehouse, tmp_path, "mia,2019-01,2,EUR,yes\nmia,2026-11,2,EUR,yes\n")
    with pytest.raises(PayoutRefused, match="2019-01 is not closed yet"):
        check_order(warehouse, NOVEMBER, closing())
    withdraw_members(warehouse, 201901, ["mia"])
    check_order(warehouse, NOVEMBER, closing())
    assert close(warehouse, NOVEMBER).paid_micro > 0
    with pytest.raises(PayoutRefused, match="before 2026-11"):
        check_order(warehouse, 201901, closing())


def test_month_whose_pledges_are_all_taken_back_has_none(warehouse: Warehouse, tmp_path: Path) -> None:
    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\n")
    withdraw_import(warehouse, 1)
    with pytest.raises(PayoutRefused, match="neither pledges nor flattrs"):
        check_order(warehouse, NOVEMBER, closing())
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1"))
    with pytest.raises(PayoutRefused, match="No pledge of 2026-11 is imported"):
        check_pledges(warehouse, NOVEMBER)
    rules = closing()
    proof = close_month(
        warehouse, NOVEMBER, clock=clock_after(NOVEMBER, rules), log_ends=drained, settings=rules, without_pledges=True
    )
    assert (proof.pledged_micro, proof.members, proof.members_unfunded) == (0, 1, 1)
    everything_verifies(warehouse)


def test_pledge_of_another_currency_that_was_taken_back_stops_no_close(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "pledges.csv"
    path.write_text(HEADER + "mia,2026-11,2,USD,yes\n")
    import_pledges(warehouse, path, "USD")
    with pytest.raises(PayoutRefused, match="pledges in USD"):
        check_currency(warehouse, NOVEMBER, closing())
    withdraw_import(warehouse, 1)
    check_currency(warehouse, NOVEMBER, closing())
    assert imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\n").added == 1
    check_currency(warehouse, NOVEMBER, closing())


def test_erased_members_pledge_is_withdrawn_by_either_name(warehouse: Warehouse, tmp_path: Path) -> None:
    from warehouse.erasure.erase import erase

    imported(warehouse, tmp_path, "mia,2026-11,2,EUR,yes\n")
    pseudonym = erase(warehouse, "mia", 4, log_days=30, settle_s=0).pseudonym
    assert set(standing(warehouse)) == {pseudonym}
    withdraw_members(warehouse, NOVEMBER, ["mia"])
    assert standing(warehouse) == {}


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("m\u00fcller,2026-11,2,EUR,yes\n", "U\\+00FC is not allowed"),
        ('"a b",2026-11,2,EUR,yes\n', "visible ASCII"),
        ("\u0430lice,2026-11,2,EUR,yes\n", "U\\+0430 is not allowed"),
        ("mia,2019-01,2,EUR,yes\n", "is the year right"),
    ],
)
def test_rows_that_can_only_be_mistakes_are_refused(
    warehouse: Warehouse, tmp_path: Path, file: str, reason: str
) -> None:
    path = tmp_path / "pledges.csv"
    path.write_text(HEADER + file, encoding="utf-8")
    with pytest.raises(ImportRefused, match=f"line 2: .*{reason}"):
        import_pledges(warehouse, path, "EUR", NOVEMBER)


def test_what_is_shown_says_who_gets_a_mistyped_members_money(capsys: pytest.CaptureFixture[str]) -> None:
    after: dict[tuple[int, str], Owed | None] = {(NOVEMBER, "mia"): owed(200), (NOVEMBER, "mai"): owed(2, paid=False)}
    unseen = [f"x{number:02}" for number in range(12)]
    show_pledges("charity")(preview_pledges({(NOVEMBER, "mia"): owed(2), (NOVEMBER, "leo"): owed(1)}, after, unseen))
    assert capsys.readouterr().out == (
        "pledges: 1 added, 1 changed, 0 withdrawn, 0 unchanged\n"
        "  1 more of these months are not named here and stay as they are\n"
        "  2026-11  pledged 3.00 -> 203.00, paid 3.00 -> 201.00\n"
        "  largest changes:\n"
        "    2026-11  mia: 2.00 EUR, paid -> 200.00 EUR, paid\n"
        "    2026-11  mai: nothing -> 2.00 EUR, not paid\n"
        "  12 members have never flattred or pledged: x00, x01, x02, x03, x04, x05, x06, x07, x08, x09 and 2 more. "
        "If an id is mistyped, its money goes where that of members without flattrs goes (charity).\n"
    )


REGISTER = "creator_id,name,iban,bic\n"
ADA, BOB = "ada,Ada Größe,GB29NWBK60161331926819,\n", "bob,Bob,DE02120300000000202051,BYLADEM1001\n"


def registered(warehouse: Warehouse, folder: Path, rows: str) -> RegisterPreview:
    shown = Shown[RegisterPreview]()
    path = folder / "creators.csv"
    path.write_text(REGISTER + rows, encoding="utf-8")
    import_creators(warehouse, path, shown)
    return shown[0]


def test_register_shows_whose_account_changes(
    warehouse: Warehouse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1"))
    hold(warehouse, "ada", "under review")
    first = registered(warehouse, tmp_path, ADA + BOB)
    assert (first.added, first.never_seen, first.written) == (
        ("ada", "bob"), ("bob",), {"ada": ("Ada Größe", "Ada Grosse")},
    )  # fmt: skip
    assert read_register(warehouse)["ada"].held
    second = registered(warehouse, tmp_path, ADA.replace("GB29NWBK60161331926819", "AT611904300234573201") + BOB)
    assert second.accounts == {"ada": ("GB29NWBK60161331926819", "AT611904300234573201")}
    assert (second.added, second.renamed, second.unchanged, second.released) == ((), {}, 1, ())
    show_register(second)
    assert "account of ada: GB29NWBK60161331926819 -> AT611904300234573201" in capsys.readouterr().out
    assert warehouse.rows("SELECT version, count() FROM creators GROUP BY 1 ORDER BY 1") == [(1, 1), (2, 2), (3, 1)]


def test_register_that_is_not_confirmed_or_changes_nothing_is_not_written(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "creators.csv"
    path.write_text(REGISTER + ADA, encoding="utf-8")
    with pytest.raises(PayoutRefused, match=r"Nothing was imported from creators\.csv"):
        import_creators(warehouse, path, lambda _: False)
    assert read_register(warehouse) == {}
    import_creators(warehouse, path)
    assert import_creators(warehouse, path, lambda _: False) == {"ada": ("Ada Größe", "Ada Grosse")}


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (Subject.of(member_id="mai"), "no member mai"),
        (Subject.of(creator_id="aba"), "no creator aba"),
        (Subject.of(member_id="mia", creator_id="aba"), "no creator aba"),
        (Subject.of(member_id="mai", creator_id="aba"), "no member mai and no creator aba"),
        (Subject.of(site_id="sight"), "no site sight"),
    ],
)
def test_flag_of_a_name_that_nobody_bears_is_refused(warehouse: Warehouse, subject: Subject, name: str) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1"))
    with pytest.raises(PayoutRefused, match=f"There is {name}, .*spelt right"):
        desk.flag(warehouse, NOVEMBER, subject, reason="r", by="fin", clock=lambda: 0)
    assert read_steps(warehouse, NOVEMBER) == []
    desk.flag(warehouse, NOVEMBER, subject, reason="r", by="fin", clock=lambda: 0, unseen=True)
    assert len(read_steps(warehouse, NOVEMBER)) == 1


def test_names_that_are_known_by_flattrs_pledges_or_register_are_flagged(warehouse: Warehouse, tmp_path: Path) -> None:
    state_month(warehouse, NOVEMBER, flattrs_of("mia ada 1"))
    pledge(warehouse, DECEMBER, {"oda": 2 * EUR})
    registered(warehouse, tmp_path, BOB)
    subjects = [{"member_id": "mia"}, {"member_id": "oda"}, {"creator_id": "ada"}, {"creator_id": "bob"},
                {"site_id": "site"}]  # fmt: skip
    for names in subjects:
        desk.flag(warehouse, NOVEMBER, Subject.of(**names), reason="r", by="fin", clock=lambda: 0)
    assert len(read_steps(warehouse, NOVEMBER)) == len(subjects)


def at_terminal(warehouse: Warehouse, answer: bytes, *words: str) -> str:
    """Run `flattr` at a terminal of its own and answer its question."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "FLATTR_WAREHOUSE": warehouse.url}
    command = [sys.executable, "-c", RUN, *words]
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as flattr:
        os.write(ours, answer)
        assert flattr.stdout is not None
        said = flattr.stdout.read()
    os.close(ours)
    os.close(theirs)
    return said


def test_person_at_a_terminal_is_asked(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "pledges.csv"
    now = month_text(month_of(system_clock()))
    path.write_text(HEADER + f"mia,{now},200,EUR,yes\n")
    said = at_terminal(warehouse, b"n\n", "pledges", "import", str(path))
    assert "mia: nothing -> 200.00 EUR, paid" in said
    assert "Import pledges.csv? [y/N]" in said
    assert "Nothing was imported from pledges.csv" in said
    assert "imported as version 1" in at_terminal(warehouse, b"y\n", "pledges", "import", str(path))
    assert "1 pledges withdrawn by version 2" in at_terminal(warehouse, b"y\n", "pledges", "withdraw", now, "mia")
    assert as_owed(standing_pledges(warehouse, [parse_month(now)])) == {}
