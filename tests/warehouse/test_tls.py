"""TLS to the warehouse: a real handshake, at a listener in front of the server, whose engine here has none itself."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.provision import secret_files
from deploy.stack.embedded import HOST, EmbeddedWarehouse
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseUnavailable

#: The name in the certificate.
NAME = "localhost"


def carry(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            to.sendall(data)
    for end in (source, to):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def join(plain: socket.socket, context: ssl.SSLContext, target: int) -> None:
    with (
        plain,
        suppress(OSError),
        context.wrap_socket(plain, server_side=True) as client,
        socket.create_connection((HOST, target)) as server,
    ):
        # Each end writes a question in pieces, and would wait 40 ms for the other to have noted the first.
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=carry, args=(server, client))
        back.start()
        carry(client, server)
        back.join()


def serve(listener: socket.socket, context: ssl.SSLContext, target: int) -> None:
    connections = []
    with suppress(OSError):
        while True:
            plain, _ = listener.accept()
            connections.append(threading.Thread(target=join, args=(plain, context, target)))
            connections[-1].start()
    for connection in connections:
        connection.join()


@pytest.fixture
def secure_port(tmp_path: Path, warehouse_server: EmbeddedWarehouse) -> Iterator[int]:
    """A TLS listener before the session's server; ca.pem signed its certificate, other.pem did not."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    authority, other = (
        secret_files._certificate("authority", key, issuer=None, signer=key, names=()) for key in keys[:2]
    )
    own = secret_files._certificate(NAME, keys[2], issuer=authority.subject, signer=keys[0], names=(NAME,))
    for name, certificate in (("ca.pem", authority), ("other.pem", other), ("own.pem", own)):
        (tmp_path / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(secret_files._private(keys[2]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "key.pem")
    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, context, warehouse_server.port), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def answer(url: str) -> object:
    with closing(Warehouse(url)) as warehouse:
        return warehouse.rows("SELECT 1 + 1")


def test_server_behind_tls_is_used_if_the_named_authority_signed_its_certificate(
    secure_port: int, tmp_path: Path
) -> None:
    assert answer(f"clickhouses://{NAME}:{secure_port}/default?ca={tmp_path}/ca.pem") == [(2,)]


def test_certificate_of_another_authority_or_for_another_name_is_refused(secure_port: int, tmp_path: Path) -> None:
    for url in (
        f"clickhouses://{NAME}:{secure_port}/default?ca={tmp_path}/other.pem",
        f"clickhouses://{NAME}:{secure_port}/default",
        f"clickhouses://{HOST}:{secure_port}/default?ca={tmp_path}/ca.pem",
    ):
        with pytest.raises(WarehouseUnavailable, match=r"(?i)certificate"):
            answer(url)


def test_authority_that_is_not_there_is_said() -> None:
    with pytest.raises(WarehouseUnavailable, match="No such file"):
        answer(f"clickhouses://{NAME}:1/default?ca=/nowhere/ca.pem")
