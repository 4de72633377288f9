"""The fields of many clicks, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.clicks.string_columns import StringColumn
from streams.state.hash_table import I64, U8

#: Shape (n,), 16 bytes each.
Ids = npt.NDArray[np.void]
#: In a column of times: the click did not state it.
UNSAID: Final = -1
#: Bits of an action: it takes something back (a flattr, or a subscription); it begins or ends a subscription.
TAKES_BACK: Final = 1
ORDERS: Final = 2


@dataclass(slots=True)
class Fields:
    """The fields of n clicks, as columns of length n."""

    members: StringColumn
    creators: StringColumn
    sites: StringColumn
    things: StringColumn  # their addresses
    thing_ids: Ids
    click_ids: Ids
    clicked_at_ms: I64
    received_at_ms: I64
    #: ``UNSAID`` where a click has none; None where all are without.
    sent_at_ms: I64 | None
    client_at_ms: I64 | None
    #: Bits: ``TAKES_BACK``, ``ORDERS``.
    actions: U8
