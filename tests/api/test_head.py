"""HEAD on every GET route: the same status and headers, and no body."""

from __future__ import annotations

import http.client

import pytest

from tests.security.test_authorisation import ROWS
from tests.support.serving import ask

PATHS = sorted({path for method, path, _ in ROWS if method == "GET"})
ENDLESS = ("/v1/live", "/v1/creators/anna/live")
#: They state the moment, or the framing of a body, so they may differ from one request to the next.
VARY = ("date", "content-length", "transfer-encoding")


def told(response: http.client.HTTPResponse) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    return response.status, {name.lower(): text for name, text in response.getheaders() if name.lower() not in VARY}


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get_and_no_body(idle_api: str, path: str) -> None:
    connection = http.client.HTTPConnection(idle_api.removeprefix("http://"), timeout=15)
    try:
        connection.request("HEAD", path)
        head = connection.getresponse()
        assert head.read() == b""
        # A byte of a body would be taken for the beginning of the next answer.
        connection.request("GET", "/live")
        next_answer = connection.getresponse()
        assert (next_answer.status, next_answer.read()) == (200, b'{"status":"live"}')
        connection.request("GET", path)
        assert told(head) == told(connection.getresponse())
    finally:
        connection.close()


def test_streams_that_answer_a_head_take_no_seat(idle_api: str) -> None:
    for path in ENDLESS:
        assert ask(f"{idle_api}{path}", method="HEAD").status == 200
    assert "flattr_api_listeners 0.0" in ask(f"{idle_api}/metrics").body.decode()
