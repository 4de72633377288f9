from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.recovery import read_ahead


@pytest.mark.parametrize("count", [0, 1, 4, 5, 100])
def test_items_come_in_order_and_all_of_them(count: int) -> None:
    assert list(read_ahead(range(count))) == list(range(count))


def test_what_the_source_raises_is_raised_where_it_stands() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    items = read_ahead(source())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
