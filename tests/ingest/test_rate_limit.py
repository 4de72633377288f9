"""Limits hold over the workers of a host, are bounded in memory, and nobody who is busy gets a fresh burst."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

from deploy.stack.embedded import EmbeddedBroker
from ingest.admission.rate_limit import BucketTable, RateLimits, share_limits
from tests.ingest.conftest import make_topics
from tests.ingest.test_outage import Service


class Level:
    """A token bucket as a textbook has it: what is in it, and since when."""

    def __init__(self, per_s: float, burst: float) -> None:
        self.per_s, self.burst, self.level, self.at = per_s, burst, burst, 0.0

    def take(self, count: float, now_s: float) -> bool:
        self.level = min(self.burst, self.level + (now_s - self.at) * self.per_s)
        self.at = now_s
        if count > self.level + 1e-3:
            return False
        self.level -= count
        return True


def test_bucket_lets_pass_what_a_textbooks_does_and_says_how_long_to_wait() -> None:
    chance = random.Random(7)
    for _ in range(50):
        per_s, burst = chance.choice([0.5, 3.0, 100.0]), chance.choice([3.0, 10.0, 2000.0])
        buckets, level, now_s = RateLimits().callers, Level(per_s, burst), 0.0
        for _ in range(300):
            now_s += chance.expovariate(per_s)
            count = float(chance.randint(1, int(burst) + 1))
            wait_s = buckets.take(b"ann", count, per_s=per_s, burst=burst, now_s=now_s)
            assert (wait_s == 0) == level.take(count, now_s)
            if wait_s > 0 and count <= burst:
                now_s += wait_s
                assert level.take(count, now_s)
                assert buckets.take(b"ann", count, per_s=per_s, burst=burst, now_s=now_s) == 0


def passed(buckets: BucketTable, name: bytes, times: int, now_s: float = 1.0) -> int:
    return sum(buckets.take(name, 1, per_s=0.001, burst=3, now_s=now_s) == 0 for _ in range(times))


def test_whoever_is_busy_keeps_their_level_while_a_crowd_passes() -> None:
    callers = RateLimits().callers
    assert passed(callers, b"ann", 5) == 3
    # Each of the crowd is idle again a moment later: its places are free.
    for number in range(400_000):
        callers.take(b"%d" % number, 1, per_s=1000, burst=3, now_s=1 + number / 100)
    assert passed(callers, b"ann", 5) == 0


def test_crowd_of_busy_names_gets_no_fresh_bursts() -> None:
    strangers = RateLimits().strangers
    names = [b"%d" % number for number in range(40_000)]
    first = sum(passed(strangers, name, 3) for name in names)
    again = sum(passed(strangers, name, 3) for name in names)
    places = 8 * 2048
    assert places <= first <= 3 * places
    assert again == 0


def test_two_workers_take_from_one_bucket(tmp_path: Path) -> None:
    share_limits(tmp_path)
    one, other = RateLimits(tmp_path), RateLimits(tmp_path)
    assert [passed(one.callers, b"ann", 2), passed(other.callers, b"ann", 2), passed(one.callers, b"ann", 1)] == [
        2,
        1,
        0,
    ]
    assert passed(other.strangers, b"ann", 2) == 2
    assert passed(RateLimits().callers, b"ann", 2) == 2


def test_members_limit_holds_over_the_workers_of_a_host(
    tmp_path: Path, embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    make_topics(embedded_broker.address, topic)
    service = Service(
        tmp_path,
        embedded_broker,
        topic,
        token_keys,
        FLATTR_INGEST_WORKERS="2",
        FLATTR_INGEST_BATCH_MAX_CLICKS="3",
        FLATTR_INGEST_MEMBER_BURST_CLICKS="3",
        FLATTR_INGEST_MEMBER_CLICKS_PER_S="0.001",
    )
    with service.part:
        # Each on a connection of its own, which the kernel gives to either worker.
        statuses = [service.post(str(uuid.uuid4())) for _ in range(40)]
        assert sorted(set(statuses)) == [202, 429]
        assert statuses.count(202) == 3
        assert service.post(str(uuid.uuid4()), "eve") == 202
