from __future__ import annotations

from pathlib import Path

import pytest

from tests.payout.build import clock_after, closing, drained
from warehouse.payout.close.close import close_month
from warehouse.payout.inputs.pledges import Imported, import_pledges
from warehouse.payout.inputs.strict_csv import ImportRefused
from warehouse.storage.client import Warehouse

HEADER = "member_id,month,amount,currency,paid\n"
GOOD = HEADER + "mia,2026-11,2.00,EUR,true\nnil,2026-11,5,EUR,no\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "pledges.csv"
    path.write_text(text)
    return path


def effective(warehouse: Warehouse) -> dict[str, tuple[int, int]]:
    rows = warehouse.rows(
        "SELECT member_id, argMax(amount_micro, version), argMax(paid, version) FROM pledges "
        "WHERE version IN (SELECT version FROM pledge_imports) GROUP BY member_id"
    )
    return {member: (amount, paid) for member, amount, paid in rows}


def test_good_file_is_imported(warehouse: Warehouse, tmp_path: Path) -> None:
    assert import_pledges(warehouse, write(tmp_path, GOOD), "EUR") == Imported(1, 2, (202611,))
    assert effective(warehouse) == {"mia": (2_000_000, 1), "nil": (5_000_000, 0)}


def test_file_with_bad_rows_imports_nothing_and_names_every_one(warehouse: Warehouse, tmp_path: Path) -> None:
    text = GOOD + (
        "a,2026-13,2.00,EUR,true\n"
        "b,2026-11,2.001,EUR,true\n"
        "c,2026-11,2.00,USD,true\n"
        "d,2026-11,-2.00,EUR,true\n"
        "e,2026-11,2.00,EUR,maybe\n"
        "mia,2026-11,3.00,EUR,true\n"
        ",2026-11,2.00,EUR,true\n"
        "f,2026-11,2.00\n"
        "g,2026-11,0,EUR,true\n"
        "h,2026-11,1000001,EUR,true\n"
        "i,2026-11,1e2,EUR,true\n"
    )
    with pytest.raises(ImportRefused) as refused:
        import_pledges(warehouse, write(tmp_path, text), "EUR")
    reasons = dict(problem.split(": ", 1) for problem in refused.value.problems)
    assert list(reasons) == [f"line {number}" for number in range(4, 15)]
    assert "write it as YYYY-MM" in reasons["line 4"]
    assert "more than the 2 decimals of EUR" in reasons["line 5"]
    assert "'USD' is not EUR" in reasons["line 6"]
    assert "'maybe' is not true" in reasons["line 8"]
    assert reasons["line 9"] == "line 2 already has mia in 2026-11"
    assert reasons["line 11"] == "3 cells, but the header has 5"
    assert warehouse.rows("SELECT (SELECT count() FROM pledges), (SELECT count() FROM pledge_imports)") == [(0, 0)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the header is ''"),
        ("member,month\n", "line 1: the header is 'member,month'"),
        (HEADER, "line 2: no rows"),
        (HEADER + 'mia,"2026-11,2.00,EUR,true\n', "line 2: not valid CSV"),
    ],
)
def test_file_that_is_no_table_of_pledges_is_refused(
    warehouse: Warehouse, tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(ImportRefused, match=reason):
        import_pledges(warehouse, write(tmp_path, text), "EUR")


def test_later_import_wins_and_the_earlier_version_stays(warehouse: Warehouse, tmp_path: Path) -> None:
    import_pledges(warehouse, write(tmp_path, GOOD), "EUR")
    import_pledges(warehouse, write(tmp_path, HEADER + "nil,2026-11,5.00,EUR,yes\n"), "EUR")
    assert effective(warehouse) == {"mia": (2_000_000, 1), "nil": (5_000_000, 1)}
    assert warehouse.rows("SELECT count() FROM pledges") == [(3,)]


def test_same_file_twice_is_one_import(warehouse: Warehouse, tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    import_pledges(warehouse, path, "EUR")
    assert import_pledges(warehouse, path, "EUR").version == 0
    assert warehouse.rows("SELECT count() FROM pledges") == [(2,)]


def test_import_that_died_halfway_counts_for_nothing_and_the_next_takes_another_version(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    warehouse.insert(
        "pledges",
        {
            "month": [202611],
            "member_id": ["mia"],
            "version": [1],
            "amount_micro": [9],
            "currency": ["EUR"],
            "paid": [1],
        },
    )
    assert effective(warehouse) == {}
    assert import_pledges(warehouse, write(tmp_path, GOOD), "EUR").version == 2


def test_pledge_of_a_closed_month_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    import_pledges(warehouse, write(tmp_path, GOOD), "EUR")
    settings = closing()
    close_month(warehouse, 202611, clock=clock_after(202611, settings), log_ends=drained, settings=settings)
    with pytest.raises(ImportRefused, match="line 2: 2026-11 is closed"):
        import_pledges(warehouse, write(tmp_path, HEADER + "new,2026-11,2.00,EUR,yes\n"), "EUR")
