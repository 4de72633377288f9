"""How many partitions the log has: known to the warehouse, since a member's clicks must stay in one of them."""

from __future__ import annotations

from streams.errors import LogMismatch, StreamStopped
from streams.settings import StreamsSettings
from warehouse.moves.notes import Step, current_epoch, left, moving, newest
from warehouse.storage.client import Warehouse, named

_REMEDY = (
    "A member's clicks must stay in one partition. Set FLATTR_LOG_PARTITIONS={counted} for ingest and streams: more "
    "partitions stay empty then. `flattr topics grow` moves the log to a topic with more."
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
    """Note the number with which a log epoch begins.

    Raises ``LogMismatch`` if it began with another, or the epoch before it did, or if the log has moved on.
    """
    check_log(warehouse, epoch)
    counted = _noted(warehouse, epoch)
    if not counted:
        _check_unmoved(warehouse, epoch, partitions)
        warehouse.insert("log_partitions", {"epoch": [epoch], "partitions": [partitions]})
        # Of two workers that begin at once, the first one's number holds for both.
        counted = _noted(warehouse, epoch)
    if counted != partitions:
        raise LogMismatch(
            f"the warehouse counts log epoch {epoch} by {counted} partitions, and this worker would by {partitions}. "
            + _REMEDY.format(counted=counted)
        )


def check_log(warehouse: Warehouse, epoch: int) -> None:
    """Raise ``LogMismatch`` if the log of this epoch is not the one that is counted any more.

    Commands that ask the log and the warehouse ask this first.
    """
    if reason := left(warehouse, epoch):
        raise LogMismatch(reason)


def check_not_moving(warehouse: Warehouse, epoch: int) -> None:
    """Raise ``LogMismatch`` if the log of this epoch is counted to its end and moving: there is nothing to count."""
    found = newest(warehouse)
    if found is not None and found[1] is Step.DRAINED and found[0].epoch == epoch + 1:
        raise LogMismatch(moving(warehouse))


def _check_unmoved(warehouse: Warehouse, epoch: int, partitions: int) -> None:
    before = current_epoch(warehouse)
    if before is not None and before[1] != partitions:
        raise LogMismatch(
            moving(warehouse)
            or f"The warehouse counted log epoch {before[0]} by {before[1]} partitions, and epoch {epoch} would begin "
            f"with {partitions}: members would leave what is known of them behind. Begin it with {before[1]}; "
            "`flattr topics grow` moves the log to a topic with more."
        )


def check_grown(counted: int, found: int) -> None:
    """Raise ``LogMismatch`` if the topic has another number of partitions than it had when this worker began."""
    if found != counted:
        raise LogMismatch(
            f"the clicks topic had {counted} partitions and has {found} now. " + _REMEDY.format(counted=counted)
        )


def _noted(warehouse: Warehouse, epoch: int) -> int:
    ((partitions,),) = warehouse.rows(named("noted_partitions"), {"epoch": epoch})
    return int(partitions)
