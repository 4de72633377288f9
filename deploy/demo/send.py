"""Sends clicks to ingest over HTTP as pages do: over many connections, retrying until there is an answer.

A retry sends the same clicks with the same ids, so a click whose answer was lost is still counted once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from deploy.proving.load.client import RETRY_STATUSES, Pool, post
from deploy.proving.traffic import TrafficRequest
from ingest.runtime.backoff import backoff_s
from ingest.runtime.clock import system_clock

CONNECTIONS: Final = 32
TRIES_MAX: Final = 30
_TIMEOUT_S: Final = 10.0


class SendFailed(RuntimeError):
    """Ingest did not accept a request in any of the attempts."""


@dataclass
class Answers:
    """The answers so far, counted in clicks."""

    sent: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    retries: int = 0

    def add(self, request: TrafficRequest, body: dict[str, Any]) -> None:
        """Add one final answer: receipts and refusals by item, or one reason for the whole request."""
        self.sent += request.clicks
        accepted = len(body.get("receipts", ()))
        reasons = [refusal["reason"] for refusal in body.get("refused", ())]
        self.accepted += accepted
        self.refused.update(reasons)
        self.refused[body.get("reason", "unknown")] += request.clicks - accepted - len(reasons)


async def send(
    requests: Iterable[TrafficRequest],
    url: str,
    token_of: Callable[[str], str],
    on_answer: Callable[[Answers], None] = lambda _: None,
) -> Answers:
    """Send all requests to ``url`` over CONNECTIONS connections. Raises ``SendFailed``."""
    answers = Answers()
    todo = iter(requests)
    pool = Pool([url], CONNECTIONS, _TIMEOUT_S)

    async def one_after_the_other() -> None:
        for request in todo:
            answers.add(request, await _send_one(pool, request, token_of(request.member_id), answers))
            on_answer(answers)

    pool.open()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(one_after_the_other())
    finally:
        await pool.close()
    answers.refused = +answers.refused
    return answers


async def _send_one(pool: Pool, request: TrafficRequest, token: str, answers: Answers) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}", "content-type": request.content_type}
    for attempt in range(TRIES_MAX):
        reply = await pool.request(lambda url: post(url, request.sent(system_clock()), headers))
        if reply.status not in RETRY_STATUSES:
            body: dict[str, Any] = msgspec.json.decode(reply.body)
            return body
        answers.retries += 1
        await asyncio.sleep(reply.retry_after_s or backoff_s(attempt, first_s=0.1, max_s=2))
    problem = reply.error or f"{reply.status} {reply.body[:200].decode(errors='replace')}"
    raise SendFailed(f"ingest did not accept a request in {TRIES_MAX} attempts; last answer: {problem}")
