"""The history of one click from all sources, in order of time, to explain a problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from deploy.proving.oracle.evidence import Line
from deploy.proving.oracle.verdict import Mismatch

#: Faults within this many ms of one of the click's events are part of its history.
_NEAR_MS: Final = 3_000
_CLICKS_MAX: Final = 5

#: A time in ms by the machine's clock, and what happened.
Event = tuple[int, str]


def smallest(
    problems: Iterable[Mismatch], attempts: Sequence[dict[str, Any]], lines: Sequence[Line], faults: Sequence[Event]
) -> list[str]:
    """The shortest history among the problems that name clicks, or else that of the first problem."""
    problems = list(problems)
    if not problems:
        return []
    told = [problem for problem in problems if problem.click_ids] or problems[:1]
    few = sorted(told, key=lambda problem: len(problem.click_ids))[:20]
    stories = [story(problem, attempts, lines, faults) for problem in few]
    return min(stories, key=len)


def story(
    problem: Mismatch, attempts: Sequence[dict[str, Any]], lines: Sequence[Line], faults: Sequence[Event]
) -> list[str]:
    """A problem's events: attempts to send its clicks, their positions in the log, and faults near them."""
    wanted = set(problem.click_ids[:_CLICKS_MAX])
    events: list[Event] = []
    for attempt in attempts:
        ids = [click_id for click_id in wanted if click_id in attempt["body"]]
        if ids:
            outcome = attempt.get("error") or f"answer {attempt['status']}"
            events.append((attempt["sent_at"], f"{attempt['member_id']} sends {', '.join(ids)} to {attempt['url']}"))
            events.append((attempt["answered_at"], f"{attempt['request']} try {attempt['attempt']}: {outcome}"))
    moments = [at for at, _ in events]
    events += [fault for fault in faults if any(abs(fault[0] - at) <= _NEAR_MS for at in moments)]
    told = [f"{problem.kind}: {problem.text}"]
    told += [f"  {_clock(at)}  {what}" for at, what in sorted(events)]
    told += [
        f"  in the log at {line.place}, stamped {_clock(line.stamp_ms)}: {line.click}"
        for line in lines
        if line.click_id in wanted
    ]
    return told


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
