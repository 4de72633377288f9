"""`flattr bench fuzz` in short: thousands of hostile requests, ahead of each other, at a real worker and broker."""

from __future__ import annotations

import itertools

from benchmarks.fuzz import Found, run
from benchmarks.fuzz_inputs import Fuzz


def test_thousands_of_hostile_requests_meet_reasons_and_lose_nothing() -> None:
    figures = run(inputs=5000, seed=7)
    assert figures["examples"] == []
    assert (figures["status_5xx"], figures["without_reason"], figures["unanswered"]) == (0, 0, 0)
    assert figures["accepted"] == figures["in_log"] > 2000
    assert len(figures["reasons"]) >= 15
    assert sum(figures["answers"].values()) >= 5000


def test_same_seed_is_the_same_requests() -> None:
    first, again, other = (Fuzz(seed, b"s" * 32, "kid", 1_795_000_000_000).requests(300) for seed in (1, 1, 2))
    assert all(one == same for one, same in zip(first, again, strict=True))
    assert next(other) not in itertools.islice(Fuzz(1, b"s" * 32, "kid", 1_795_000_000_000).requests(300), 300)


def test_answers_that_must_not_be_are_counted_and_shown() -> None:
    found = Found()
    found.take(b"r", 500, b"Internal Server Error")
    found.take(b"r", 400, b'{"reason": "no such reason"}')
    found.take(b"r", 202, b'{"receipts": [], "refused": [{"item": 0}]}')
    found.take(b"r", 400, b'{"reason": "body_empty"}')
    assert (found.statuses[500], found.without_reason, len(found.examples)) == (1, 3, 4)
