"""The whole way over TLS and SASL: topics, ingest, streams and verify before a Kafka that takes nothing else."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.chaos.arena import Served
from deploy.local import HOST, ROOT, ApacheKafka, free_port
from ingest.clock import system_clock
from ingest.tokens import issue, keygen
from tests.support.serving import ask
from tests.support.waiting import wait_until
from warehouse.client import Warehouse

PASSWORD = "correct-horse"
pytestmark = [pytest.mark.usefixtures("kafka_fetched"), pytest.mark.timeout(180)]


def make_certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself: `server.pem` with its key, `ca.pem` without."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka of a test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(public)
    (folder / "server.pem").write_bytes(private + public)


class SecureKafka(ApacheKafka):
    """One node that speaks SASL over TLS with clients, and knows the user `flattr`."""

    def _properties(self) -> str:
        make_certificate(self.folder)
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        kept = [
            line
            for line in super()._properties().splitlines()
            if not line.startswith(("listeners=", "advertised.listeners=", "listener.security.protocol.map="))
        ]
        return "\n".join(
            [
                *kept,
                f"listeners=SASL_SSL://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}",
                f"advertised.listeners=SASL_SSL://{HOST}:{self.port}",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
                "inter.broker.listener.name=SASL_SSL",
                "sasl.mechanism.inter.broker.protocol=PLAIN",
                "sasl.enabled.mechanisms=PLAIN",
                (
                    f'listener.name.sasl_ssl.plain.sasl.jaas.config={plain} username="node" password="{PASSWORD}" '
                    f'user_node="{PASSWORD}" user_flattr="{PASSWORD}";'
                ),
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={self.folder / 'server.pem'}",
                "ssl.truststore.type=PEM",
                f"ssl.truststore.location={self.folder / 'ca.pem'}",
                "",
            ]
        )


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with SecureKafka(tmp_path_factory.mktemp("secure")) as node:
        yield node


def settings(node: SecureKafka, warehouse: Warehouse, folder: Path, password: str = PASSWORD) -> dict[str, str]:
    return {
        "FLATTR_BROKER": node.address,
        "FLATTR_BROKER_SECURITY": "SASL_SSL",
        "FLATTR_BROKER_CA_FILE": str(node.folder / "ca.pem"),
        "FLATTR_BROKER_SASL_MECHANISM": "PLAIN",
        "FLATTR_BROKER_SASL_USERNAME": "flattr",
        "FLATTR_BROKER_SASL_PASSWORD": password,
        "FLATTR_WAREHOUSE": warehouse.url,
        "FLATTR_TOKEN_KEYS": str(folder / "keys.json"),
    }


def flattr(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy", *arguments], env={**os.environ, **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_click_goes_all_the_way_over_tls_and_sasl(
    secure_kafka: SecureKafka, warehouse: Warehouse, tmp_path: Path
) -> None:
    environment = settings(secure_kafka, warehouse, tmp_path)
    keygen(tmp_path / "keys.json", algorithm="HS256", kid="1")
    made = flattr(["topics", "create", "--partitions", "2"], environment)
    assert made.returncode == 0, made.stderr
    services = {}
    for name in ("ingest", "streams"):
        port = free_port()
        services[name] = Served(
            name, [sys.executable, "-m", "deploy", name], folder=tmp_path / name, port=port,
            environment={**environment, f"FLATTR_{name.upper()}_PORT": str(port)},
        )  # fmt: skip
    with services["ingest"], services["streams"]:
        token = issue(tmp_path / "keys.json", "ann", audience="flattr", now_ms=system_clock(), valid_s=600)
        click = {"click_id": str(uuid.uuid4()), "creator_id": "bob", "thing": "https://bob.example/1"}
        answer = ask(
            f"http://{services['ingest'].address}/v1/clicks", method="POST",
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
            body=json.dumps(click).encode(),
        )  # fmt: skip
        assert answer.status == 202
        wait_until(lambda: warehouse.rows("SELECT count() FROM progress") != [(0,)], "the click is counted")
        verified = flattr(["verify", "--json"], environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    checks = json.loads(verified.stdout)
    assert all(check["holds"] for check in checks)
    sampled = next(check for check in checks if "sample" in check["name"])
    assert sampled["left"] == 1


def test_a_wrong_password_and_a_client_in_the_clear_get_nothing(
    secure_kafka: SecureKafka, warehouse: Warehouse, tmp_path: Path
) -> None:
    wrong = flattr(["topics", "create"], settings(secure_kafka, warehouse, tmp_path, password="guessed"))
    assert wrong.returncode != 0
    assert PASSWORD not in wrong.stdout + wrong.stderr
    clear = flattr(["topics", "create"], {"FLATTR_BROKER": secure_kafka.address})
    assert clear.returncode != 0
