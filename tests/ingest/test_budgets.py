"""What runs out is dealt out: by address, the idle and the slow going first, and nothing whole ended for it."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from deploy.stack.embedded import EmbeddedBroker
from ingest.http.server import _BeaconCycle
from tests.hostile.wire import Wire
from tests.ingest.conftest import Ingest, make_topics, serving, settings_for, wait_until

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}
MB = 1024 * 1024
OTHER = "127.0.0.2"


@pytest.fixture
def small(embedded_broker: EmbeddedBroker, topic: str, token_keys: Path) -> Iterator[Ingest]:
    """A service with room for 8 connections and 1 MB."""
    make_topics(embedded_broker.address, topic)
    bounds = {
        "connections_max": 8,
        "bodies_max_bytes": MB,
        "head_timeout_s": 60,
        "body_timeout_s": 60,
        "write_timeout_s": 1,
        "trusted_proxies": "127.0.0.9",
    }
    with serving(settings_for(embedded_broker, topic, token_keys, **bounds)) as ingest:
        yield ingest


def half_body(wire: Wire, size: int = 200_000, more: bytes = b"") -> None:
    wire.send(b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (more, size + 1) + b"[" * size)


def live(wire: Wire) -> int:
    wire.send(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
    return wire.answer()[0]


def held(ingest: Ingest) -> float:
    return ingest.metric("flattr_ingest_held_bytes")


def holds(ingest: Ingest, size: int) -> bool:
    return held(ingest) >= size


def halves() -> list[_BeaconCycle]:
    """Requests of this process with a part of a body, those of other services in it included."""
    return [one for one in gc.get_objects() if isinstance(one, _BeaconCycle) and one.gathered()]


def test_half_a_body_ends_with_its_connection_and_not_with_the_next_collection(small: Ingest) -> None:
    gc.collect()
    before = halves()
    gc.disable()
    try:
        for _ in range(4):
            with Wire(small.settings.port) as one:
                half_body(one)
                wait_until(lambda: holds(small, 200_000))
            wait_until(lambda: held(small) == 0)
        assert [one for one in halves() if not any(one is other for other in before)] == []
    finally:
        gc.enable()


def test_half_bodies_of_one_address_end_the_oldest_of_its_own(small: Ingest) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(Wire(small.settings.port, source=OTHER))
        half_body(other)
        wait_until(lambda: held(small) >= 200_000)
        first, second, third = (stack.enter_context(Wire(small.settings.port)) for _ in range(3))
        for number, wire in enumerate((first, second, third), 2):
            half_body(wire)
            if wire is not third:
                wait_until(partial(holds, small, number * 200_000))
        status, body = first.answer()
        assert (status, json.loads(body)["reason"]) == (503, "bodies_full")
        assert first.answer()[0] == 0
        other.send(b"]")
        assert other.answer()[0] == 401  # it could go on to its end
        assert small.post(CLICK).status == 202


def test_half_bodies_of_many_addresses_make_room_and_a_whole_one_is_served(small: Ingest) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(small.settings.port, source=f"127.0.0.{n}")) for n in (2, 3, 4, 5, 6, 7)]
        for wire in wires:
            half_body(wire)
        assert wires[0].answer()[0] == 503
        assert small.post([CLICK] * 1000).status == 202
        assert small.metric("flattr_ingest_refused_total", reason="bodies_full") >= 1
    wait_until(lambda: held(small) == 0)


def test_idle_connections_of_an_address_make_room_for_its_new_ones(small: Ingest) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(Wire(small.settings.port, source=OTHER))
        assert live(other) == 200
        idle = [stack.enter_context(Wire(small.settings.port)) for _ in range(5)]
        assert live(idle[-1]) == 200
        assert idle[0].answer()[0] == 0  # four of eight are its share
        assert live(other) == 200
        assert small.post(CLICK).status == 202


def test_slow_ones_make_room_where_nobody_is_idle(small: Ingest) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(Wire(small.settings.port)) for _ in range(4)]
        for wire in slow:
            wire.send(b"GET /live HTTP/1.1\r\nhost:")
            time.sleep(0.02)  # so that one is the oldest
        assert small.post(CLICK).status == 202
        status, body = slow[0].answer()
        assert (status, json.loads(body)["reason"]) == (503, "connections_full")


def test_clients_of_a_trusted_proxy_have_shares_of_their_own(small: Ingest) -> None:
    with ExitStack() as stack:
        bad = [stack.enter_context(Wire(small.settings.port, source="127.0.0.9")) for _ in range(3)]
        for wire in bad:
            half_body(wire, more=b"x-forwarded-for: 198.51.100.7\r\n")
        assert bad[0].answer()[0] == 503
        good = stack.enter_context(Wire(small.settings.port, source="127.0.0.9"))
        half_body(good, 1000, b"x-forwarded-for: 198.51.100.8\r\n")
        good.send(b"]")
        assert good.answer()[0] == 401
    wait_until(lambda: held(small) == 0)


def test_client_that_does_not_take_its_answers_is_cut_off(small: Ingest) -> None:
    with Wire(small.settings.port, source=OTHER) as wire:
        wire.socket.settimeout(0.2)
        with pytest.raises((TimeoutError, ConnectionError)):  # it does not read on, either
            wire.send(b"GET /button.js HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000_000)
        wait_until(lambda: small.metric("flattr_ingest_connections") == 1)
        assert held(small) == 0


def test_idle_connection_keeps_nothing_of_its_last_request(small: Ingest) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            wire = stack.enter_context(Wire(small.settings.port))
            wire.send(b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 400000\r\n\r\n" + b"[" * 400_000)
            assert wire.answer()[0] == 401
            assert held(small) == 0
