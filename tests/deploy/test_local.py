"""The embedded parts' ports."""

from __future__ import annotations

import socket
from pathlib import Path

from deploy.stack.embedded import HOST, free_port


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert {free_port() < first_outgoing for _ in range(200)} == {True}


def test_free_port_is_given_once() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)


def test_port_that_somebody_listens_on_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, free_port() + 1))
        assert free_port() != taken.getsockname()[1]
