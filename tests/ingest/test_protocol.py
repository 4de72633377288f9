"""The connection itself: pipelining, slow senders, long heads."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.embedded import EmbeddedBroker
from tests.ingest.conftest import Ingest, make_topics, serving, settings_for
from tests.support.serving import ask

CLICK = json.dumps({"creator_id": "bob", "thing": "https://example.org/a"}).encode()


class Wire:
    """A socket, spoken to in bytes."""

    def __init__(self, ingest: Ingest) -> None:
        self.socket = socket.create_connection(("127.0.0.1", ingest.settings.port), timeout=10)
        self.reader = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer; 0 when the connection ended."""
        line = self.reader.readline()
        if not line:
            return 0, b""
        length = 0
        while (header := self.reader.readline().strip()) != b"":
            name, _, value = header.partition(b": ")
            if name == b"content-length":
                length = int(value)
        return int(line.split()[1]), self.reader.read(length)

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


@pytest.fixture
def wire(ingest: Ingest) -> Iterator[Wire]:
    wire = Wire(ingest)
    yield wire
    wire.close()


def request(ingest: Ingest, body: bytes = CLICK, *, length: int | None = None, version: bytes = b"1.1") -> bytes:
    return b"POST /v1/clicks HTTP/%b\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (
        version,
        ingest.token().encode(),
        len(body) if length is None else length,
        body,
    )


def test_requests_sent_ahead_are_answered_in_their_order(ingest: Ingest, wire: Wire) -> None:
    live = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
    wire.send(request(ingest) + live + request(ingest, b"{") + live + request(ingest))
    answers = [wire.answer() for _ in range(5)]
    assert [status for status, _ in answers] == [202, 200, 400, 200, 202]


def test_request_may_come_in_pieces(ingest: Ingest, wire: Wire) -> None:
    whole = request(ingest)
    for at in range(0, len(whole), 40):
        wire.send(whole[at : at + 40])
        time.sleep(0.001)
    assert wire.answer()[0] == 202
    wire.send(request(ingest))
    assert wire.answer()[0] == 202


def test_connection_of_http_1_0_ends_with_its_answer(ingest: Ingest, wire: Wire) -> None:
    wire.send(request(ingest, version=b"1.0"))
    assert wire.answer()[0] == 202
    assert wire.answer()[0] == 0


def test_client_that_expects_100_continue_gets_it(ingest: Ingest, wire: Wire) -> None:
    head, _, _ = request(ingest).partition(b"\r\n\r\n")
    wire.send(head + b"\r\nexpect: 100-continue\r\n\r\n")
    assert wire.answer()[0] == 100
    wire.send(CLICK)
    assert wire.answer()[0] == 202


def test_announced_length_over_the_cap_is_refused_before_the_body(ingest: Ingest, wire: Wire) -> None:
    wire.send(request(ingest, b"", length=10_000_000_000))
    status, body = wire.answer()
    assert (status, json.loads(body)["reason"]) == (413, "body_too_large")
    assert wire.answer()[0] == 0


def test_head_that_never_ends_is_cut_off(wire: Wire) -> None:
    wire.send(b"POST /v1/clicks HTTP/1.1\r\n" + b"x-filler: " + b"y" * 60_000)
    assert wire.answer()[0] == 431


@pytest.mark.parametrize(
    "text",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /v1/clicks HTTP/9.9\r\n\r\n",
        b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/clicks HTTP/1.1\r\n bad: folded\r\n\r\n",
        b"POST /live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_request_that_two_servers_might_read_differently_is_a_400(ingest: Ingest, wire: Wire, text: bytes) -> None:
    wire.send(text)
    assert wire.answer()[0] == 400
    assert ingest.get("/live").status == 200


@pytest.mark.parametrize(
    "text",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n\x00\r\n\r\n",
    ],
)
def test_refusal_of_what_cannot_be_read_waits_for_the_answers_due_before_it(
    ingest: Ingest, wire: Wire, text: bytes
) -> None:
    wire.send(request(ingest) + request(ingest) + text)
    answers = [wire.answer()[0] for _ in range(5)]
    assert [one for one in answers if one not in {0, 200}] == [202, 202, 400]
    assert answers[-1] == 0


def test_slow_senders_and_idle_connections_are_let_go(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path
) -> None:
    make_topics(embedded_broker.address, topic)
    short_timeouts = {"body_timeout_s": 0.3, "keep_alive_s": 0.3}
    with serving(settings_for(embedded_broker, topic, token_keys, **short_timeouts)) as ingest:
        silent, head, body, behind = (Wire(ingest) for _ in range(4))
        head.send(b"POST /v1/clicks HTTP/1.1\r\nhost:")
        body.send(request(ingest, b"{", length=100))
        behind.send(request(ingest))
        assert behind.answer()[0] == 202
        status, text = body.answer()
        assert (status, json.loads(text)["reason"]) == (408, "body_timeout")
        assert head.answer()[0] == 408
        for wire in (silent, head, body, behind):
            assert wire.answer()[0] == 0
            wire.close()
        assert ingest.metric("flattr_ingest_refused_total", reason="body_timeout") == 1


def test_client_that_hangs_up_disturbs_nobody(ingest: Ingest) -> None:
    for _ in range(20):
        wire = Wire(ingest)
        wire.send(request(ingest))
        wire.close()
        half = Wire(ingest)
        half.send(request(ingest)[:-5])
        half.close()
    assert ingest.post(json.loads(CLICK)).status == 202


def test_page_of_routes_loads_nothing_and_runs_nothing(ingest: Ingest) -> None:
    answer = ingest.get("/docs")
    assert answer.status == 200
    assert b"POST /v1/clicks" in answer.body
    assert b"<script" not in answer.body
    assert b"://" not in answer.body
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert ingest.get("/redoc").status == 404


def test_head_is_answered_as_get(ingest: Ingest) -> None:
    for path in ("/live", "/ready", "/metrics", "/button.js", "/demo", "/openapi.json"):
        answer = ask(ingest.url + path, method="HEAD")
        assert (answer.status, answer.body) == (200, b""), path
