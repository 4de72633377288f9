"""The adapter to ClickHouse, against a real server."""

from __future__ import annotations

import pytest

from warehouse.client import Warehouse
from warehouse.errors import WarehouseRefused

_SQL = "SELECT reinterpretAsFixedString(cityHash64(number)) FROM numbers(%(rows)s)"


def in_eights(block: bytes) -> list[bytes]:
    return [block[at : at + 8] for at in range(0, len(block), 8)]


@pytest.mark.parametrize("rows", [0, 1, 200_000])
def test_packed_column_is_the_values_one_after_the_other(warehouse: Warehouse, rows: int) -> None:
    values = [value for (value,) in warehouse.rows(_SQL, {"rows": rows}, {"strings_as_bytes": True})]
    blocks = list(warehouse.packed(_SQL, {"rows": rows}, {"max_block_size": 10_000}))
    assert sorted(value for block in blocks for value in in_eights(block)) == sorted(values)
    assert len(blocks) == -(-rows // 10_000)


def test_packed_query_that_is_refused_says_why(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseRefused, match="nothing_of_the_kind"):
        list(warehouse.packed("SELECT nothing_of_the_kind"))


def test_packed_query_that_fails_midway_raises(warehouse: Warehouse) -> None:
    sql = "SELECT toFixedString(toString(throwIf(number = 150000, 'midway')), 8) FROM numbers(200000)"
    with pytest.raises(WarehouseRefused, match="midway"):
        list(warehouse.packed(sql))
