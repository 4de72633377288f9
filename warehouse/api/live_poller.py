"""The single poller behind all live events. It polls only while there are listeners, and only for their topics.

Every quarter of a second it reads the progress of the partitions, a dozen rows. Only if that has moved does it query
which creators changed, and of those only the ones that have listeners.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import structlog

from ingest.contract.month import month_of, month_text
from warehouse.api import service_health
from warehouse.api.live_board import PULSE, TOP, Board, creator_of, creator_topic
from warehouse.api.query_runner import QueryRunner
from warehouse.api.shapes import AsOf
from warehouse.counts import counts as queries
from warehouse.counts import rankings
from warehouse.counts.lag import Lag, read_lag
from warehouse.payout import estimate
from warehouse.payout.close.gate import Tallies, read_tallies
from warehouse.storage.errors import WarehouseError

log = structlog.get_logger()

#: A row's changed_at is when its insert began, but it becomes visible when the insert ends. No insert takes this long.
_OVERLAP_MS: Final = 5000
_PULSE_S: Final = 1.0
_SERVICES_S: Final = 3.0
_RATE_WINDOW_S: Final = 10.0
TOP_LINES: Final = 10
#: A top list reads a month of counts, so it may take at most this share of one thread's time.
_TOP_SHARE: Final = 0.1


class Rate:
    """Clicks per second over a sliding window, from a rising total."""

    def __init__(self, window_s: float = _RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._totals: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, total: int) -> float | None:
        """Add a total and return the rate, None until there are two. A falling total means a new month: start over."""
        if self._totals and total < self._totals[-1][1]:
            self._totals.clear()
        self._totals.append((at_s, total))
        while len(self._totals) > 2 and self._totals[1][0] <= at_s - self._window_s:
            self._totals.popleft()
        first_s, first = self._totals[0]
        return (total - first) / (at_s - first_s) if at_s > first_s else None


class LivePoller:
    """Polls the warehouse and publishes to the board. One per app; ``run`` never returns."""

    def __init__(self, reads: QueryRunner, board: Board) -> None:
        self._reads = reads
        self._board = board
        self._month = 0
        self._since_ms = 0
        self._positions: tuple[int | None, ...] = ()
        self._quarantine = 0
        self._counts: dict[str, int] = {}
        self._rate = Rate()
        self._top_is_old = False
        self._pulse_at_s = self._top_at_s = self._services_at_s = 0.0
        self._services: list[service_health.ServiceHealth] = []
        self._away = False

    async def run(self) -> None:
        """Poll while there are listeners, until cancelled."""
        while True:
            await self._board.listened()
            started = time.monotonic()
            try:
                await self.look()
                self._away = False
            except WarehouseError as error:
                if not self._away:
                    log.warning("live events wait for the warehouse", error=str(error))
                self._away = True
            pause_s = self._reads.settings.api_poll_ms / 1000
            # When queries are slow there is no time left to sleep; yield to the event loop all the same.
            await asyncio.sleep(max(0.02, pause_s - (time.monotonic() - started)))

    async def look(self) -> None:
        """Poll once. Raises ``WarehouseError``; events published before that remain valid."""
        reads = self._reads
        number = await reads.run(queries.server_now_ms)
        lag = await reads.run(read_lag, reads.clock())
        month = month_of(lag.now_ms)
        if month != self._month:
            self._begin(month)
        positions = tuple(part.position for part in lag.partitions)
        quarantine = await reads.flagged(month)
        # A flag or release changes counts without writing any: every creator with listeners is queried.
        moved = positions != self._positions or quarantine != self._quarantine
        await self._tell_creators(number, lag, moved=moved, quarantine=quarantine)
        await self._tell_top(number, lag, moved=moved, quarantine=quarantine)
        await self._tell_pulse(number, lag)
        # Last, so that after a failed poll the next one starts again from the same state.
        if moved:
            self._positions, self._since_ms, self._quarantine = positions, number, quarantine

    def _begin(self, month: int) -> None:
        self._month, self._since_ms, self._positions = month, 0, ()
        self._counts.clear()
        self._board.forget()

    async def _tell_creators(self, number: int, lag: Lag, *, moved: bool, quarantine: int) -> None:
        listened = {creator for topic in self._board.topics if (creator := creator_of(topic)) is not None}
        asked = {creator for topic in self._board.silent() if (creator := creator_of(topic)) is not None}
        silent = set(asked)
        if quarantine != self._quarantine:
            asked |= listened
        elif moved and listened:
            since_ms = max(0, self._since_ms - _OVERLAP_MS)
            asked |= listened & await self._reads.run(queries.changed_creators, self._month, since_ms)
        found = await self._reads.run(queries.creator_counts, self._month, sorted(asked), quarantine)
        counts = {creator_id: count.flattrs for creator_id, count in found.items()}
        beside = AsOf.plain(lag)
        for creator_id, flattrs in counts.items():
            if creator_id in silent or self._counts.get(creator_id) != flattrs:
                state = {"creator_id": creator_id, "month": month_text(self._month), "flattrs": flattrs, **beside}
                self._board.say(number, creator_topic(creator_id), state)
        self._counts = {creator: count for creator, count in {**self._counts, **counts}.items() if creator in listened}

    async def _tell_top(self, number: int, lag: Lag, *, moved: bool, quarantine: int) -> None:
        started = time.monotonic()
        # A change that comes too soon after the last list is published with the next one.
        self._top_is_old |= moved
        due = self._top_is_old and started >= self._top_at_s
        if TOP not in self._board.topics or not (due or TOP in self._board.silent()):
            return
        creators = await self._reads.run(rankings.top_creators, self._month, TOP_LINES, flagged=quarantine)
        things = await self._reads.run(rankings.top_things, self._month, TOP_LINES, flagged=quarantine)
        total = await self._reads.run(rankings.month_total, self._month, flagged=quarantine)
        state = {
            "month": month_text(self._month),
            "flattrs": total.flattrs,
            "quarantined": total.quarantined,
            "creators": [vars(line) for line in creators],
            "things": [vars(line) for line in things],
            **AsOf.plain(lag),
        }
        self._board.say(number, TOP, state)
        self._top_is_old = False
        took_s = time.monotonic() - started
        self._top_at_s = started + max(_PULSE_S / 2, took_s / _TOP_SHARE)

    async def _tell_pulse(self, number: int, lag: Lag) -> None:
        now_s = time.monotonic()
        if PULSE not in self._board.topics or (now_s < self._pulse_at_s and PULSE not in self._board.silent()):
            return
        self._pulse_at_s = now_s + _PULSE_S
        tallies = await self._reads.run(read_tallies, self._month)
        _, money = await self._reads.keep_longer(estimate.month_money, self._month, self._reads.rules)
        await self._ask_services(now_s)
        rate = self._rate.add(now_s, tallies.accepted)
        self._board.say(number, PULSE, self._pulse(lag, tallies, money, rate))

    def _pulse(self, lag: Lag, tallies: Tallies, money: estimate.MonthMoney, rate: float | None) -> Mapping[str, Any]:
        return {
            "month": month_text(self._month),
            **AsOf.plain(lag),
            "clicks_per_s": rate,
            "tallies": tallies.as_dict(),
            "money": {
                "currency": self._reads.rules.close_currency,
                "members": money.members,
                "pledged_micro": money.pledged_micro,
                "fee_micro": money.fee_micro,
                "pool_micro": money.pledged_micro - money.fee_micro,
            },
            "partitions": [
                {
                    "partition": part.partition,
                    "records": part.records,
                    "seconds": lag.seconds_of(part),
                }
                for part in lag.partitions
            ],
            "parts": [{"name": part.name, "ready": part.ready} for part in self._services],
        }

    async def _ask_services(self, now_s: float) -> None:
        if now_s < self._services_at_s:
            return
        self._services_at_s = now_s + _SERVICES_S
        others = self._reads.settings.api_parts
        asked = await asyncio.gather(
            *(asyncio.to_thread(service_health.ask, name, str(url)) for name, url in others.items())
        )
        # The warehouse has just answered this poll.
        self._services = [
            *asked,
            service_health.ServiceHealth("warehouse", ready=True),
            service_health.ServiceHealth("api", ready=True),
        ]
