"""The adapter to ClickHouse, against a real server."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError, WarehouseRefused, WarehouseUnavailable
from warehouse.storage.native_columns import Packed

_SQL = "SELECT reinterpretAsFixedString(cityHash64(number)), murmurHash3_128(number) FROM numbers(%(rows)s)"


def in_pieces(column: bytearray, width: int) -> list[bytes]:
    return [bytes(column[at : at + width]) for at in range(0, len(column), width)]


@pytest.mark.parametrize("rows", [0, 1, 200_000])
def test_packed_columns_are_the_values_one_after_the_other(warehouse: Warehouse, rows: int) -> None:
    values = warehouse.rows(_SQL, {"rows": rows}, {"strings_as_bytes": True})
    blocks = list(warehouse.packed(_SQL, {"rows": rows}, {"max_block_size": 10_000}))
    found = [row for block in blocks for row in zip(in_pieces(block[0], 8), in_pieces(block[1], 16), strict=True)]
    assert sorted(found) == sorted(values)
    assert len(blocks) == -(-rows // 10_000)


def test_packed_query_that_is_refused_says_why(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseRefused, match="nothing_of_the_kind"):
        list(warehouse.packed("SELECT nothing_of_the_kind"))


def test_packed_query_that_fails_midway_raises(warehouse: Warehouse) -> None:
    sql = "SELECT toFixedString(toString(throwIf(number = 150000, 'midway')), 8) FROM numbers(200000)"
    with pytest.raises(WarehouseRefused, match="midway"):
        list(warehouse.packed(sql))


def test_packed_columns_are_inserted_as_their_values(warehouse: Warehouse) -> None:
    things = [bytes(range(16)), bytes(16)]
    names = ["ümlaut", "x" * 300]
    columns = {
        "thing_id": Packed("FixedString(16)", 2, b"".join(things)),
        "creator_id": Packed("String", 2, b"\x07\xc3\xbcmlaut\xac\x02" + b"x" * 300),
        "thing": Packed("String", 2, b"\x00\x01a"),
    }
    assert warehouse.insert("things", columns) == 2
    found = warehouse.rows("SELECT thing_id, creator_id, thing FROM things", None, {"strings_as_bytes": True})
    expected = zip(things, [name.encode() for name in names], [b"", b"a"], strict=True)
    assert sorted(found) == sorted(expected)


def test_insert_takes_one_thread_of_the_server(warehouse: Warehouse) -> None:
    warehouse.command(
        "CREATE TABLE told (n UInt64, threads UInt64 DEFAULT getSetting('max_threads')) ENGINE = MergeTree ORDER BY n"
    )
    warehouse.insert("told", {"n": [1]})
    warehouse.insert("told", {"n": [2]}, settings={"max_threads": 3})
    assert warehouse.rows("SELECT n, threads FROM told ORDER BY n") == [(1, 1), (2, 3)]


@pytest.mark.parametrize("rows", [0, 1, 300_000])
def test_packed_insert_of_any_length_leaves_the_connection_usable(warehouse: Warehouse, rows: int) -> None:
    warehouse.command("CREATE TABLE numbers_kept (n UInt64) ENGINE = MergeTree ORDER BY n")
    for _ in range(2):
        packed = Packed("UInt64", rows, struct.pack(f"<{rows}Q", *range(rows)))
        assert warehouse.insert("numbers_kept", {"n": packed}) == rows
    assert warehouse.rows("SELECT count(), sum(n) FROM numbers_kept") == [(2 * rows, rows * (rows - 1))]


@pytest.mark.parametrize("column", [Packed("UInt32", 2, bytes(8)), [1, 2]])
def test_packed_column_of_another_type_is_refused_before_it_is_sent(warehouse: Warehouse, column: object) -> None:
    warehouse.command("CREATE TABLE kept (n UInt64, m UInt64) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(TypeError, match="column m is UInt64"):
        warehouse.insert("kept", {"n": Packed("UInt64", 2, bytes(16)), "m": column})  # type: ignore[dict-item]
    assert warehouse.rows("SELECT count() FROM kept") == [(0,)]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        pytest.param(32, WarehouseUnavailable, id="another node went away within its answer"),
        pytest.param(225, WarehouseUnavailable, id="no coordinator"),
        pytest.param(285, WarehouseUnavailable, id="no quorum"),
        pytest.param(369, WarehouseUnavailable, id="no replica that is up to date"),
        pytest.param(62, WarehouseRefused, id="a wrong statement"),
        pytest.param(497, WarehouseRefused, id="no right"),
    ],
)
def test_servers_errors_that_pass_by_themselves_are_told_from_refusals(
    warehouse: Warehouse, code: int, error: type[WarehouseError]
) -> None:
    with pytest.raises(error):
        warehouse.rows(f"SELECT throwIf(1, 'tried', {code}::Int16) SETTINGS allow_custom_error_code_in_throwif = 1")


def test_a_server_that_stands_still_is_left_before_a_query_would_time_out(warehouse: Warehouse) -> None:
    with socket.create_server(("127.0.0.1", 0)) as still:
        address = f"127.0.0.1:{still.getsockname()[1]}"
        began_s = time.monotonic()
        with closing(Warehouse(f"clickhouse://{address}/flattr")) as alone, pytest.raises(WarehouseUnavailable):
            alone.rows("SELECT 1")
        well = urlsplit(warehouse.url)
        pair = well._replace(netloc=f"{address},{well.netloc}", query="cluster=flattr").geturl()
        with closing(Warehouse(pair)) as two:
            assert two.rows("SELECT 1") == [(1,)]
        assert time.monotonic() - began_s < 30
