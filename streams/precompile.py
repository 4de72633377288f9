"""Compiles the numba loops before the first click."""

from __future__ import annotations

import numpy as np

from streams.clicks.scan import scan
from streams.clicks.string_columns import StringColumn
from streams.counting.active_counts import count
from streams.counting.dedupe import judge
from streams.recovery import PACKED_BYTES, months_from
from streams.source.chunk import LogRecord, Records
from streams.state.partition import MonthState
from warehouse.storage.identity_key import IdentityKey


def precompile() -> None:
    """Load the compiled loops, or compile them on a machine's first start, which takes some seconds."""
    zeros, month = np.zeros(1, np.uint64), MonthState()
    verdicts = judge(month.flattrs, zeros, zeros, zeros + np.uint64(1))
    count(month.things, zeros, zeros, verdicts.deltas)
    month.retimed.values(zeros, zeros)
    month.retimed.keep_first(zeros, zeros, zeros)
    month.retimed.values(zeros, zeros)
    months_from([[bytearray(width) for width in PACKED_BYTES]], {0: 0})
    month.flattrs.reserve(1000)
    scan(Records.of([LogRecord(0, 0, b"")]))
    names = StringColumn.of([""])
    names.hashes(IdentityKey.random())
    names.partitions(1)
    names.packed(np.zeros(1, np.int64))
    month.flattrs.get(0, 0)
