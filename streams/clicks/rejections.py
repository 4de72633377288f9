"""What ingest refused: from the topic `rejected` into the table, with its bytes.

Rows are keyed by their position in the log, so writing one twice changes nothing, and Kafka's committed offset is
enough to resume from.
"""

from __future__ import annotations

from ingest.contract.click import UNREADABLE
from ingest.contract.month import month_of
from ingest.contract.position import position
from ingest.contract.rejection import Reason, Rejection, decode_rejection
from streams.clicks.pseudonyms import NOBODY, Pseudonyms
from streams.sink.flush_rows import Rows
from streams.source.chunk import Chunk


def rejections(partition: int, chunk: Chunk, epoch: int, erased: Pseudonyms = NOBODY) -> Rows:
    """One row per record. An unreadable record is stored as it is; what an erased member sent is left out."""
    rows = Rows()
    for record in chunk.records:
        record_at_ms = max(record.timestamp_ms, 0)
        month = month_of(record_at_ms)
        try:
            rejection = decode_rejection(record.value)
        except UNREADABLE as error:
            rejection = Rejection(Reason.JSON_MALFORMED, str(error), record_at_ms, record.value)
        known = erased.name(rejection.member_id) == rejection.member_id
        rows.add(
            "rejected",
            month,
            month=[month],
            topic=["rejected"],
            partition=[partition],
            position=[position(epoch, record.offset, 0)],
            rejected_at=[rejection.rejected_at],
            reason=[str(rejection.reason)],
            detail=[rejection.detail if known else ""],
            raw=[erased.scrubbed(rejection.raw) if known else b""],
            member_id=[rejection.member_id if known else ""],
            site_id=[rejection.site_id],
            cut=[rejection.cut],
        )
    return rows
