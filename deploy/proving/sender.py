"""Send clicks to ingest over HTTP as a page's beacons would: many connections, and retries until an answer comes.

A retry sends the same clicks with the same ids, so it can do no harm: a click whose
answer got lost is counted once all the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from deploy.proving.traffic import Request
from ingest.runtime.clock import system_clock

CONNECTIONS: Final = 32
TRIES_MAX: Final = 30
#: What a client waits for when the answer names no time.
RETRY_AFTER_S: Final = 0.5


class SendFailed(RuntimeError):
    """Ingest took a request by no number of tries."""


@dataclass
class Answers:
    """What came back, in clicks."""

    sent: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    retries: int = 0

    def add(self, request: Request, body: dict[str, Any]) -> None:
        """Take one final answer: receipts and refusals by item, or one reason for the whole request."""
        self.sent += request.clicks
        accepted = len(body.get("receipts", ()))
        reasons = [refusal["reason"] for refusal in body.get("refused", ())]
        self.accepted += accepted
        self.refused.update(reasons)
        self.refused[body.get("reason", "unknown")] += request.clicks - accepted - len(reasons)


async def send(
    requests: Iterable[Request],
    url: str,
    token_of: Callable[[str], str],
    on_answer: Callable[[Answers], None] = lambda _: None,
) -> Answers:
    """Send all requests to ``url`` over CONNECTIONS connections. Raises ``SendFailed``."""
    answers = Answers()
    todo = iter(requests)

    async def worker(session: aiohttp.ClientSession) -> None:
        for request in todo:
            answers.add(request, await _send_one(session, url, request, token_of(request.member_id), answers))
            on_answer(answers)

    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker(session))
    answers.refused = +answers.refused
    return answers


async def _send_one(
    session: aiohttp.ClientSession, url: str, request: Request, token: str, answers: Answers
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": request.content_type}
    problem = ""
    for _ in range(TRIES_MAX):
        try:
            async with session.post(url, data=request.sent(system_clock()), headers=headers) as answer:
                if answer.status not in (429, 500, 502, 503, 504):
                    body: dict[str, Any] = await answer.json(content_type=None)
                    return body
                problem = f"{answer.status} {(await answer.text())[:200]}"
                wait_s = float(answer.headers.get("Retry-After", RETRY_AFTER_S))
        except (aiohttp.ClientError, TimeoutError) as error:
            problem, wait_s = repr(error), RETRY_AFTER_S
        answers.retries += 1
        await asyncio.sleep(wait_s)
    raise SendFailed(f"ingest at {url} did not take a click in {TRIES_MAX} tries; the last answer: {problem}")
