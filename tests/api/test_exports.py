"""Counts of a range of months as one table: complete, bounded, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from tests.api.conftest import NOON_MS
from tests.api.rows import (
    counted_until,
    put_creator_counts,
    put_flattr,
    put_progress,
    put_thing_counts,
    put_things,
)
from tests.support.serving import ask
from warehouse.storage.client import Warehouse

ONE, TWO = "1" * 32, "2" * 32
RANGE = "since=2026-09&until=2026-11"


@pytest.fixture
def months(warehouse: Warehouse) -> None:
    put_things(warehouse, [(ONE, "anna", "https://anna.example/1"), (TWO, "=1+1", "+SUM(A1)")])
    put_creator_counts(
        warehouse,
        [(202609, "anna", 0, 5, 1), (202611, "anna", 0, 2, 1), (202611, "anna", 3, 4, 1), (202611, "=1+1", 0, 1, 1),
         (202611, "gone", 0, 0, 1)],
    )  # fmt: skip
    put_thing_counts(
        warehouse, [(202609, "anna", ONE, 0, 5, 1), (202611, "anna", ONE, 0, 6, 1), (202611, "=1+1", TWO, 0, 1, 1)]
    )
    put_progress(warehouse, 0, counted_until(9), NOON_MS - 1000)


def rows(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode())))


@pytest.mark.usefixtures("months")
def test_creators_of_several_months_are_one_table_without_formulas(api: str) -> None:
    answer = ask(f"{api}/v1/exports/creators?{RANGE}")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="creators.csv"'
    assert answer.headers["x-as-of"].startswith("2026-11-20T")
    assert rows(answer.body) == [
        ["month", "creator_id", "flattrs"],
        ["2026-09", "anna", "5"],
        ["2026-11", "'=1+1", "1"],
        ["2026-11", "anna", "6"],
    ]


@pytest.mark.usefixtures("months")
def test_parquet_is_the_same_table_with_types_and_ids_as_they_are(api: str) -> None:
    answer = ask(f"{api}/v1/exports/things?{RANGE}&form=parquet")
    table = pq.read_table(io.BytesIO(answer.body))
    assert [str(field.type) for field in table.schema] == ["string"] * 4 + ["int64"]
    assert table.to_pylist() == [
        {"month": "2026-09", "thing_id": ONE, "creator_id": "anna", "thing": "https://anna.example/1", "flattrs": 5},
        {"month": "2026-11", "thing_id": ONE, "creator_id": "anna", "thing": "https://anna.example/1", "flattrs": 6},
        {"month": "2026-11", "thing_id": TWO, "creator_id": "=1+1", "thing": "+SUM(A1)", "flattrs": 1},
    ]
    lines = rows(ask(f"{api}/v1/exports/things?{RANGE}").body)
    assert lines[-1] == ["2026-11", TWO, "'=1+1", "'+SUM(A1)", "1"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_table_longer_than_a_page_has_every_row_once(
    warehouse: Warehouse, api: str, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("warehouse.api.routes.exports._PAGE", 7)
    names = sorted(f"c{number}" for number in range(21))
    put_creator_counts(warehouse, [(202611, name, 0, 1, 1) for name in names])
    put_thing_counts(warehouse, [(202611, name, f"{at:032x}", 0, 1, 1) for at, name in enumerate(names)])
    for of, expected in (("creators", names), ("things", [f"{at:032x}" for at in range(21)])):
        body = ask(f"{api}/v1/exports/{of}?form={form}").body
        if form == "csv":
            found = [row[1] for row in rows(body)[1:]]
        else:
            found = pq.read_table(io.BytesIO(body)).column(1).to_pylist()
        assert found == expected


def test_days_of_a_creator_add_up_to_the_month(warehouse: Warehouse, api: str) -> None:
    for at in range(3):
        put_flattr(
            warehouse,
            thing=f"{at:032x}",
            click_id=UUID(int=at + 1),
            position=at + 1,
            clicked_at_ms=NOON_MS - at * 86_400_000,
        )
    lines = rows(ask(f"{api}/v1/exports/days?creator=anna").body)
    assert lines[0] == ["day", "flattrs"]
    assert [day for day, flattrs in lines[1:] if flattrs == "1"] == ["2026-11-18", "2026-11-19", "2026-11-20"]
    assert (len(lines), sum(int(flattrs) for _, flattrs in lines[1:])) == (21, 3)


def test_range_without_data_is_a_table_without_rows(api: str) -> None:
    assert ask(f"{api}/v1/exports/creators?since=1970-01&until=2248-08").body == b"month,creator_id,flattrs\n"
    table = pq.read_table(io.BytesIO(ask(f"{api}/v1/exports/days?creator=anna&form=parquet").body))
    assert (table.num_rows, table.column_names) == (0, ["day", "flattrs"])


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("creators?since=2026-11&until=2026-10", "parameter_invalid"),
        ("creators?since=2026-13", "month_malformed"),
        ("things?form=xlsx", "parameter_invalid"),
        ("days", "parameter_invalid"),
        ("days?creator=%20", "parameter_invalid"),
    ],
)
def test_range_or_form_that_is_none_is_refused(idle_api: str, query: str, reason: str) -> None:
    answer = ask(f"{idle_api}/v1/exports/{query}")
    assert (answer.status, answer.json["reason"]) == (422, reason)
