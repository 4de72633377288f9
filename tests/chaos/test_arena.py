"""The schedule and the proxy: what chaos is made of."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from deploy.proving.chaos.proxy import SLOW_S, Mode, Proxies, Proxy
from deploy.proving.chaos.schedule import STEP_MAX_MS, Kind, Targets, draw

TARGETS = Targets(
    brokers=["kafka-1", "kafka-2", "kafka-3"],
    ingest=["ingest-1", "ingest-2"],
    streams=["streams-1", "streams-2"],
    warehouse=["warehouse"],
    links=["kafka-1", "warehouse-1"],
)


def test_a_seed_draws_the_same_faults_and_another_seed_others() -> None:
    assert draw(1, 50, TARGETS) == draw(1, 50, TARGETS)
    assert draw(1, 50, TARGETS) != draw(2, 50, TARGETS)


def test_two_hundred_faults_are_of_every_kind_and_hit_every_part() -> None:
    faults = draw(1, 200, TARGETS)
    assert len(faults) == 200
    assert {fault.kind for fault in faults} == set(Kind)
    hit = {fault.target for fault in faults if fault.kind in (Kind.KILL, Kind.PAUSE, Kind.RESTART)}
    assert hit == {*TARGETS.brokers, *TARGETS.ingest, *TARGETS.streams, *TARGETS.warehouse}
    assert all(abs(fault.by_ms) <= STEP_MAX_MS for fault in faults)
    assert sum(fault.kind is Kind.MONTH for fault in faults) == 3


def test_one_broker_has_no_leader_to_lose() -> None:
    alone = Targets(["kafka-1"], TARGETS.ingest, TARGETS.streams, TARGETS.warehouse, TARGETS.links)
    assert Kind.LEADER not in {fault.kind for fault in draw(1, 200, alone)}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Before a server that sends everything back."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    proxies = Proxies()
    yield proxies.before(listening.getsockname()[1])
    proxies.close()
    listening.close()


def said_back(connection: socket.socket, what: bytes) -> float:
    """How long the echo of some bytes takes, in s."""
    began = time.monotonic()
    connection.sendall(what)
    assert connection.recv(1024) == what
    return time.monotonic() - began


def test_bytes_pass(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        assert said_back(connection, b"hello") < SLOW_S


def test_a_cut_link_resets_what_is_open_and_takes_nothing_new_until_it_is_mended(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        said_back(connection, b"hello")
        proxy.set(Mode.CUT)
        with pytest.raises(ConnectionError):
            assert connection.recv(1024) != b"", "closed in order, not cut"
    with (
        pytest.raises((ConnectionError, AssertionError)),
        socket.create_connection(("127.0.0.1", proxy.port), 5) as connection,
    ):
        said_back(connection, b"hello")
    proxy.set(Mode.PASS)
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        said_back(connection, b"hello")


def test_a_stalled_link_keeps_bytes_and_lets_them_go_later(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        said_back(connection, b"hello")
        proxy.set(Mode.STALL)
        connection.sendall(b"held")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1024)
        proxy.set(Mode.PASS)
        connection.settimeout(5)
        assert connection.recv(1024) == b"held"


def test_a_slow_link_takes_longer_each_way(proxy: Proxy) -> None:
    proxy.set(Mode.SLOW)
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as connection:
        assert said_back(connection, b"hello") >= 2 * SLOW_S
