"""How many partitions the log has: known to the warehouse, since a member's clicks must stay in one of them."""

from __future__ import annotations

from streams.errors import LogMismatch, StreamStopped
from streams.settings import StreamsSettings
from warehouse.storage.client import Warehouse, named

_REMEDY = (
    "A member's clicks must stay in one partition. Set FLATTR_LOG_PARTITIONS={counted} for ingest and streams: more "
    "partitions stay empty then. For another number begin a new log (FLATTR_LOG_EPOCH) after a month's close."
)


def in_use(settings: StreamsSettings, found: int) -> int:
    """How many of the topic's partitions are in use. Raises ``StreamStopped`` if the topic has fewer."""
    if settings.log_partitions > found:
        raise StreamStopped(
            f"topic {settings.topic_clicks!r} has {found} partitions, fewer than FLATTR_LOG_PARTITIONS="
            f"{settings.log_partitions}"
        )
    return settings.log_partitions or found


def note_partitions(warehouse: Warehouse, epoch: int, partitions: int) -> None:
    """Note the number with which a log epoch begins. Raises ``LogMismatch`` if it began with another."""
    counted = _noted(warehouse, epoch)
    if not counted:
        warehouse.insert("log_partitions", {"epoch": [epoch], "partitions": [partitions]})
        # Of two workers that begin at once, the first one's number holds for both.
        counted = _noted(warehouse, epoch)
    if counted != partitions:
        raise LogMismatch(
            f"the warehouse counts log epoch {epoch} by {counted} partitions, and this worker would by {partitions}. "
            + _REMEDY.format(counted=counted)
        )


def newest_noted(warehouse: Warehouse) -> int:
    """The number with which the newest log epoch began; 0 if none has."""
    newest = (
        "SELECT argMin(partitions, noted_at) FROM log_partitions WHERE epoch = (SELECT max(epoch) FROM log_partitions)"
    )
    ((partitions,),) = warehouse.rows(newest)
    return int(partitions)


def check_grown(counted: int, found: int) -> None:
    """Raise ``LogMismatch`` if the topic has another number of partitions than it had when this worker began."""
    if found != counted:
        raise LogMismatch(
            f"the clicks topic had {counted} partitions and has {found} now. " + _REMEDY.format(counted=counted)
        )


def _noted(warehouse: Warehouse, epoch: int) -> int:
    ((partitions,),) = warehouse.rows(named("noted_partitions"), {"epoch": epoch})
    return int(partitions)
