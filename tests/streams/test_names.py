"""The hashes are those of Kafka and of ClickHouse, to the bit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.clicks.string_columns import NAMELESS, StringColumn
from tests.support.packed import values_of
from warehouse.storage.client import Warehouse
from warehouse.storage.identity_key import IdentityKey

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
    assert StringColumn.of(names).partitions(partitions).tolist() == expected


#: Of the authors' vectors.h: the key is bytes 0 to 15, the message bytes 0 to n - 1.
VECTORS = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    7: "a1f1ebbed8dbc153c0b84aa61ff08239",
    8: "3b62a9ba6258f5610f83e264f31497b4",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
    16: "6ee2a4ca67b054bbfd3315bf85230577",
    33: "77c6077146f01c32b6b69d5f4ea9ffcf",
    63: "5150d1772f50834a503e069a973fbd7c",
}
WORDS = st.integers(0, (1 << 64) - 1)


def hex_of(names: StringColumn, key: IdentityKey) -> list[str]:
    return [struct.pack("<QQ", high, low).hex() for high, low in zip(*names.hashes(key), strict=True)]


def test_hashes_are_those_of_siphashs_authors() -> None:
    data = b"".join(bytes(range(length)) for length in VECTORS)
    names = StringColumn(np.frombuffer(data, np.uint8), np.cumsum(list(VECTORS)))
    key = IdentityKey(*struct.unpack("<QQ", bytes(range(16))))
    assert hex_of(names, key) == list(VECTORS.values())


@given(st.lists(st.text(max_size=80), max_size=20), WORDS, WORDS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hashes_and_partitions_are_those_of_the_warehouse(
    warehouse: Warehouse, drawn: list[str], k0: int, k1: int
) -> None:
    names = [*NAMES, *("y" * length for length in range(70)), *(n.encode(errors="replace").decode() for n in drawn)]
    sql = (
        "SELECT hex(sipHash128ReferenceKeyed((toUInt64(%(k0)s), toUInt64(%(k1)s)), name)), kafkaMurmurHash(name) %% 12 "
        "FROM (SELECT arrayJoin(%(names)s) AS name)"
    )
    found = warehouse.rows(sql, {"names": names, "k0": k0, "k1": k1})
    ours = StringColumn.of(names)
    assert [digest.lower() for digest, _ in found] == hex_of(ours, IdentityKey(k0, k1))
    assert [partition for _, partition in found] == ours.partitions(12).tolist()


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), max_size=8), st.data())
def test_names_are_packed_and_renamed_at_any_indices(names: list[str], data: st.DataObject) -> None:
    index = st.integers(-1, len(names) - 1)
    which = data.draw(st.lists(index, max_size=10))
    column = StringColumn.of(names)
    packed = column.packed(np.array(which, np.int64))
    assert values_of(packed) == ["" if at == NAMELESS else names[at] for at in which]
    assert len(packed) == len(which)
    others = {at: f"pseudonym-{at}" for at in which if at >= 0}
    renamed = column.renamed(others).packed(np.arange(len(names)))
    assert values_of(renamed) == [others.get(at, name) for at, name in enumerate(names)]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 16_383, 16_384, 70_000])
def test_length_of_a_packed_name_takes_as_many_bytes_as_it_needs(length: int) -> None:
    names = ["before", "x" * length, "behind"]
    assert values_of(StringColumn.of(names).packed(np.arange(3))) == names
