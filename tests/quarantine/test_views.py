"""The views that Grafana and SQL by hand ask have the API's figures, with flags standing."""

from __future__ import annotations

from collections import Counter

from tests.payout.build import state_month
from tests.quarantine.build import MONTH, flag
from tests.quarantine.test_reads import FLATTRS, SUBJECTS
from warehouse.storage.client import Warehouse, named


def test_views_have_the_figures_of_the_api_with_and_without_flags(warehouse: Warehouse) -> None:
    state_month(warehouse, MONTH, FLATTRS)
    stand = Counter(row.creator_id for row in FLATTRS if not row.undone)
    shown = agreed(warehouse)
    assert {creator: flattrs for creator, flattrs, _ in shown} == stand
    assert not any(held for *_, held in shown)
    for subject in SUBJECTS[:3]:
        flag(warehouse, subject)
    shown = agreed(warehouse)
    assert sum(held for *_, held in shown) > 0
    assert {creator: flattrs + held for creator, flattrs, held in shown} == stand


def agreed(warehouse: Warehouse) -> list[tuple[str, int, int]]:
    """What the view of creators says, after the API's statements and the view of days were held against it."""
    where = {"month": MONTH}
    shown = warehouse.rows(
        "SELECT creator_id, flattrs, quarantined FROM creator_flattrs WHERE month = %(month)s", where
    )
    page = {"month": MONTH, "after_flattrs": 1 << 62, "after_id": "", "limit": 100}
    assert dict(warehouse.rows(named("top_creators"), page)) == {name: n for name, n, _ in shown if n}
    ((standing, held),) = warehouse.rows(named("month_total"), where)
    days = warehouse.rows("SELECT sum(flattrs), sum(quarantined) FROM day_flattrs WHERE month = %(month)s", where)
    assert days == [(sum(n for _, n, _ in shown), sum(n for *_, n in shown))] == [(standing - held, held)]
    return [(str(name), int(n), int(h)) for name, n, h in shown]
