from __future__ import annotations

import asyncio

import pytest

from warehouse.api.cache import ENTRY_BYTES, CoalescingCache


class Source:
    def __init__(self, refresh_after_s: float | None = None) -> None:
        self.now_s = 0.0
        self.calls = 0
        self.cached: CoalescingCache[str, int] = CoalescingCache(
            ttl_s=1,
            bytes_max=2 * (ENTRY_BYTES + 10),
            weigh=lambda _, __: 10,
            monotonic=lambda: self.now_s,
            refresh_after_s=refresh_after_s,
        )

    async def fetch(self) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        return self.calls

    async def fail(self) -> int:
        await self.fetch()
        raise LookupError

    async def settled(self) -> None:
        """Let what runs end: every fetch here takes one turn of the loop."""
        for _ in range(4):
            await asyncio.sleep(0)

    async def get(self, key: str) -> int:
        return await self.cached.get(key, self.fetch)


async def test_value_is_fetched_anew_only_when_it_is_too_old() -> None:
    source = Source()
    assert [await source.get("a"), await source.get("a")] == [1, 1]
    source.now_s = 1.01
    assert await source.get("a") == 2


async def test_value_of_half_its_time_is_answered_at_once_and_fetched_meanwhile() -> None:
    source = Source(refresh_after_s=0.5)
    assert await source.get("a") == 1
    source.now_s = 0.6
    assert [await source.get("a"), await source.get("a")] == [1, 1]
    await source.settled()
    assert (await source.get("a"), source.calls) == (2, 2)


async def test_value_fetched_ahead_is_never_older_than_it_says() -> None:
    source = Source(refresh_after_s=0.5)
    await source.get("a")
    source.now_s = 0.6
    await source.get("a")
    await asyncio.sleep(0)
    # The fetch asked at 0.6, however late it ends: at 1.61 its value is too old.
    source.now_s = 1.55
    await source.settled()
    assert await source.get("a") == 2
    source.now_s = 1.61
    assert await source.get("a") == 3


async def test_fetch_ahead_that_fails_leaves_the_value_its_time_and_not_longer() -> None:
    source = Source(refresh_after_s=0.5)
    await source.get("a")
    source.now_s = 0.9
    assert await source.cached.get("a", source.fail) == 1
    await source.settled()
    assert await source.cached.get("a", source.fail) == 1
    source.now_s = 1.01
    with pytest.raises(LookupError):
        await source.cached.get("a", source.fail)


async def test_all_who_ask_at_a_time_share_one_fetch() -> None:
    source = Source()
    assert await asyncio.gather(*(source.get("a") for _ in range(20))) == [1] * 20


async def test_error_reaches_all_who_ask_and_is_not_kept() -> None:
    source = Source()
    answers = await asyncio.gather(*(source.cached.get("a", source.fail) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError] * 3
    assert await source.get("a") == 2


async def test_one_who_goes_away_leaves_the_fetch_to_the_others() -> None:
    source = Source()
    gone, stays = asyncio.create_task(source.get("a")), asyncio.create_task(source.get("a"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 1
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_oldest_value_leaves_when_there_are_too_many() -> None:
    source = Source()
    for key in "abc":
        await source.get(key)
    assert await source.get("c") == 3
    assert await source.get("a") == 4
