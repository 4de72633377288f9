"""One process of a load run: ``python -m deploy.proving.load.worker NUMBER``, with the plan as JSON on stdin.

It sends until its time is up or stdin is closed, then waits until every request has its final answer. It reports a
JSON line on stdout every quarter of a second; the last one contains the histograms.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from hdrh.histogram import HdrHistogram

from deploy.proving.load.answers import AnswersFile, Attempt
from deploy.proving.load.client import RETRY_STATUSES, Pool, Reply, post
from deploy.proving.load.plan import LoadPlan
from deploy.proving.traffic import TrafficRequest, requests
from ingest.runtime.backoff import backoff_s
from ingest.runtime.clock import clock_from
from ingest.runtime.tokens import issue

REPORT_EVERY_S: Final = 0.25
#: Up to a minute, in microseconds, with three significant digits.
HISTOGRAM: Final = (1, 60_000_000, 3)
#: Retryable refusals of single items: the page sends the request again.
_RETRY_REASONS: Final = frozenset({"broker_unavailable", "queue_full", "draining", "bodies_full", "connections_full"})
_BACKOFF_MAX_S: Final = 2.0
_TOKEN_VALID_S: Final = 86_400


class Report(msgspec.Struct):
    """A worker's report so far. Counts are of requests, unless they are named clicks."""

    sent: int = 0
    answered: int = 0
    given_up: int = 0
    retries: int = 0
    clicks_sent: int = 0
    clicks_accepted: int = 0
    clicks_refused: int = 0
    waiting: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = {}
    #: Base64 of HDR histograms in microseconds, in the last report only: from due until accepted, including retries and
    #: queueing; and of single attempts as measured by the client.
    accepted_us: str = ""
    attempt_us: str = ""


class _Item(msgspec.Struct):
    item: int = -1
    reason: str = ""


class _Body(msgspec.Struct):
    receipts: list[_Item] = []
    refused: list[_Item] = []


class _Job:
    """One request until its final answer."""

    __slots__ = ("attempt", "body", "due", "name", "request", "sent", "url")

    def __init__(self, name: str, request: TrafficRequest, due: float) -> None:
        self.name = name
        self.request = request
        self.due = due
        self.attempt = 0
        self.sent = 0.0
        self.body = b""
        self.url = ""


class LoadWorker:
    """Sends one process's share of a plan's traffic."""

    def __init__(self, plan: LoadPlan, number: int, answers: AnswersFile | None) -> None:
        self.plan = plan
        self.report = Report()
        self._number = number
        self._answers = answers
        self._clock = clock_from(plan.clock)
        self._requests = requests(plan.traffic(number), self._clock)
        self._pool = Pool(plan.urls, max(1, plan.connections // plan.processes), plan.timeout_s)
        self._tokens: dict[str, tuple[str, int]] = {}
        self._chance = random.Random(f"backoff {plan.seed} {number}")  # noqa: S311 - repeatable
        self._accepted_us = HdrHistogram(*HISTOGRAM)
        self._attempt_us = HdrHistogram(*HISTOGRAM)
        self._body = msgspec.json.Decoder(_Body)
        self._statuses: Counter[int] = Counter()
        self._stopped = asyncio.Event()
        self._open = 0
        self._all_answered = asyncio.Event()

    def stop(self) -> None:
        """Send nothing new."""
        self._stopped.set()

    async def run(self) -> None:
        """Send, then wait for all answers."""
        started = time.perf_counter()
        self._pool.open()
        if self.plan.seconds is not None:
            asyncio.get_running_loop().call_later(self.plan.seconds, self._stopped.set)
        reporter = asyncio.create_task(self._keep_reporting(started))
        if self.plan.rate is None:
            for _ in range(max(1, self.plan.connections // self.plan.processes)):
                self._begin(time.perf_counter())
            await self._stopped.wait()
        else:
            await self._keep_rate(started, self.plan.due_times(self._number))
        self.report.seconds = time.perf_counter() - started
        if self._open:
            self._all_answered.clear()
            await self._all_answered.wait()
        reporter.cancel()
        await self._pool.close()
        self._say(last=True)

    async def _keep_rate(self, started: float, due_times: Iterator[float]) -> None:
        due = started + next(due_times)
        while not self._stopped.is_set():
            now = time.perf_counter()
            while due <= now:
                self._begin(due)
                due = started + next(due_times)
            try:
                await asyncio.wait_for(self._stopped.wait(), max(0.001, due - time.perf_counter()))
            except TimeoutError:
                continue

    def _begin(self, due: float) -> None:
        request = next(self._requests)
        job = _Job(f"{self._number}-{self.report.sent}", request, due)
        self.report.sent += 1
        self.report.clicks_sent += request.clicks
        self._open += 1
        self._send(job)

    def _send(self, job: _Job) -> None:
        self._pool.send(lambda url: self._bytes(job, url), lambda reply: self._replied(job, reply))

    def _bytes(self, job: _Job, url: str) -> bytes | None:
        now = time.perf_counter()
        if now - job.due > self.plan.give_up_s:
            self.report.given_up += 1
            self._end()
            return None
        job.sent, job.url = now, url
        job.attempt += 1
        request = job.request
        job.body = request.sent(self._clock())
        token = self._token(request.member_id)
        return post(url, job.body, {"content-type": request.content_type, "authorization": f"Bearer {token}"})

    def _replied(self, job: _Job, reply: Reply) -> None:
        now = time.perf_counter()
        self._statuses[reply.status] += 1
        self._attempt_us.record_value(_microseconds(now - job.sent))
        body = self._body.decode(reply.body) if reply.status == 202 else _Body()
        self._write(job, reply, now)
        again = reply.status in RETRY_STATUSES or any(item.reason in _RETRY_REASONS for item in body.refused)
        if again:
            self.report.retries += 1
            pause_s = backoff_s(job.attempt, first_s=0.05, max_s=_BACKOFF_MAX_S, chance=self._chance)
            asyncio.get_running_loop().call_later(reply.retry_after_s or pause_s, self._send, job)
            return
        self.report.answered += 1
        self.report.clicks_accepted += len(body.receipts)
        self.report.clicks_refused += job.request.clicks - len(body.receipts)
        if reply.status == 202:
            self._accepted_us.record_value(_microseconds(now - job.due))
        self._end()

    def _end(self) -> None:
        self._open -= 1
        if self.plan.rate is None and not self._stopped.is_set():
            self._begin(time.perf_counter())
        elif self._open == 0:
            self._all_answered.set()

    def _token(self, member_id: str) -> str:
        """A member's token, valid for a day by the clock and renewed after half a day."""
        now_ms = self._clock()
        known = self._tokens.get(member_id)
        if known is None or not known[1] <= now_ms < known[1] + _TOKEN_VALID_S * 500:
            token = issue(
                Path(self.plan.token_keys),
                member_id,
                audience=self.plan.audience,
                now_ms=now_ms,
                valid_s=_TOKEN_VALID_S,
            )
            known = self._tokens[member_id] = (token, now_ms)
        return known[0]

    def _write(self, job: _Job, reply: Reply, now: float) -> None:
        if self._answers is None:
            return
        answered_at = time.time_ns() // 1_000_000
        self._answers.append(
            Attempt(
                request=job.name,
                attempt=job.attempt,
                member_id=job.request.member_id,
                url=job.url,
                sent_at=answered_at - round((now - job.sent) * 1000),
                answered_at=answered_at,
                status=reply.status,
                body=job.body.decode(errors="replace"),
                answer=msgspec.Raw(reply.body if reply.status and reply.body else b"null"),
                error=reply.error,
            )
        )

    async def _keep_reporting(self, started: float) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            if not self._stopped.is_set():
                self.report.seconds = time.perf_counter() - started
            if self._answers is not None:
                self._answers.flush()
            self._say()

    def _say(self, *, last: bool = False) -> None:
        self.report.statuses = dict(self._statuses)
        self.report.waiting = self._open
        if last:
            self.report.accepted_us = self._accepted_us.encode().decode()
            self.report.attempt_us = self._attempt_us.encode().decode()
        sys.stdout.buffer.write(msgspec.json.encode(self.report) + b"\n")
        sys.stdout.buffer.flush()


def _microseconds(seconds: float) -> int:
    return min(max(1, int(seconds * 1e6)), HISTOGRAM[1])


async def _run(plan: LoadPlan, number: int) -> None:
    loop = asyncio.get_running_loop()
    with AnswersFile(Path(plan.answers) / f"answers-{number}.ndjson") if plan.answers else nullcontext() as answers:
        worker = LoadWorker(plan, number, answers)

        def input_closed() -> None:
            loop.remove_reader(sys.stdin)
            worker.stop()

        loop.add_reader(sys.stdin, input_closed)
        await worker.run()


def main() -> None:
    """Read the plan from stdin and run it."""
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=LoadPlan)
    uvloop.run(_run(plan, int(sys.argv[1])))


if __name__ == "__main__":
    main()
