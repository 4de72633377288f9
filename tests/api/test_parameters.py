"""A parameter that a route does not have is named, with the nearest that it has; on every route."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.test_authorisation import ROWS
from tests.support.serving import ask

PATHS = sorted({path for method, path, _ in ROWS if method == "GET"})


@pytest.mark.parametrize("path", PATHS)
def test_unknown_parameter_is_named_on_every_route(idle_api: str, path: str) -> None:
    answer = ask(f"{idle_api}{path}{'&' if '?' in path else '?'}zzz=1", follow=False)
    assert (answer.status, answer.json["reason"], answer.json["parameters"]) == (422, "parameter_unknown", ["zzz"])


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/creators/anna/counts?monht=2026-11", "did you mean 'month'?"),
        ("/v1/counters?things=" + "1" * 32 + "&Month=2026-11", "did you mean 'month'?"),
        ("/v1/counters?thing_id=x", "did you mean"),
        ("/v1/creators?prefx=an", "did you mean 'prefix'?"),
        ("/v1/lag?zzz", "this address takes none"),
        ("/v1/top/things?" + "a" * 3000, "cursor, limit, month"),
    ],
)
def test_nearest_parameter_is_offered(idle_api: str, path: str, hint: str) -> None:
    answer = ask(idle_api + path)
    assert (answer.status, answer.json["reason"]) == (422, "parameter_unknown")
    assert hint in answer.json["detail"]
    assert len(answer.body) < 500


def test_pages_take_what_mailers_add_to_links_and_programs_do_not(idle_api: str) -> None:
    assert ask(f"{idle_api}/?utm_source=mail&fbclid=x").status == 200
    assert ask(f"{idle_api}/v1/lag?utm_source=mail").status == 422


def test_document_says_how_a_caller_identifies_itself(idle_api: str) -> None:
    document: dict[str, Any] = ask(f"{idle_api}/openapi.json").json
    schemes = document["components"]["securitySchemes"]
    assert {name: one["type"] for name, one in schemes.items()} == {"apiKey": "http", "memberToken": "http"}
    assert document["servers"]
    for path, methods in document["paths"].items():
        operation = methods["get"]
        scheme: object = {"public": [], "member": [{"memberToken": []}]}.get(operation["x-role"], [{"apiKey": []}])
        assert operation["security"] == scheme, path
        assert operation["summary"]
        for parameter in operation.get("parameters", ()):
            needs_one = parameter["in"] == "path" or parameter["required"]
            schema = parameter["schema"]
            told = "examples" in schema or "examples" in parameter or schema.get("format") == "uuid"
            assert told or not needs_one, (path, parameter)


def test_error_is_a_page_for_a_browser_and_a_problem_document_for_a_program(idle_api: str) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path, status, said in (
        ("/months/foo", 422, "is not a month"),
        ("/nothing", 404, "nothing at this address"),
        ("/creators/" + "a" * 65, 422, "creator_id"),
        ("/?monht=2026-11", 422, "parameter"),
        ("/months/%3Cscript%3E", 422, "is not a month"),
    ):
        page = ask(idle_api + path, headers=browser)
        assert (page.status, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert said in page.body.decode()
        assert b"<script>" not in page.body
        told = ask(idle_api + path)
        assert (told.status, told.headers["content-type"]) == (status, "application/problem+json")
    for path in ("/v1/months/foo", "/v1/nothing"):
        assert ask(idle_api + path, headers=browser).headers["content-type"] == "application/problem+json"
