"""Times: milliseconds since 1970 in UTC, their bounds, and the true time of a click."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta

#: Times end here, in 2248: a flattr's version has 43 bits for its time.
TIME_END_MS: Final = 1 << 43
#: A smaller skew is not corrected: the transit time of a request must not move its clicks.
SKEW_MIN_MS: Final = 60_000
#: How far a click's receipt may lie after the stamp of its record, as clocks differ; beyond that it is `time_ahead`.
AHEAD_MAX_MS: Final = 60_000
#: The longest grace: a month is over before the next one is.
GRACE_MAX_S: Final = 28 * 86_400
Time = Annotated[int, Meta(ge=0, lt=TIME_END_MS)]


_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: RFC 3339, and what clients make of it: no seconds, a comma, a zone without its colon. Python reads more of ISO 8601,
#: such as weeks and 24:00, and each version more than the one before.
_WRITTEN: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)"
)
#: RFC 3339 allows the leap second and small letters (5.6); Python knows neither.
_LEAP_SECOND: Final = re.compile(r":59:60(?:\.[0-9]+)?(?=[Z+-])")
_BEFORE_IT: Final = ":59:59.999"


def true_time_ms(clicked_at: int, sent_at: int | None, received_at: int, skew_min_ms: int = SKEW_MIN_MS) -> int:
    """When a click was made, in ms, corrected for the client's clock; never after its receipt.

    The skew is ``received_at`` minus ``sent_at``. Below ``skew_min_ms`` it is taken for transit time and ignored, so
    that every retry of a click has the same true time.
    """
    skew = 0 if sent_at is None else received_at - sent_at
    at = clicked_at + skew if abs(skew) >= skew_min_ms else clicked_at
    return max(0, min(at, received_at))


def parse_time(sent: int | str) -> int:
    """Milliseconds since 1970, rounded down, from such a number or from RFC 3339. Raises ``ValueError``.

    A leap second is the last millisecond before it ends, so that it stays in its day, and in its month.
    """
    at_ms = sent if isinstance(sent, int) and not isinstance(sent, bool) else -1
    if isinstance(sent, str) and len(sent) <= 40:
        try:
            text = _LEAP_SECOND.sub(_BEFORE_IT, sent.upper())
            if _WRITTEN.fullmatch(text):
                at_ms = (datetime.fromisoformat(text) - _1970) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            at_ms = -1
    if not 0 <= at_ms < TIME_END_MS:
        raise ValueError("must be RFC 3339 with a zone, or milliseconds since 1970, and before 2248")
    return at_ms
