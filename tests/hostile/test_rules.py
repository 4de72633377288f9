"""Both ports read a request as RFC 9112 has it, so that no proxy before them reads it otherwise."""

from __future__ import annotations

import json
import random
import time

import pytest

from deploy.stack.embedded import ServiceProcess
from tests.hostile.wire import Wire

LAST = b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
SMUGGLED = b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize("path", [b"/v1/clicks", b"/live", b"/login"])
@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("chunked", [False, True])
def test_body_behind_an_upgrade_belongs_to_its_request(
    port_of: ServiceProcess, path: bytes, upgrade: bytes, *, chunked: bool
) -> None:
    length, body = b"content-length: %d" % len(SMUGGLED), SMUGGLED
    if chunked:
        length, body = b"transfer-encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: %b\r\n%b\r\n\r\n"
    with Wire(port_of.port) as wire:
        wire.send(head % (path, upgrade, length))
        time.sleep(0.05)  # the body is a packet of its own
        wire.send(body)
        first, _ = wire.answer()
        assert first >= 300
        try:
            wire.send(LAST)
        except OSError:
            return  # ended behind its answer: nothing was read as a request
        # Served where the body was read, or the end where it was not; never an answer to what stood in the body.
        assert wire.statuses() in ([], [200])


def test_upgrade_of_a_request_without_a_body_is_ignored(port_of: ServiceProcess) -> None:
    upgrade = b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with Wire(port_of.port) as wire:
        wire.send(upgrade + upgrade + LAST)
        assert wire.statuses() == [200, 200, 200]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /live HTTP/1.0\r\nhost: x\r\nhost: x\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: a@b\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: a,b\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\nhost:\r\n\r\n", 200),
        (b"GET /live HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", 200),
        (b"GET /live HTTP/1.0\r\n\r\n", 200),
        (b"GET http://x/live HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        (b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /live\r\n\r\n", 400),
        (b"GET /live HTTP/2.0\r\nhost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\nhost: x\n\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\nfoo: y\r\n z\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\nfoo: y\x00z\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\nfoo: y\rz\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 1\r\n\r\nx", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n", 400),
        (b"GET /live HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 128 + b"\r\n", 431),
        (b"GET /live HTTP/1.1\r\nhost: x\r\na: " + b"b" * 41_000 + b"\r\n\r\n", 431),
        (b"GET /live HTTP/1.1\r\nhost: x\r\na: " + b"b" * 15_000 + b"\r\n\r\n", 200),
    ],
)
def test_head_is_taken_or_refused_by_the_rules(port_of: ServiceProcess, head: bytes, status: int) -> None:
    with Wire(port_of.port) as wire:
        wire.send(head)
        first, body = wire.answer()
        assert first == status
        if status in {400, 431}:
            assert json.loads(body)["reason"] in {"http_malformed", "head_too_large"}
            assert wire.answer()[0] == 0


@pytest.mark.parametrize("seed", range(30))
def test_requests_are_told_apart_wherever_the_packets_part(port_of: ServiceProcess, seed: int) -> None:
    # These read the body before they answer.
    line, status = {"ingest": (b"POST /v1/clicks", 401), "api": (b"POST /login", 303)}[port_of.name]
    chunked = line + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\nt: u\r\n\r\n"
    sized = line + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n\r\n\r\n"
    text = chunked + b"\r\n" + sized + chunked + LAST
    with Wire(port_of.port) as wire:
        dice = random.Random(seed)
        at = 0
        while at < len(text):
            step = dice.choice([1, 2, 3, 5, 7, 11, 100])
            wire.send(text[at : at + step])
            at += step
            if dice.random() < 0.3:
                time.sleep(0.002)  # so that what came is read before the next packet
        assert wire.statuses() == [status, status, status, 200]


def test_a_hundred_requests_sent_ahead_are_all_answered(port_of: ServiceProcess) -> None:
    with Wire(port_of.port) as wire:
        wire.send(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n" * 99 + LAST)
        assert wire.statuses() == [200] * 100


def test_answer_before_the_bodys_end_ends_the_connection(port_of: ServiceProcess) -> None:
    with Wire(port_of.port) as wire:
        wire.send(b"GET /live HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(SMUGGLED))
        assert wire.answer()[0] == 200
        wire.send(SMUGGLED)
        assert wire.answer()[0] == 0


def test_client_that_expects_100_continue_and_head_keep_working(port_of: ServiceProcess) -> None:
    with Wire(port_of.port) as wire:
        wire.send(b"POST /login HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        if port_of.name == "api":
            assert wire.answer()[0] == 100
            wire.send(b"key=a")
        assert wire.answer()[0] >= 303
    with Wire(port_of.port) as wire:
        wire.send(b"HEAD /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
        line = wire.reader.readline()
        while wire.reader.readline().strip():
            pass
        assert line.split()[1] in {b"404", b"405"}
        wire.send(LAST)
        assert wire.statuses() == [200]
