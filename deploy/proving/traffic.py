"""Realistic traffic from a seed: who clicks what, how it is sent, and what goes wrong.

Pure: the same plan gives the same requests, byte for byte. If a clock is passed, clicks carry the member's time, as
pages send it, with a placeholder for the time of each sending. Creators, and each creator's things, are drawn from a
Zipf distribution. Some clicks are sent twice (a retry, with the same click id), some things are flattred twice (a
duplicate, with another click id), and some requests are malformed in ways that pages get wrong.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
BATCH_CLICKS_MAX: Final = 25
SKEW_MAX_MS: Final = 10 * 60 * 1000
#: Fields that a repeated click on the same thing does not share.
_OWN: Final[tuple[str, ...]] = ("click_id", "clicked_at")
#: A placeholder that is replaced with the time by the member's clock when the body is sent.
_SENT_AT: Final = "<sent_at>"
_GAP: Final = json.dumps(_SENT_AT).encode()


@dataclass(frozen=True)
class Traffic:
    """The mix of traffic. Shares are fractions of the clicks sent; ``batch_share`` is a fraction of the requests."""

    members: int = 1000
    creators: int = 100
    clicks: int = 20_000
    seed: int = 7
    things_per_creator: int = 40
    retry_share: float = 0.03
    duplicate_share: float = 0.05
    malformed_share: float = 0.01
    undo_share: float = 0.0
    #: Fraction of members whose clock is wrong by up to SKEW_MAX_MS either way; only used with a clock.
    skew_share: float = 0.0
    batch_share: float = 0.1
    zipf_exponent: float = 1.1


@dataclass(frozen=True)
class TrafficRequest:
    """One HTTP request, whose body has ``clicks`` clicks, well-formed or not.

    ``skew_ms`` is how far the member's clock is ahead.
    """

    member_id: str
    content_type: str
    body: bytes
    clicks: int
    skew_ms: int = 0

    def sent(self, now_ms: int) -> bytes:
        """The body for an attempt made now."""
        return self.body.replace(_GAP, b"%d" % (now_ms + self.skew_ms))


def member_name(number: int) -> str:
    """Such as member-0042."""
    return f"member-{number:04}"


def creator_name(number: int) -> str:
    """Such as creator-007."""
    return f"creator-{number:03}"


def requests(plan: Traffic, clock: Callable[[], int] | None = None) -> Iterator[TrafficRequest]:
    """Yield the requests of a plan in sending order, with ``plan.clicks`` clicks in all.

    With a ``clock`` (ms), each click has its time, shifted by its member's skew; then send ``TrafficRequest.sent``.
    """
    chance = random.Random(plan.seed)  # noqa: S311 - a simulation needs repeatable randomness
    activity = list(accumulate(_activity(plan.members, chance)))
    clicker = _Clicker(plan, chance, clock)
    left = plan.clicks
    while left > 0:
        size = min(left, _batch_size(plan, chance))
        member_id = member_name(_draw(activity, chance))
        clicks = [clicker.next_click(member_id) for _ in range(size)]
        yield _request(member_id, clicks, chance, clicker.skew_ms(member_id))
        left -= size


def requests_from(path: Path) -> Iterator[TrafficRequest]:
    """Yield one request per non-empty line of a file of clicks; ``member_id`` in the line is the member.

    A line that is not a click is sent as it is, for ingest to refuse.
    """
    for line in path.read_bytes().splitlines():
        if line.strip():
            yield TrafficRequest(_member_of(line), JSON, line, 1)


def _member_of(line: bytes) -> str:
    try:
        click = json.loads(line)
    except ValueError:
        return "unknown"
    member_id = click.get("member_id") if isinstance(click, dict) else None
    return member_id if isinstance(member_id, str) and member_id else "unknown"


def _batch_size(plan: Traffic, chance: random.Random) -> int:
    return chance.randint(2, BATCH_CLICKS_MAX) if chance.random() < plan.batch_share else 1


def _activity(members: int, chance: random.Random) -> Iterator[float]:
    # A few members click a lot, most occasionally, and one in fifty never.
    for _ in range(members):
        yield 0 if chance.random() < 0.02 else chance.lognormvariate(0, 1)


class _Clicker:
    """Makes each member's next click, remembering the last one for retries and duplicates."""

    def __init__(self, plan: Traffic, chance: random.Random, clock: Callable[[], int] | None) -> None:
        self.plan = plan
        self.chance = chance
        self.clock = clock
        self.creators = _zipf(plan.creators, plan.zipf_exponent)
        self.things = _zipf(plan.things_per_creator, plan.zipf_exponent)
        self.latest: dict[str, dict[str, str | int]] = {}
        self.skews_ms: dict[str, int] = {}

    def next_click(self, member_id: str) -> str:
        """JSON text of one click: new, a retry, a duplicate, an undo or malformed."""
        plan, dice = self.plan, self.chance.random()
        click = self._fresh() | self._time(member_id)
        if dice < plan.malformed_share:
            return _malformed(click, self.chance)
        before = self.latest.get(member_id)
        dice -= plan.malformed_share
        if before and dice < plan.retry_share:
            return json.dumps(before)
        dice -= plan.retry_share
        own = {name: click[name] for name in _OWN if name in click}
        if before and dice < plan.duplicate_share:
            click = {**before, "action": "flattr", **own}
        elif before and dice < plan.duplicate_share + plan.undo_share:
            click = {**before, "action": "undo", **own}
        self.latest[member_id] = click
        return json.dumps(click)

    def _time(self, member_id: str) -> dict[str, int | str]:
        if self.clock is None:
            return {}
        return {"clicked_at": self.clock() + self.skew_ms(member_id), "sent_at": _SENT_AT}

    def skew_ms(self, member_id: str) -> int:
        """How far a member's clock is ahead."""
        skew_ms = self.skews_ms.get(member_id)
        if skew_ms is None:
            off = random.Random(f"{self.plan.seed} {member_id}")  # noqa: S311 - repeatable, whatever was drawn before
            skew_ms = off.randint(-SKEW_MAX_MS, SKEW_MAX_MS) if off.random() < self.plan.skew_share else 0
            self.skews_ms[member_id] = skew_ms
        return skew_ms

    def _fresh(self) -> dict[str, str | int]:
        creator = creator_name(_draw(self.creators, self.chance))
        return {
            "click_id": str(uuid.UUID(int=self.chance.getrandbits(128), version=4)),
            "creator_id": creator,
            "thing": f"https://{creator}.example/posts/{_draw(self.things, self.chance)}",
            "site_id": f"site-{self.chance.randrange(10)}",
        }


def _request(member_id: str, clicks: list[str], chance: random.Random, skew_ms: int) -> TrafficRequest:
    if len(clicks) == 1:
        return TrafficRequest(member_id, JSON, clicks[0].encode(), 1, skew_ms)
    # Text that is not JSON invalidates one line of NDJSON, but a whole array.
    if chance.random() < 0.5 and all(_is_json(click) for click in clicks):
        return TrafficRequest(member_id, JSON, f"[{','.join(clicks)}]".encode(), len(clicks), skew_ms)
    return TrafficRequest(member_id, NDJSON, "\n".join(clicks).encode(), len(clicks), skew_ms)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _malformed(click: dict[str, str | int], chance: random.Random) -> str:
    return chance.choice(
        [
            json.dumps(click)[:-9],
            json.dumps({**click, "click_id": "not-a-uuid"}),
            json.dumps({**click, "creater_id": click["creator_id"]}),
            json.dumps({key: value for key, value in click.items() if key != "thing"}),
            json.dumps({**click, "creator_id": 17}),
            json.dumps({**click, "thing": "x" * 5000}),
        ]
    )


def _zipf(size: int, exponent: float) -> list[float]:
    return list(accumulate(1 / rank**exponent for rank in range(1, size + 1)))


def _draw(cumulative: list[float], chance: random.Random) -> int:
    return chance.choices(range(len(cumulative)), cum_weights=cumulative)[0]
