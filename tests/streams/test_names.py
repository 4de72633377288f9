"""The hashes are those of Kafka and of ClickHouse, to the bit."""

from __future__ import annotations

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.names import name_hashes, partitions_of
from warehouse.client import Warehouse

NAMES = [
    "",
    "a",
    "anna",
    "member-0000001",
    "x" * 64,
    "zwölf Boxkämpfer",
    "日本語",
    "0123456789abcdef",
    "0123456789abcdefg",
]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=8), st.integers(1, 64))
def test_partition_is_that_of_kafkas_default_partitioner(names: list[str], partitions: int) -> None:
    expected = [(murmur2(name.encode()) & 0x7FFFFFFF) % partitions for name in names]
    assert partitions_of(names, partitions).tolist() == expected


def test_hashes_and_partitions_are_those_of_the_warehouse(warehouse: Warehouse) -> None:
    sql = "SELECT murmurHash3_128(name), kafkaMurmurHash(name) %% 12 FROM (SELECT arrayJoin(%(names)s) AS name)"
    found = warehouse.rows(sql, {"names": NAMES}, {"strings_as_bytes": True})
    highs, lows = name_hashes(NAMES)
    ours = [
        int(high).to_bytes(8, "little") + int(low).to_bytes(8, "little") for high, low in zip(highs, lows, strict=True)
    ]
    assert [digest for digest, _ in found] == ours
    assert [partition for _, partition in found] == partitions_of(NAMES, 12).tolist()
