"""What is in quarantine is in no count, list, series, counter or estimate; what is released is in them again."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ingest.contract.thing import thing_id
from tests.api.conftest import settings_for
from tests.api.rows import put_things
from tests.payout.build import Flattr, closing, flattrs_of, partition_of, pledge, state_month
from tests.quarantine.build import MONTH, flag, release, shares_without
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.counts import rankings
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse

FLATTRS = [
    *flattrs_of("mia ada 3\nmia bob 2\nnil ada 2\nnil bob 1\nrob rex 4\nrob ada 1\neve cat 2"),
    Flattr("rob", "ada", "https://ada.example/9", undone=True),
]
PLEDGES = {"mia": 2_000_000, "nil": 3_330_000, "rob": 9_000_000, "eve": 1_000_000}
SUBJECTS = [
    Subject.of(member_id="rob"),
    Subject.of(member_id="mia", creator_id="ada"),
    Subject.of(creator_id="bob"),
    Subject.of(member_id="nil", thing_id=thing_id("ada", "https://ada.example/1")),
    Subject.of(site_id="site"),
]


@pytest.fixture
def api(warehouse: Warehouse) -> Iterator[str]:
    """The read API, keeping nothing, on a month with flattrs and pledges."""
    state_month(warehouse, MONTH, FLATTRS)
    put_things(warehouse, {(thing_id(row.creator_id, row.thing), row.creator_id, row.thing) for row in FLATTRS})
    pledge(warehouse, MONTH, PLEDGES)
    keeps_nothing = {"api_lag_ttl_ms": 0, "api_counters_ttl_ms": 0, "api_lists_ttl_ms": 0, "api_money_ttl_ms": 0}
    with serving(create_app(settings_for(warehouse, **keeps_nothing), closing())) as url:
        yield url


def everything(url: str) -> dict[str, Any]:
    """Every read of the month, without what says when it was read."""
    things = {thing_id(row.creator_id, row.thing): row for row in FLATTRS}
    paths = [
        "/v1/top/creators",
        "/v1/top/things",
        f"/v1/counters?things={','.join(things)}",
        *(f"/v1/creators/{c}/{read}" for c in ("ada", "bob", "cat", "rex") for read in READS["creators"]),
        *(f"/v1/members/{m}/{read}" for m in PLEDGES for read in READS["members"]),
        *(f"/v1/things/{thing}/{read}" for thing in things for read in READS["things"]),
    ]

    def read(path: str) -> dict[str, Any]:
        body = ask(f"{url}{path}{'&' if '?' in path else '?'}month=2026-11").json
        return {name: value for name, value in body.items() if name not in {"as_of", "lag"}}

    with ThreadPoolExecutor(4) as readers:
        return dict(zip(paths, readers.map(read, paths), strict=True))


READS = {
    "creators": ("counts", "things", "series?by=hour", "provisional"),
    "members": ("counts", "creators", "provisional"),
    "things": ("counts", "series"),
}


def check(read: dict[str, Any], left: list[Flattr], held: list[Flattr]) -> None:
    """Hold every read against plain counting of what is left."""
    creators = Counter(row.creator_id for row in left)
    things = Counter(thing_id(row.creator_id, row.thing) for row in left)
    assert {line["creator_id"]: line["flattrs"] for line in read["/v1/top/creators"]["creators"]} == creators
    ranks = [line["flattrs"] for line in read["/v1/top/creators"]["creators"]]
    assert ranks == sorted(ranks, reverse=True)
    assert {line["thing_id"]: line["flattrs"] for line in read["/v1/top/things"]["things"]} == things
    shares = shares_without(MONTH, left, PLEDGES)
    for path, body in read.items():
        _, _, kind, name, *_ = [*path.split("/"), ""]
        if path.startswith("/v1/counters"):
            assert {thing: count for thing, count in body["counters"].items() if count} == things
        elif "/series" in path:
            assert sum(point["flattrs"] for point in body["points"]) == {**creators, **things}.get(name, 0)
        elif path.endswith("/provisional"):
            own = [micro for pair, micro in shares.items() if pair[kind == "creators"] == name]
            took = body["earned_micro"] if kind == "creators" else sum(s["share_micro"] for s in body["shares"])
            assert 0 <= sum(own) - took <= (len(own) if kind == "creators" else 0)
        elif path.endswith("/counts"):
            part = {"creators": "creator_id", "members": "member_id", "things": "thing"}[kind]
            named = {"flattrs": left, "quarantined": held}
            for field, rows in named.items():
                keys = [thing_id(r.creator_id, r.thing) if part == "thing" else getattr(r, part) for r in rows]
                assert body[field] == keys.count(name), path
    for member in PLEDGES:
        ballot = Counter(row.creator_id for row in left if row.member_id == member)
        assert {c["creator_id"]: c["flattrs"] for c in read[f"/v1/members/{member}/creators"]["creators"]} == ballot
        assert read[f"/v1/members/{member}/counts"]["creators"] == len(ballot)


def test_flagged_is_gone_from_every_read_and_released_is_there_as_before(warehouse: Warehouse, api: str) -> None:
    standing = [row for row in FLATTRS if row.clicked and not row.undone]
    before = everything(api)
    check(before, standing, [])
    for subject in SUBJECTS:
        covered = [
            row
            for row in standing
            if subject.covers(row.member_id, row.creator_id, thing_id(row.creator_id, row.thing), "site")
        ]
        assert flag(warehouse, subject).flattrs >= len(covered) > 0
        check(everything(api), [row for row in standing if row not in covered], covered)
        release(warehouse, subject)
    assert everything(api) == before


def csv_counts(url: str, of: str, column: int) -> dict[str, int]:
    lines = csv.reader(ask(f"{url}/v1/exports/{of}?since=2026-11&until=2026-11").body.decode().splitlines()[1:])
    return {line[column]: int(line[-1]) for line in lines}


def test_tables_months_search_and_headline_leave_out_what_is_flagged(warehouse: Warehouse, api: str) -> None:
    standing = [row for row in FLATTRS if row.clicked and not row.undone]
    for subject in SUBJECTS[:3]:
        flag(warehouse, subject)
        left = [
            row
            for row in standing
            if not subject.covers(row.member_id, row.creator_id, thing_id(row.creator_id, row.thing), "site")
        ]
        creators = Counter(row.creator_id for row in left)
        things = Counter(thing_id(row.creator_id, row.thing) for row in left)
        assert csv_counts(api, "creators", 1) == creators
        assert csv_counts(api, "things", 1) == things
        for creator in ("ada", "bob", "cat", "rex"):
            assert ask(f"{api}/v1/creators/{creator}/months").json["flattrs"] == creators[creator]
            found = ask(f"{api}/v1/creators?prefix={creator[:2]}&month=2026-11").json["creators"]
            assert {line["creator_id"]: line["flattrs"] for line in found} == {
                name: count for name, count in creators.items() if name.startswith(creator[:2])
            }
        total = rankings.month_total(warehouse, MONTH)
        assert (total.flattrs, total.quarantined) == (len(left), len(standing) - len(left))
        release(warehouse, subject)


def test_live_page_says_how_many_flattrs_are_in_quarantine(warehouse: Warehouse, api: str) -> None:
    assert MONTH == 202611
    assert 'id="held" hidden' in ask(f"{api}/").body.decode()
    flag(warehouse, Subject.of(member_id="rob"))
    html = ask(f"{api}/").body.decode()
    assert re.search(r'id="flattrs">(\d+)<', html)[1] == "10"  # type: ignore[index]  # found
    assert '<span id="held"><span id="quarantined">5</span> more flattrs are in quarantine' in html
    assert "1 more are in quarantine" in ask(f"{api}/creators/ada").body.decode()


def take_back(warehouse: Warehouse, row: Flattr) -> None:
    """What the stream writes for an undo: the flattr's version, then the counts, one less each."""
    place = {"m": row.member_id, "c": row.creator_id, "t": thing_id(row.creator_id, row.thing), "month": MONTH}
    warehouse.command(
        "INSERT INTO flattrs (month, member_id, creator_id, thing_id, first_position, position, version) SELECT month, "
        "member_id, creator_id, thing_id, 18446744073709551615, max(position) + 1, "
        "bitOr(max(version) + 1048576, 524288) "
        "FROM flattrs WHERE month = %(month)s AND member_id = %(m)s AND creator_id = %(c)s AND thing_id = unhex(%(t)s) "
        "GROUP BY 1, 2, 3, 4",
        place,
    )
    groups = {
        "counts_by_creator": ("creator_id, partition", "creator_id = %(c)s AND partition = %(p)s"),
        "counts_by_thing": ("creator_id, thing_id, partition", "thing_id = unhex(%(t)s) AND partition = %(p)s"),
        "counts_by_member": ("member_id, creator_id", "member_id = %(m)s AND creator_id = %(c)s"),
    }
    for table, (columns, where) in groups.items():
        warehouse.command(
            f"INSERT INTO {table} (month, {columns}, flattrs, position) SELECT month, {columns}, "
            f"argMax(flattrs, position) - 1, max({table}.position) + 1 FROM {table} "
            f"WHERE month = %(month)s AND {where} GROUP BY month, {columns}",
            {**place, "p": partition_of(row.member_id)},
        )


def test_flattr_taken_back_while_in_quarantine_is_taken_off_once(warehouse: Warehouse, api: str) -> None:
    gone = next(row for row in FLATTRS if row.member_id == "rob" and row.creator_id == "ada")
    standing = [row for row in FLATTRS if not row.undone]
    left = [row for row in standing if row.member_id != "rob"]
    held = [row for row in standing if row.member_id == "rob" and row != gone]
    flag(warehouse, Subject.of(member_id="rob"))
    take_back(warehouse, gone)
    check(everything(api), left, held)
    release(warehouse, Subject.of(member_id="rob"))
    check(everything(api), left + held, [])


def test_log_over_http_says_who_flagged_what_and_what_stands(warehouse: Warehouse, api: str) -> None:
    rob, bob = Subject.of(member_id="rob"), Subject.of(creator_id="bob")
    flag(warehouse, rob, reason="a script")
    flag(warehouse, bob)
    release(warehouse, rob)
    body = ask(f"{api}/v1/months/2026-11/quarantine?limit=2").json
    assert (body["flags"], body["flattrs"], body["next"]) == (1, 3, 2)
    assert [(s["step"], s["action"], s["member_id"], s["in_force"], s["reason"], s["by"]) for s in body["steps"]] == [
        (1, "flag", "rob", False, "a script", "fin"),
        (2, "flag", "", True, "looks bought", "fin"),
    ]
    rest = ask(f"{api}/v1/months/2026-11/quarantine?after=2").json
    assert (rest["next"], [s["action"] for s in rest["steps"]]) == (None, ["release"])
