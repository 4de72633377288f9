"""Every route with every role: the table below is the policy, and a route that is not in it fails the test."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from ingest.contract.thing import thing_id
from ingest.runtime.tokens import issue as issue_token
from ingest.runtime.tokens import keygen
from tests.api.conftest import NOON_MS, settings_for
from tests.api.rows import put_things
from tests.conftest import Migrated
from tests.support.serving import serving
from warehouse.api.app import create_app
from warehouse.keys import Role, issue, save

#: Who is asked for what. Roles rise: dashboard, finance, operator. A member's door opens to the member's token alone.
POLICY = """
GET  /openapi.json                                          public
GET  /live                                                  public
GET  /ready                                                 public
GET  /metrics                                               public
GET  /docs                                                  public
GET  /login                                                 public
POST /login                                                 public
POST /logout                                                public
GET  /page/flattr.css                                       public
GET  /v1/counters?things=x                                  public
GET  /v1/receipts/4be0643f-1d98-573b-97cd-ca98a65347dd      public
GET  /v1/creators/anna/counts                               dashboard
GET  /v1/creators/anna/things                               dashboard
GET  /v1/creators/anna/series                               dashboard
GET  /v1/creators/anna/months                               dashboard
GET  /v1/creators/anna/provisional                          dashboard
GET  /v1/creators/anna/live                                 dashboard
GET  /v1/creators/anna/live-token                           dashboard
GET  /v1/creators?prefix=an                                 dashboard
GET  /v1/exports/creators                                   dashboard
GET  /v1/exports/things                                     dashboard
GET  /v1/exports/days?creator=anna                          dashboard
GET  /v1/things/00000000000000000000000000000000/counts     dashboard
GET  /v1/things/00000000000000000000000000000000/series     dashboard
GET  /v1/things/00000000000000000000000000000000/months     dashboard
GET  /v1/top/creators                                       dashboard
GET  /v1/top/things                                         dashboard
GET  /v1/lag                                                dashboard
GET  /v1/services                                           operator
GET  /v1/live                                               public
GET  /                                                      public
GET  /creators                                              dashboard
GET  /creators/anna                                         dashboard
GET  /things                                                dashboard
GET  /things/00000000000000000000000000000000               dashboard
GET  /v1/me/flattrs                                         member
GET  /v1/me/history                                         member
GET  /v1/me/provisional                                     member
GET  /v1/me/subscriptions                                   member
GET  /v1/me/statement                                       member
GET  /v1/me/export                                          member
GET  /me                                                    member
GET  /me/flattrs                                            member
POST /me                                                    member
POST /me/subscriptions                                      member
GET  /v1/members/m-1/counts                                 finance
GET  /v1/members/m-1/creators                               finance
GET  /v1/members/m-1/provisional                            finance
GET  /v1/months                                             finance
GET  /v1/months/2026-09                                     finance
GET  /v1/months/2026-09/payouts                             finance
GET  /v1/months/2026-09/payouts.csv                         finance
GET  /v1/months/2026-09/proof                               finance
GET  /v1/months/2026-09/ledger                              finance
GET  /v1/months/2026-09/quarantine                          finance
GET  /v1/months/2026-09/members/m-1/statement               finance
GET  /v1/months/2026-09/creators/anna/statement             finance
GET  /members/m-1                                           finance
GET  /months                                                finance
GET  /months/2026-09                                        finance
GET  /verify                                                operator
"""
ROWS = [tuple(line.split()) for line in POLICY.strip().splitlines()]
#: The places in a route's template, by what the table puts there.
EXAMPLES = {
    "creator_id:path": "anna", "creator_id": "anna", "member_id:path": "m-1", "member_id": "m-1", "month": "2026-09",
    "thing_id": "0" * 32, "click_id": "4be0643f-1d98-573b-97cd-ca98a65347dd", "name": "flattr.css",
}  # fmt: skip
RANK = {"public": -1, "dashboard": 0, "finance": 1, "operator": 2}


#: A thing of a site, its neighbour's, and a thing that is no address.
SONG, NEIGHBOURS, ARTICLE = (
    (thing_id("anna", thing), "anna", thing)
    for thing in ("https://anna.example/song", "https://bob.example/anna.example/", "anna.example/7")
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    made = {role.value: issue(f"the {role}", role) for role in Role}
    made |= {f"{role} of a site": issue(f"a site's {role}", role, "site:anna.example") for role in Role}
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    save(file, [key for _, key in made.values()])
    keygen(file.with_name("tokens.json"), algorithm="HS256", kid="first")
    return {"file": str(file), **{role: secret for role, (secret, _) in made.items()}}


@pytest.fixture(scope="module")
def app(migrated: Migrated, keys: dict[str, str]) -> Iterator[FastAPI]:
    file = Path(keys["file"])
    with migrated("authorisation") as database:
        put_things(database, [SONG, NEIGHBOURS, ARTICLE])
        yield create_app(settings_for(database, api_keys=file, token_keys=file.with_name("tokens.json")))


@pytest.fixture(scope="module")
def locked(app: FastAPI) -> Iterator[str]:
    with serving(app) as url:
        yield url.removeprefix("http://")


def templates(routes: list[Any]) -> Iterator[tuple[str, str]]:
    """Method and template of every route, whatever it is nested in."""
    for route in routes:
        below = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if below:
            yield from templates(below)
        elif hasattr(route, "path"):
            for method in route.methods - {"HEAD", "OPTIONS"}:
                yield method, route.path


def test_every_route_is_in_the_policy(app: FastAPI) -> None:
    listed = {(method, path.partition("?")[0]) for method, path, _ in ROWS}
    found = set()
    for method, template in templates(app.routes):
        path = template
        for name, example in EXAMPLES.items():
            path = path.replace("{" + name + "}", example)
        assert (method, path) in listed, f"{method} {template} is not in the policy: who may ask for it?"
        found.add((method, path))
    assert found == listed


def answer(address: str, method: str, path: str, secret: str | None) -> tuple[int, str]:
    """Status and Location of an answer, without reading a stream to its end."""
    connection = http.client.HTTPConnection(address, timeout=15)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {secret}"} if secret else {})
        response = connection.getresponse()
        return response.status, response.headers.get("Location") or ""
    finally:
        connection.close()


def refused(status: int, location: str) -> bool:
    """An API says 401 or 403; a page sends a reader to the log-in, or says 403."""
    return status in (401, 403) or location.startswith("/login")


@pytest.mark.parametrize("row", ROWS, ids=[f"{method} {path}" for method, path, _ in ROWS])
def test_route_opens_to_its_roles_and_to_nobody_else(locked: str, keys: dict[str, str], row: tuple[str, ...]) -> None:
    method, path, needed = row
    unknown = issue("somebody else's", Role.OPERATOR)[0]
    tokens = Path(keys["file"]).with_name("tokens.json")
    member = issue_token(tokens, "m-1", audience="flattr", now_ms=NOON_MS, valid_s=600)
    callers = {"nobody": None, "unknown": unknown, "member": member, **{role.value: keys[role.value] for role in Role}}
    for caller, secret in callers.items():
        if needed == "member":
            # The pages take the session that begins with a token, not the token itself.
            may = caller == "member" and path.startswith("/v1/")
        else:
            may = needed == "public" or (caller in RANK and RANK[caller] >= RANK[needed])
        status, location = answer(locked, method, path, secret)
        if path in ("/login", "/logout"):
            assert status != 403
            continue
        assert refused(status, location) is not may, f"{caller}: {status} {location}"
        assert status < 500, f"{caller}: {status}"


@pytest.mark.parametrize("role", Role)
def test_key_of_a_site_opens_the_counts_of_its_things_and_nothing_else(
    locked: str, keys: dict[str, str], role: Role
) -> None:
    opened = []
    for method, path, needed in ROWS:
        for found in dict.fromkeys(
            path.replace("0" * 32, thing) for thing in (SONG[0], NEIGHBOURS[0], ARTICLE[0], "0" * 32)
        ):
            status, location = answer(locked, method, found, keys[f"{role} of a site"])
            if needed not in ("public", "member") and not refused(status, location):
                opened.append(found)
                assert status < 500
    assert opened == [f"/v1/things/{SONG[0]}/{what}" for what in ("counts", "series", "months")] + [
        f"/things/{SONG[0]}"
    ]
