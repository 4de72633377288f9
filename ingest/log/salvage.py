"""What can be read in the damaged bytes of a spool segment. Pure.

A flipped bit may have made another name that reads as well, and no checksum is right any more. So a click is believed
only where other bytes prove it: its thing's id is the hash of creator and thing, the hash in a whole header is that of
the member, and it was made in the month in which it was received. The rest is for somebody to look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.contract import click as contract
from ingest.contract.click import Click
from ingest.contract.month import month_of
from ingest.contract.thing import canonical, thing_id
from ingest.log.partition import member_hash
from ingest.log.spool_format import Damage, scan_segment, sections


@dataclass(slots=True)
class Salvaged:
    """Of one segment: the clicks that are proven, and the lines that are not."""

    clicks: list[Click] = field(default_factory=list)
    doubtful: list[bytes] = field(default_factory=list)


def salvage(segment: bytes) -> Salvaged:
    """What stands in the damaged bytes of a segment; what a crash tore at its end was never acknowledged."""
    found = Salvaged()
    for damage in scan_segment(segment):
        if isinstance(damage, Damage) and not damage.torn:
            for of_member, section in sections(segment[damage.start : damage.end]):
                for line in filter(None, section.split(b"\n")):
                    click = _proven(line, of_member)
                    if click is None:
                        found.doubtful.append(line)
                    else:
                        found.clicks.append(click)
    return found


def _proven(line: bytes, of_member: int | None) -> Click | None:
    try:
        click = contract.decode(line)
        right = click.thing_id == thing_id(click.creator_id, canonical(click.thing))
    except (*contract.UNREADABLE, ValueError):
        return None
    if not right or member_hash(click.member_id) != of_member:
        return None
    return click if month_of(click.clicked_at) == month_of(click.received_at) else None
