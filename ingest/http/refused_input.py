"""Storing refused input, with tokens redacted and within budgets of bytes per day.

Members with a valid token have a common budget, and each a share of it. From all others only a few short samples are
stored, so that strangers cannot fill the disk; honest clients learn the reason from the answer. The two budgets are
separate, and hold across all workers of a host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from ingest.admission.rate_limit import RateLimits
from ingest.admission.validate import Caller
from ingest.contract.rejection import Rejection, encode_rejection
from ingest.http.redact import is_packed, redacted, redacted_text
from ingest.metrics import Metrics
from ingest.runtime.clock import Clock
from ingest.runtime.refusal import RETRYABLE, Refusal
from ingest.settings import IngestSettings

SAMPLE_MAX_BYTES: Final = 256
_TEXT_MAX: Final = 300
#: Redact this much input before cutting out the sample, so that a token that begins in the sample is seen whole.
_LOOKED_AT_BYTES: Final = 8 * SAMPLE_MAX_BYTES
#: What a record costs on disk besides its own bytes: Kafka's framing and index, and the row's other columns.
_RECORD_COSTS_BYTES: Final = 150
_DAY_S: Final = 86_400
_MB: Final = 1_000_000
#: The fraction of a day's budget available as a burst. The rest refills evenly, so no 24 hours exceed the budget.
_AT_ONCE: Final = 1 / 8


class RefusedInput:
    """Selects the refused input to store."""

    def __init__(
        self,
        settings: IngestSettings,
        limits: RateLimits,
        metrics: Metrics,
        clock: Clock,
        keep: Callable[[Rejection], bool],
    ) -> None:
        """``keep`` sends a rejection to its topic; it returns False when it cannot."""
        self._settings = settings
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._keep = keep

    def take(self, refusal: Refusal, raw: bytes, caller: Caller, *, packed: bool) -> None:
        """Store one refused input if the budgets allow it; without its bytes if they are ``packed`` (compressed).

        Retryable refusals are not stored, since the input comes again.
        """
        if refusal.reason in RETRYABLE:
            return
        if packed or is_packed(raw):
            raw = b""
        now_s = time.monotonic()
        rejection = self._known(refusal, raw, caller, now_s) if caller.member_id else self._sample(refusal, raw, now_s)
        if rejection is None or not self._keep(rejection):
            self._metrics.rejections_dropped += 1

    def _known(self, refusal: Refusal, raw: bytes, caller: Caller, now_s: float) -> Rejection | None:
        settings, budgets = self._settings, self._limits.budgets
        per_s = settings.rejected_per_s
        if not per_s or budgets.take(b"records", 1, per_s=per_s, burst=max(per_s, 1), now_s=now_s):
            return None
        seen = raw[: settings.rejected_raw_max_bytes]
        share = _a_day(settings.rejected_member_mb_a_day * _MB)
        whose = b"r" + caller.member_id.encode()
        rejection = self._rejection(refusal, seen, caller, cut=len(raw) > len(seen))
        size = _size(rejection)
        if self._limits.callers.take(whose, size, **share, now_s=now_s):
            return None
        if budgets.take(b"known", size, **_a_day(settings.rejected_mb_a_day * _MB), now_s=now_s):
            return None
        # Last, for it takes milliseconds: who has used up their share must not cost the process any. It only shortens.
        return msgspec.structs.replace(rejection, raw=redacted(seen))

    def _sample(self, refusal: Refusal, raw: bytes, now_s: float) -> Rejection | None:
        settings, budgets = self._settings, self._limits.budgets
        per_min = settings.rejected_samples_per_min
        if not per_min or budgets.take(b"samples", 1, per_s=per_min / 60, burst=per_min, now_s=now_s):
            return None
        retained = redacted(raw[:_LOOKED_AT_BYTES])[:SAMPLE_MAX_BYTES]
        rejection = self._rejection(refusal, retained, Caller(""), cut=len(raw) > SAMPLE_MAX_BYTES)
        if budgets.take(b"unknown", _size(rejection), **_a_day(settings.rejected_samples_mb_a_day * _MB), now_s=now_s):
            return None
        return rejection

    def _rejection(self, refusal: Refusal, raw: bytes, caller: Caller, *, cut: bool) -> Rejection:
        return Rejection(
            reason=refusal.reason.value,
            detail=redacted_text(refusal.detail)[:_TEXT_MAX],
            rejected_at=self._clock(),
            raw=raw,
            item=refusal.item,
            field=redacted_text(refusal.field)[:_TEXT_MAX],
            member_id=caller.member_id,
            site_id=caller.site_id,
            cut=cut,
        )


def _size(rejection: Rejection) -> int:
    return len(encode_rejection(rejection)) + _RECORD_COSTS_BYTES


def _a_day(size: float) -> dict[str, float]:
    """Rate and burst of a bucket that yields at most ``size`` in any 24 hours."""
    return {"per_s": size * (1 - _AT_ONCE) / _DAY_S, "burst": size * _AT_ONCE}
