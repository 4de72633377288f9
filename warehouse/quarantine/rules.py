"""The rules for spotting flattrs that no person chose. Pure: each takes counts and yields whom to flag, and why.

Rules propose and people decide: no rule flags again what somebody released.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from warehouse.quarantine.log import Subject
from warehouse.quarantine.settings import QuarantineSettings


@dataclass(frozen=True)
class Finding:
    """A subject that a rule would flag, with the figures behind it."""

    rule: str
    subject: Subject
    reason: str
    evidence: dict[str, int | str]


@dataclass(frozen=True)
class Bond:
    """A member's flattrs for one creator, all of the member's flattrs, and all of the creator's."""

    member_id: str
    creator_id: str
    flattrs: int
    of_member: int
    of_creator: int


@dataclass(frozen=True)
class SiteShare:
    """The site with the most flattrs of a member or creator, the ``subject``."""

    subject: Subject
    site_id: str
    flattrs: int
    of_all: int


def most_within(times_ms: Iterable[int], window_ms: int) -> int:
    """The largest number of times within any window of this length."""
    ordered = sorted(times_ms)
    first = most = 0
    for last, at_ms in enumerate(ordered):
        while at_ms - ordered[first] >= window_ms:
            first += 1
        most = max(most, last - first + 1)
    return most


def velocity(clicks: Iterable[tuple[str, Sequence[int]]], bounds: QuarantineSettings) -> Iterator[Finding]:
    """Flag members who flattr faster than anybody reads; ``clicks`` are (member, times of flattrs in ms)."""
    window_s = bounds.quarantine_velocity_window_s
    for member, times_ms in clicks:
        most = most_within(times_ms, window_s * 1000)
        if most > bounds.quarantine_velocity_max:
            reason = f"{most} flattrs within {window_s} s"
            yield Finding("velocity", Subject.of(member_id=member), reason, {"flattrs": most, "window_s": window_s})


def site_share(shares: Iterable[SiteShare], bounds: QuarantineSettings) -> Iterator[Finding]:
    """Flag members and creators whose flattrs nearly all come from one site."""
    percents = {
        "member": bounds.quarantine_site_share_member_percent,
        "creator": bounds.quarantine_site_share_creator_percent,
    }
    for share in shares:
        enough = share.of_all >= bounds.quarantine_site_flattrs_min
        if enough and share.flattrs * 100 >= share.of_all * percents[share.subject.kind]:
            reason = f"{share.flattrs} of {share.of_all} flattrs from the site {share.site_id}"
            evidence: dict[str, int | str] = {"site": share.site_id, "flattrs": share.flattrs, "of": share.of_all}
            yield Finding("site_share", share.subject, reason, evidence)


def ring_pairs(bonds: Iterable[Bond], bounds: QuarantineSettings) -> Iterator[Finding]:
    """Flag pairs who flattr each other and hardly anybody else; a member and a creator of one name are one person."""
    tight = {(bond.member_id, bond.creator_id): bond for bond in bonds if _is_tight(bond, bounds)}
    for (member, creator), bond in sorted(tight.items()):
        if member != creator and (creator, member) in tight:
            back = tight[creator, member]
            reason = f"{member} and {creator} flattr each other: {bond.flattrs} and {back.flattrs} flattrs"
            evidence: dict[str, int | str] = {"flattrs": bond.flattrs, "back": back.flattrs, "of": bond.of_member}
            yield Finding("ring_pair", Subject.of(member_id=member, creator_id=creator), reason, evidence)


def ring_groups(bonds: Iterable[Bond], bounds: QuarantineSettings) -> Iterator[Finding]:
    """Flag groups of members who flattr one creator, hardly anybody else, and give most of that creator's flattrs."""
    groups: dict[str, list[Bond]] = defaultdict(list)
    for bond in bonds:
        if _is_tight(bond, bounds):
            groups[bond.creator_id].append(bond)
    for creator, group in sorted(groups.items()):
        flattrs, of_creator = sum(bond.flattrs for bond in group), group[0].of_creator
        if (
            len(group) >= bounds.quarantine_ring_members_min
            and flattrs * 100 >= of_creator * bounds.quarantine_ring_creator_percent
        ):
            reason = f"{len(group)} members give {flattrs} of the {of_creator} flattrs of {creator}, and few to others"
            evidence: dict[str, int | str] = {"members": len(group), "flattrs": flattrs, "of": of_creator}
            for bond in sorted(group, key=lambda bond: bond.member_id):
                subject = Subject.of(member_id=bond.member_id, creator_id=creator)
                yield Finding("ring_group", subject, reason, evidence)


def _is_tight(bond: Bond, bounds: QuarantineSettings) -> bool:
    enough = bond.flattrs >= bounds.quarantine_ring_flattrs_min
    return enough and bond.flattrs * 100 >= bond.of_member * bounds.quarantine_ring_share_percent
