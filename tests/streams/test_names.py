"""The hashes are those of Kafka and of ClickHouse, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from streams.names import NAMELESS, Names
from tests.support.packed import values_of
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
    assert Names.of(names).partitions(partitions).tolist() == expected


def test_hashes_and_partitions_are_those_of_the_warehouse(warehouse: Warehouse) -> None:
    sql = "SELECT murmurHash3_128(name), kafkaMurmurHash(name) %% 12 FROM (SELECT arrayJoin(%(names)s) AS name)"
    found = warehouse.rows(sql, {"names": NAMES}, {"strings_as_bytes": True})
    highs, lows = Names.of(NAMES).hashes()
    ours = [
        int(high).to_bytes(8, "little") + int(low).to_bytes(8, "little") for high, low in zip(highs, lows, strict=True)
    ]
    assert [digest for digest, _ in found] == ours
    assert [partition for _, partition in found] == Names.of(NAMES).partitions(12).tolist()


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), max_size=8), st.data())
def test_names_are_packed_and_renamed_at_any_indices(names: list[str], data: st.DataObject) -> None:
    index = st.integers(-1, len(names) - 1)
    which = data.draw(st.lists(index, max_size=10))
    column = Names.of(names)
    packed = column.packed(np.array(which, np.int64))
    assert values_of(packed) == ["" if at == NAMELESS else names[at] for at in which]
    assert len(packed) == len(which)
    others = {at: f"pseudonym-{at}" for at in which if at >= 0}
    renamed = column.renamed(others).packed(np.arange(len(names)))
    assert values_of(renamed) == [others.get(at, name) for at, name in enumerate(names)]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 16_383, 16_384, 70_000])
def test_length_of_a_packed_name_takes_as_many_bytes_as_it_needs(length: int) -> None:
    names = ["before", "x" * length, "behind"]
    assert values_of(Names.of(names).packed(np.arange(3))) == names
