"""The direct way and the ordinary way say the same, whatever is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import (
    counted_until,
    put_creator_counts,
    put_log_end,
    put_member_counts,
    put_progress,
    put_thing_counts,
    put_things,
)
from tests.conftest import Migrated
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.api.direct_routes import DirectRoutes
from warehouse.api.query_runner import QueryRunner
from warehouse.api.routes import counts
from warehouse.keys import Role, issue, save
from warehouse.storage.client import Warehouse

SONG = "9f86d081884c7d659a2feaa0c55ad015"
PLAIN = ("/v1/creators/anna/counts", f"/v1/things/{SONG}/counts", "/v1/members/m-1/counts")


@pytest.fixture(scope="module")
def counted(migrated: Migrated) -> Iterator[Warehouse]:
    """A few counts, and a lag of three records."""
    with migrated("direct") as warehouse:
        fill(warehouse)
        yield warehouse


def fill(warehouse: Warehouse) -> None:
    put_creator_counts(warehouse, [(202611, "anna", 0, 5, 1), (202610, "anna", 0, 7, 1), (202611, "a/b?c", 0, 3, 1)])
    put_thing_counts(warehouse, [(202611, "anna", SONG, 0, 2, 1)])
    put_things(warehouse, [(SONG, "anna", "https://anna.example/song")])
    put_member_counts(warehouse, [(202611, "m-1", "anna", 2, 1)])
    put_progress(warehouse, 0, counted_until(6), NOON_MS - 2000)
    put_log_end(warehouse, 0, NOON_MS - 1000, 10)


@dataclass(frozen=True)
class Ways:
    """Two services over one database: one with the direct way, and one without it."""

    direct: str
    ordinary: str
    secrets: dict[str, str]


def both(warehouse: Warehouse, keys: Path | None) -> tuple[FastAPI, FastAPI]:
    apps = [create_app(settings_for(warehouse, api_keys=keys, api_pitch_ms=0)) for _ in range(2)]
    for app in apps:
        app.state.reads.clock = lambda: NOON_MS
    apps[1].user_middleware = [one for one in apps[1].user_middleware if DirectRoutes.__name__ not in repr(one)]
    assert len(apps[1].user_middleware) == len(apps[0].user_middleware) - 1
    return apps[0], apps[1]


@pytest.fixture(scope="module", params=["open", "locked"])
def ways(
    counted: Warehouse, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ways]:
    made = {role.value: issue(role.value, role) for role in Role}
    keys = None
    if request.param == "locked":
        keys = tmp_path_factory.mktemp("lean") / "keys.json"
        save(keys, [key for _, key in made.values()])
    apps = both(counted, keys)
    with serving(apps[0]) as direct, serving(apps[1]) as ordinary:
        yield Ways(direct, ordinary, {role: secret for role, (secret, _) in made.items()})


_identifiers = st.sampled_from(
    ["anna", "a/b?c", "m-1", SONG, SONG.upper(), SONG + "\n", "", "x" * 64, "x" * 65]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
_paths = st.builds(
    lambda kind, identifier, safe, end: f"/v1/{kind}/{quote(identifier, safe=safe)}/{end}",
    st.sampled_from(["creators", "things", "members", "creators/counts", "nothing"]),
    _identifiers,
    st.sampled_from(["", "/"]),
    st.sampled_from(["counts", "counts", "counts", "counts/", "counts%0A", "series", "Counts"]),
)
_months = st.sampled_from(
    ["2026-11", "2026-10", "2026-13", "1999-01", "2026-1", "", "+2026-11", "%32026-11", "2026%2D11", "%EF%BC%922026-11",
     "2026-11\u00e9", "2026-11&", "2026-11&month=2026-10", "2026-11&x=1", "2026-11;x"]
)  # fmt: skip
_queries = (
    st.just("") | st.builds("?month={}".format, _months) | st.sampled_from(["?", "?x=1", "?Month=2026-11", "?month"])
)
_keys = st.sampled_from(
    [
        "",
        "dashboard",
        "finance",
        "operator",
        "Bearer flk_nobody",
        "Bearer ",
        "Basic dashboard",
        "cookie finance",
        "cookie nobody",
    ]
)


def headers_for(key: str, secrets: dict[str, str]) -> dict[str, str]:
    kind, _, role = key.partition(" ")
    if kind == "cookie":
        return {"Cookie": f"flattr_key={secrets.get(role, role)}"}
    return {"Authorization": f"Bearer {secrets[key]}" if key in secrets else key} if key else {}


@given(
    path=_paths | st.sampled_from(PLAIN),
    query=_queries,
    key=_keys,
    method=st.sampled_from(["GET"] * 5 + ["HEAD", "POST", "OPTIONS"]),
)
@example(path=PLAIN[0], query="?month=2026-11", key="dashboard", method="GET")
@example(path=PLAIN[0], query="?Month=2026-10", key="dashboard", method="GET")
@example(path=PLAIN[0], query="", key="Bearer flk_nobody", method="GET")
@example(path=PLAIN[1], query="?month=2026-13", key="finance", method="GET")
@example(path=PLAIN[2], query="", key="dashboard", method="GET")
@example(path=PLAIN[2], query="", key="cookie finance", method="GET")
@example(path=PLAIN[2], query="", key="operator", method="HEAD")
@settings(max_examples=150, deadline=None)
def test_direct_way_says_what_the_ordinary_way_says(ways: Ways, path: str, query: str, key: str, method: str) -> None:
    headers = headers_for(key, ways.secrets)
    address = quote(path + query, safe="/?&=%;+")
    answers = [ask(url + address, method=method, headers=headers, follow=False) for url in (ways.direct, ways.ordinary)]
    said = [(one.status, {**one.headers, "date": "", "location": ""}, one.body) for one in answers]
    assert said[0] == said[1]


async def _refuse(_: Scope, __: Receive, ___: Send) -> None:
    raise AssertionError("this took the ordinary way")


@pytest.mark.parametrize("query", [b"", b"month=2026-11"])
@pytest.mark.parametrize("path", PLAIN)
def test_plain_count_takes_no_other_way_and_is_measured_by_its_route(
    counted: Warehouse, path: str, query: bytes
) -> None:
    direct_app, _ = both(counted, None)
    reads: QueryRunner = direct_app.state.reads
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "method": "GET", "path": path, "query_string": query, "headers": []}
    asyncio.run(DirectRoutes(_refuse, reads, counts.router)(scope, nothing, keep))
    reads.close()
    assert (sent[0]["status"], b'"month":"2026-11"' in sent[1]["body"]) == (200, True)
    assert scope["route"].path_format == path.replace("anna", "{creator_id}").replace(SONG, "{thing_id}").replace(
        "m-1", "{member_id}"
    )
