"""`flattr streams` whose fetches come at the worst moment. It prints "sought" when the log should get records.

- `late`: told by SIGHUP, it joins its group again, and one fetch that was under way when the flow stopped brings its
  records after the partitions were set to their positions and before the flow is resumed. In any rebalance this may
  happen, within a few milliseconds; here it is certain.
- `never`: told by SIGHUP, it fetches nothing any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any, cast

from deploy.cli.logs import set_up
from streams.app import worker_from
from streams.settings import StreamsSettings
from streams.source.faust_consumer import ChunkConsumer

#: Long enough for a fetch to be under way from before the rebalance until after it.
_FETCH_S = 120.0


class LateConsumer(ChunkConsumer):
    """Returns from its second seek only when a fetch has brought something."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._takeovers = 0
        self._brought = asyncio.Event()
        signal.signal(signal.SIGHUP, lambda *_: self._join_again())

    def _join_again(self) -> None:
        thread = self._thread
        coordinator = thread._ensure_consumer()._coordinator
        # What a heartbeat does that is told of a rebalance.
        thread.thread_loop.call_soon_threadsafe(coordinator.request_rejoin)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's
        records = await super()._getmany(active_partitions, _FETCH_S if self._takeovers == 1 else timeout)
        if records:
            self._brought.set()
        return records

    async def seek_to_committed(self) -> Any:
        offsets = await super().seek_to_committed()
        self._takeovers += 1
        if self._takeovers == 2:
            self._brought.clear()
            os.write(1, b"sought\n")
            await self._brought.wait()
            for _ in range(10):  # getmany decides what becomes of the records
                await asyncio.sleep(0)
        return offsets


class DeafConsumer(ChunkConsumer):
    """Drops what is fetched, as if its position had been moved."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deaf = False
        signal.signal(signal.SIGHUP, lambda *_: self._turn_deaf())

    def _turn_deaf(self) -> None:
        self._deaf = True
        os.write(1, b"sought\n")

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's
        records = await super()._getmany(active_partitions, timeout)
        return {} if self._deaf else records


def main() -> None:
    set_up()
    worker = worker_from(StreamsSettings())
    transport = cast("Any", worker.app.transport)
    transport.Consumer = {"late": LateConsumer, "never": DeafConsumer}[sys.argv[1]]
    worker.run()


if __name__ == "__main__":
    main()
