"""Packed columns as values, for those who look at rows before the warehouse has them."""

from __future__ import annotations

import struct
from typing import Any, Final

from warehouse.storage.native_columns import Column, Packed

_FORMATS: Final = {"UInt8": "B", "UInt16": "H", "UInt32": "I", "UInt64": "Q", "DateTime64(3, 'UTC')": "q"}


def values_of(column: Column) -> list[Any]:
    """The values of a column, packed or not."""
    if not isinstance(column, Packed):
        return list(column)
    if column.kind == "String":
        return _strings(column.data)
    if column.kind == "FixedString(16)":
        return [column.data[at : at + 16] for at in range(0, len(column.data), 16)]
    return list(struct.unpack(f"<{column.rows}{_FORMATS[column.kind]}", column.data))


def _strings(data: bytes) -> list[str]:
    strings = []
    at = 0
    while at < len(data):
        length = shift = 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        strings.append(data[at : at + length].decode())
        at += length
    return strings
