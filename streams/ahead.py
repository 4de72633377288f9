"""Read ahead: the next item comes while the one before is worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

T = TypeVar("T")
_END: Final[Any] = object()


def read_ahead(items: Iterable[T], most: int = 4) -> Iterator[T]:
    """Yield the items, up to ``most`` of them fetched in a thread before they are asked for.

    Raises what the iteration raises. An iteration that is given up ends when its next item has come.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        waiting = [thread.submit(next, source, _END) for _ in range(most)]
        while (item := waiting.pop(0).result()) is not _END:
            waiting.append(thread.submit(next, source, _END))
            yield item
