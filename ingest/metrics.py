"""Every metric of ingest: a closed list.

Counters are plain integers that become samples when /metrics is read: 0.45 us a request, where prometheus_client's own
counters take 3.8, and 9.3 when several workers share them (docs/decisions/0022).
"""

from __future__ import annotations

import os
import pickle
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from ingest.contract.rejection import Reason

#: The folder where workers share their numbers, so that any of them can answer for all. Set by ingest/serve.py only.
METRICS_FOLDER: Final = "FLATTR_INGEST_METRICS_FOLDER"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CLICKS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)

#: Attribute of ``Metrics`` -> name and help text.
COUNTERS: Final = {
    "accepted": ("flattr_ingest_clicks_accepted", "Clicks answered 202: the broker or the spool has them."),
    "requests": ("flattr_ingest_requests", "Requests to the beacon."),
    "blocks": ("flattr_ingest_blocks", "Blocks acknowledged by the broker."),
    "blocks_failed": ("flattr_ingest_blocks_failed", "Blocks that the broker did not acknowledge in time."),
    "stamps_refused": (
        "flattr_ingest_stamps_refused",
        "Blocks that the broker refused for their timestamp: this host's clock or the broker's is wrong.",
    ),
    "producers": (
        "flattr_ingest_producers",
        "Producers started; more than one per worker means that one failed and was replaced.",
    ),
    "rejections_kept": ("flattr_ingest_rejections_kept", "Refused input sent to its topic."),
    "rejections_dropped": (
        "flattr_ingest_rejections_dropped",
        "Refused input that was only counted: over the rate or budget, or the broker was unavailable.",
    ),
    "spooled": (
        "flattr_ingest_clicks_spooled",
        "Clicks answered 202 because the spool has them, while the broker was unavailable.",
    ),
    "replayed": ("flattr_ingest_clicks_replayed", "Clicks sent from the spool to the broker."),
    "connections_ended": (
        "flattr_ingest_connections_ended",
        "Connections evicted because a budget had run out.",
    ),
    "spool_damaged_bytes": (
        "flattr_ingest_spool_damaged_bytes",
        "Invalid bytes in the spool: torn by a crash, and then never acknowledged, or damaged.",
    ),
    "spool_damaged_segments": (
        "flattr_ingest_spool_damaged_segments",
        "Spool segments with damaged bytes: intact records were sent, the files are preserved as .damaged.",
    ),
}
GAUGES: Final = {
    "queued_bytes": ("flattr_ingest_queued_bytes", "Bytes of clicks in memory, waiting for the broker."),
    "broker_up": ("flattr_ingest_broker_up", "Workers that are connected to the broker."),
    "connections": ("flattr_ingest_connections", "Open connections."),
    "held_bytes": ("flattr_ingest_held_bytes", "Bytes of unfinished and unanswered requests."),
    "spool_bytes": ("flattr_ingest_spool_bytes", "Bytes in the spool, not yet sent to the broker."),
    "spool_clicks": ("flattr_ingest_spool_clicks", "Clicks in the spool."),
}
REFUSED: Final = ("flattr_ingest_refused", "Items and requests refused, by reason.")
ANSWER_SECONDS: Final = ("flattr_ingest_answer_seconds", "Seconds from the complete request to its answer.")
BLOCK_CLICKS: Final = ("flattr_ingest_block_clicks", "Clicks in a block.")
NAMES: Final = tuple(name for name, _ in (*COUNTERS.values(), *GAUGES.values(), REFUSED, ANSWER_SECONDS, BLOCK_CLICKS))


class Histogram:
    """A histogram: counts by upper bound (not cumulative), and the sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def add(self, other: Histogram) -> None:
        """Add another process's histogram."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        """The histogram in Prometheus's cumulative form."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.sum)


class Metrics:
    """One service's metrics, in their own registry, so that two apps in one process do not share counts.

    With several workers, each writes its numbers to a folder every second, and the one that is scraped adds them up.
    The counters of a dead worker stay in the sum; its gauges do not.
    """

    def __init__(self) -> None:
        self.accepted = self.requests = self.blocks = self.blocks_failed = self.stamps_refused = self.producers = 0
        self.rejections_kept = self.rejections_dropped = 0
        self.spooled = self.replayed = self.spool_damaged_bytes = self.spool_damaged_segments = 0
        self.queued_bytes = self.broker_up = self.spool_bytes = self.spool_clicks = 0
        #: Returns open connections, the bytes they hold, and how many were evicted.
        self.connections_now: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        #: Every reason starts at 0, so that the rate of a rare one has no gaps.
        self.refused = dict.fromkeys(Reason, 0)
        self.answer_seconds = Histogram(_SECONDS)
        self.block_clicks = Histogram(_CLICKS)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        folder = os.environ.get(METRICS_FOLDER)
        self._folder = Path(folder) if folder else None

    def share(self) -> None:
        """Write this worker's numbers for the others."""
        if self._folder is not None:
            fresh = self._folder / f"{os.getpid()}.new"
            fresh.write_bytes(pickle.dumps(self.__getstate__()))
            fresh.replace(self._folder / str(os.getpid()))

    def collect(self) -> Iterator[Metric]:
        """The samples of all workers; those of others are up to a second old."""
        total = Metrics.__new__(Metrics)
        total.__dict__.update(pickle.loads(pickle.dumps(self.__getstate__())))  # noqa: S301 - our own
        for other in self._others():
            total._add(other)  # noqa: SLF001 - of the same class
        return total._samples()  # noqa: SLF001 - of the same class

    def __getstate__(self) -> dict[str, Any]:
        state = {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("registry", "_folder", "connections_now")
        }
        return state | dict(
            zip(("connections", "held_bytes", "connections_ended"), self.connections_now(), strict=True)
        )

    def _others(self) -> Iterator[dict[str, Any]]:
        for path in self._folder.iterdir() if self._folder else ():
            if path.name.isdigit() and int(path.name) != os.getpid():
                found: dict[str, Any] = pickle.loads(path.read_bytes())  # noqa: S301 - our own workers wrote it
                if not _lives(int(path.name)):
                    found |= dict.fromkeys(GAUGES, 0)
                yield found

    def _add(self, other: dict[str, Any]) -> None:
        for name in (*COUNTERS, *GAUGES):
            setattr(self, name, getattr(self, name) + other[name])
        for reason, count in other["refused"].items():
            self.refused[reason] += count
        self.answer_seconds.add(other["answer_seconds"])
        self.block_clicks.add(other["block_clicks"])

    def _samples(self) -> Iterator[Metric]:
        for attribute, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(self, attribute))
        for attribute, (name, text) in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=getattr(self, attribute))
        refused = CounterMetricFamily(*REFUSED, labels=["reason"])
        for reason, count in self.refused.items():
            refused.add_metric([reason.value], count)
        yield refused
        yield self.answer_seconds.family(*ANSWER_SECONDS)
        yield self.block_clicks.family(*BLOCK_CLICKS)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, but owned by another user
        return True
    return True
