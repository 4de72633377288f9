"""Runs a load plan in its processes and merges their reports."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
from hdrh.histogram import HdrHistogram

from deploy.proving.load.plan import LoadPlan
from deploy.proving.load.worker import HISTOGRAM, Report
from deploy.stack.embedded import ROOT, die_with_parent

_QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}


class LoadFailed(RuntimeError):
    """A load process exited early; the message contains its last output."""


@dataclass
class LoadResult:
    """The result of all workers. Latencies are in ms."""

    requests: int
    answered: int
    given_up: int
    retries: int
    clicks_sent: int
    clicks_accepted: int
    clicks_refused: int
    seconds: float
    statuses: dict[int, int]
    #: From when a request was due (open loop) or begun until it was accepted. In a closed loop, corrected for
    #: coordinated omission: the requests that a slow answer prevented are added.
    accepted_ms: dict[str, float]
    #: A single attempt as measured by the client, uncorrected.
    attempt_ms: dict[str, float]

    @property
    def requests_per_s(self) -> float:
        """Requests with a final answer, per second of sending."""
        return self.answered / self.seconds if self.seconds else 0.0


@dataclass
class Load:
    """A running load; a context manager that starts and stops it."""

    plan: LoadPlan
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _reports: dict[int, Report] = field(default_factory=dict)

    def start(self) -> Self:
        """Start the processes."""
        for number in range(self.plan.processes):
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "deploy.proving.load.worker", str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl, no locks taken
            )
            self._processes.append(process)
            if process.stdin is not None:
                process.stdin.write(msgspec.json.encode(self.plan) + b"\n")
                process.stdin.flush()
            thread = threading.Thread(target=self._listen, args=(number, process), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def running(self) -> bool:
        """Whether any process is still sending or waiting for answers."""
        return any(process.poll() is None for process in self._processes)

    def now(self) -> Report:
        """The sum of the latest reports."""
        return added(list(self._reports.values()))

    def stop(self) -> None:
        """Send nothing new; requests in flight are still answered."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()

    def result(self) -> LoadResult:
        """Wait for the end and merge the reports. Raises ``LoadFailed``."""
        for process, thread in zip(self._processes, self._threads, strict=True):
            code = process.wait()
            thread.join()
            if process.stdin is not None:
                process.stdin.close()
            if process.stdout is not None:
                process.stdout.close()
            if code != 0:
                raise LoadFailed(f"a load process exited with code {code}; see its traceback above")
        return summed(list(self._reports.values()), closed=self.plan.rate is None)

    def kill(self) -> None:
        """Kill the processes."""
        for process in self._processes:
            process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.stop()
        for process in self._processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def _listen(self, number: int, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        for line in process.stdout:
            self._reports[number] = msgspec.json.decode(line, type=Report)


def run_load(plan: LoadPlan, on_report: Callable[[Report], None] = lambda _: None, every_s: float = 0.25) -> LoadResult:
    """Run a plan to its end. Raises ``LoadFailed``."""
    load = Load(plan).start()
    pause = threading.Event()
    try:
        while load.running():
            on_report(load.now())
            pause.wait(every_s)
        return load.result()
    except KeyboardInterrupt:
        load.stop()
        return load.result()


def added(reports: list[Report]) -> Report:
    """The sum of several workers' reports, without histograms."""
    total = Report()
    for name in ("sent", "answered", "given_up", "retries", "clicks_sent", "clicks_accepted", "clicks_refused"):
        setattr(total, name, sum(getattr(report, name) for report in reports))
    total.waiting = sum(report.waiting for report in reports)
    total.seconds = max((report.seconds for report in reports), default=0.0)
    statuses: Counter[int] = Counter()
    for report in reports:
        statuses.update(report.statuses)
    total.statuses = dict(statuses)
    return total


def summed(reports: list[Report], *, closed: bool) -> LoadResult:
    """The final result of several workers; ``closed`` applies the correction of a closed loop."""
    total = added(reports)
    accepted = _merged([report.accepted_us for report in reports])
    return LoadResult(
        requests=total.sent,
        answered=total.answered,
        given_up=total.given_up,
        retries=total.retries,
        clicks_sent=total.clicks_sent,
        clicks_accepted=total.clicks_accepted,
        clicks_refused=total.clicks_refused,
        seconds=round(total.seconds, 3),
        statuses=dict(sorted(total.statuses.items())),
        accepted_ms=quantiles(corrected(accepted) if closed else accepted),
        attempt_ms=quantiles(_merged([report.attempt_us for report in reports])),
    )


def corrected(histogram: Any) -> Any:  # noqa: ANN401 - hdrh has no types
    """A closed loop's histogram, corrected for coordinated omission (Tene, HdrHistogram).

    While a connection waits for a slow answer it sends nothing, so the delay would be measured once instead of once per
    request that would have been sent meanwhile. The expected interval is the median latency.
    """
    interval = histogram.get_value_at_percentile(50)
    full = HdrHistogram(*HISTOGRAM)
    for item in histogram.get_recorded_iterator():
        full.record_corrected_value(item.value_iterated_to, interval, item.count_added_in_this_iter_step)
    return full


def quantiles(histogram: Any) -> dict[str, float]:  # noqa: ANN401 - hdrh has no types
    """Latencies in ms by quantile; empty when nothing was measured."""
    if not histogram.get_total_count():
        return {}
    return {name: histogram.get_value_at_percentile(percent) / 1000 for name, percent in _QUANTILES.items()}


def _merged(encoded: list[str]) -> Any:  # noqa: ANN401 - hdrh has no types
    whole = HdrHistogram(*HISTOGRAM)
    for text in encoded:
        if text:
            whole.decode_and_add(text)
    return whole
