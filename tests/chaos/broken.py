"""The services with one guarantee broken on purpose: ``python -m tests.chaos.broken HOW SERVICE``.

Each break is what a plausible change would be. Chaos has to find every one of them.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.commands import app
from tests.support.packed import values_of
from warehouse.storage.native_columns import Packed

if TYPE_CHECKING:
    from streams.operating.tracing import BatchTrace


def acknowledge_before_the_broker() -> None:
    """Answer 202 when the click is queued."""
    from ingest.contract.rejection import Reason
    from ingest.log.lane import Placed, RequestClicks
    from ingest.log.publisher import Publisher

    submit = Publisher.submit

    def hasty(self: Publisher, chunk: RequestClicks) -> None:
        answer = chunk.answer
        refused: list[Placed | Reason] = []
        chunk.answer = refused.append
        submit(self, chunk)
        answer(refused[0] if refused else Placed(None, None, None))

    Publisher.submit = hasty  # type: ignore[method-assign] # that is the break


def offset_before_the_insert() -> None:
    """State progress first, then, when there is time, what it speaks of."""
    from streams.sink import flush_rows as rows
    from streams.sink import writer

    vars(writer)["STEPS"] = (rows.STEPS[-1], *rows.STEPS[:-1])
    write = writer.Writer.write

    def late(self: writer.Writer, rows: rows.Rows, trace: BatchTrace | None = None) -> None:
        self._after_step = lambda step: time.sleep(2.0) if step == "progress" else None
        write(self, rows, trace)

    writer.Writer.write = late  # type: ignore[method-assign] # that is the break


def counts_as_deltas() -> None:
    """Add what a batch counts to what the warehouse has, instead of stating the whole."""
    from streams.sink.flush_rows import Rows
    from streams.sink.writer import Writer

    write = Writer.write

    def adding(self: Writer, rows: Rows, trace: BatchTrace | None = None) -> None:
        new = Counter[tuple[int, str]]()
        for block in rows.of("flattrs"):
            names = ("month", "creator_id", "first_position", "position")
            for month, creator, first, at in zip(*(values_of(block[name]) for name in names), strict=True):
                new[month, creator] += first == at
        for table, month in list(rows.blocks):
            if table != "counts_by_creator":
                continue
            block = rows.block(table, month)
            counts = []
            for creator, partition in zip(values_of(block["creator_id"]), values_of(block["partition"]), strict=True):
                ((before,),) = self._warehouse.rows(
                    "SELECT sum(flattrs) FROM counts_by_creator FINAL "
                    "WHERE month = %(month)s AND creator_id = %(creator)s AND partition = %(partition)s",
                    {"month": month, "creator": creator, "partition": partition},
                )
                counts.append(before + new[month, creator])
            packed = isinstance(block["flattrs"], Packed)
            rows.blocks[table, month]["flattrs"] = [np.array(counts, np.uint64) if packed else counts]
        write(self, rows, trace)

    Writer.write = adding  # type: ignore[method-assign] # that is the break


def end_when_the_broker_is_cut() -> None:
    """Take it for an error of one's own that Kafka cannot be reached."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError
    from aiokafka.protocol.produce import ProduceRequest

    send = AIOKafkaClient.send

    async def ending(self: AIOKafkaClient, node: int, request: object, **options: Any) -> Any:
        try:
            return await send(self, node, request, **options)
        except KafkaError:
            if isinstance(request, ProduceRequest):
                signal.raise_signal(signal.SIGTERM)
            raise

    AIOKafkaClient.send = ending


BREAKS: dict[str, Callable[[], None]] = {
    "ack-first": acknowledge_before_the_broker,
    "offset-first": offset_before_the_insert,
    "deltas": counts_as_deltas,
    "ends": end_when_the_broker_is_cut,
    "nothing": lambda: None,
}


def command(how: str) -> Callable[[str], list[str]]:
    """How the arena starts its services with a guarantee broken."""

    def of(service: str) -> list[str]:
        return [sys.executable, "-m", "tests.chaos.broken", how, service]

    return of


def main(arguments: list[str]) -> Any:
    """Break, then run the service as ever."""
    BREAKS[arguments[0]]()
    return app(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
