"""Reads a month's counts for the rules."""

from __future__ import annotations

from warehouse.quarantine.log import Subject
from warehouse.quarantine.rules import Bond, Finding, SiteShare, ring_groups, ring_pairs, site_share, velocity
from warehouse.quarantine.settings import QuarantineSettings
from warehouse.storage.client import Warehouse, named


def find(warehouse: Warehouse, month: int, bounds: QuarantineSettings) -> list[Finding]:
    """Everything that the rules would flag, by rule. Flattrs already in quarantine are included."""
    clicks = warehouse.rows(named("quarantine_clicks"), {"month": month, "flattrs_max": bounds.quarantine_velocity_max})
    sites = warehouse.rows(
        named("quarantine_sites"), {"month": month, "flattrs_min": bounds.quarantine_site_flattrs_min}
    )
    shares = [
        SiteShare(
            Subject.of(member_id=name) if kind == "member" else Subject.of(creator_id=name), site, flattrs, of_all
        )
        for kind, name, site, flattrs, of_all in sites
    ]
    values = {
        "month": month,
        "flattrs_min": bounds.quarantine_ring_flattrs_min,
        "share_percent": bounds.quarantine_ring_share_percent,
    }
    bonds = [Bond(*row) for row in warehouse.rows(named("quarantine_bonds"), values)]
    return [
        *velocity(clicks, bounds),
        *site_share(shares, bounds),
        *ring_pairs(bonds, bounds),
        *ring_groups(bonds, bounds),
    ]
