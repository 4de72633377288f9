"""`flattr doctor` on real parts: what is well is said to be, and everything that is broken here is found."""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.cli.doctor.clocks import difference
from deploy.cli.doctor.findings import State, examine, ok
from deploy.cli.doctor.warehouse import TESTED, needs
from deploy.provision.secret_files import SERVICES
from deploy.provision.topics import TopicPlan, create_topics, rejected_plan
from deploy.stack.embedded import HOST, ROOT, EmbeddedBroker, EmbeddedWarehouse
from ingest.runtime.tokens import keygen
from tests.deploy.test_secure_kafka import ComposeKafka, flattr, secure_kafka, settings
from tests.security.test_roles import PASSWORD, ROLES, GuardedWarehouse
from tests.support.serving import serving
from tests.support.waiting import wait_until
from warehouse.api.app import create_app
from warehouse.api.settings import ApiSettings
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate, migrations

__all__ = ["secure_kafka"]
Findings = list[dict[str, str]]


def doctor(*arguments: str, before: Any = None, **environment: str) -> tuple[int, Findings]:
    """What it finds in an environment that has nothing else of ours."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FLATTR_")}
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "doctor", "--json", *arguments],
        env={**bare, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=before, cwd="/",
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def of(findings: Findings, about: str) -> str:
    """State, finding and remedy of what is about something."""
    return "\n".join(
        f"{one['state']}: {one['found']} -> {one['to_do']}" for one in findings if one["about"].startswith(about)
    )


@pytest.fixture
async def healthy(warehouse: Warehouse, embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is wrong."""
    keygen(tmp_path / "keys.json", algorithm="HS256", kid="1")
    await create_topics(embedded_broker.address, [TopicPlan(topic, 2), rejected_plan(f"{topic}-rejected")])
    return {
        "FLATTR_BROKER": embedded_broker.address,
        "FLATTR_WAREHOUSE": warehouse.url,
        "FLATTR_TOPIC_CLICKS": topic,
        "FLATTR_TOPIC_REJECTED": f"{topic}-rejected",
        "FLATTR_TOKEN_KEYS": str(tmp_path / "keys.json"),
        "FLATTR_INGEST_SPOOL": str(tmp_path / "spool"),
    }


def test_nothing_is_wrong_with_what_is_well(healthy: dict[str, str]) -> None:
    code, found = doctor("streams", FLATTR_OPERATOR="ann", **healthy)  # of another command's option
    assert code == 0
    assert {one["state"] for one in found} <= {"ok", "warning", "unknown"}
    for about in ("settings", "file FLATTR_TOKEN_KEYS", "folder FLATTR_INGEST_SPOOL", "schema", "rights of default",
                  "warehouse", "clock of warehouse", "kafka broker", "topic", "settings of topic"):  # fmt: skip
        assert "ok: " in of(found, about), about


def test_it_says_what_it_could_not_ask(healthy: dict[str, str]) -> None:
    _, found = doctor("streams", **healthy)
    assert of(found, "clock of kafka").startswith("unknown: the broker does not tell the time")
    assert of(found, "rights on topic").startswith("unknown: the broker knows no rights")


@pytest.mark.parametrize(
    ("changed", "about", "said"),
    [
        ({"FLATTR_INGEST_PROT": "1"}, "settings", "warning: FLATTR_INGEST_PROT is no setting"),
        ({"FLATTR_STREAMS_FLUSH_MS": "hunter2"}, "settings", "wrong: FLATTR_STREAMS_FLUSH_MS: Input should be"),
        ({"FLATTR_API_PARTS": "hunter2"}, "settings", "wrong: FLATTR_API_PARTS: must be JSON"),
        ({"FLATTR_CLOCK": "+90"}, "clock of warehouse", "wrong: 9"),
        ({"FLATTR_CLOCK": "-5"}, "clock of warehouse", "s ahead of ours"),
        ({"FLATTR_TOKEN_KEYS": "/nowhere"}, "file FLATTR_TOKEN_KEYS", "wrong: cannot read token keys from /nowhere"),
        ({"FLATTR_INGEST_SPOOL": "/proc/spool"}, "folder FLATTR_INGEST_SPOOL", "wrong: cannot write to /proc/spool"),
        ({"FLATTR_INGEST_SPOOL_MAX_BYTES": str(1 << 50)}, "folder FLATTR_INGEST_SPOOL", "warning: "),
        ({"FLATTR_TOPIC_CLICKS": "never-made"}, "topic never-made", "wrong: Kafka says UnknownTopicOrPartitionError"),
        ({"FLATTR_LOG_PARTITIONS": "7"}, "topic clicks", "wrong: it has 2 partitions, fewer than the 7 in use"),
        ({"FLATTR_TOPIC_CLICKS_DAYS": "50"}, "settings of topic clicks", "warning: records stay for 100 days, and 50"),
        ({"FLATTR_BROKER": "127.0.0.1:1"}, "kafka", "wrong: no broker of 127.0.0.1:1 lets us in"),
        (
            {"FLATTR_WAREHOUSE": "clickhouse://u:hunter2@127.0.0.1:1/x"},
            "warehouse 127.0.0.1:1",
            "wrong: The warehouse at clickhouse://u:***@127.0.0.1:1/x does not answer",
        ),
        ({"FLATTR_WAREHOUSE": "http://u:hunter2@x"}, "settings", "wrong: FLATTR_WAREHOUSE (or --warehouse)"),
    ],
)
def test_what_is_broken_is_found(healthy: dict[str, str], changed: Mapping[str, str], about: str, said: str) -> None:
    code, found = doctor("streams", **{**healthy, **changed})
    assert said in of(found, about)
    assert code == ("wrong" in {one["state"] for one in found})


def test_a_disk_that_takes_no_more_is_found(healthy: dict[str, str]) -> None:
    code, found = doctor("streams", before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), **healthy)
    assert code == 1
    assert "wrong: cannot write to" in of(found, "folder FLATTR_INGEST_SPOOL")


def test_keys_that_everybody_may_read_are_a_warning(healthy: dict[str, str]) -> None:
    Path(healthy["FLATTR_TOKEN_KEYS"]).chmod(0o644)
    assert "warning: everybody on this machine may read" in of(doctor(**healthy)[1], "file FLATTR_TOKEN_KEYS")


def test_keys_that_are_none_are_not_repeated(healthy: dict[str, str]) -> None:
    Path(healthy["FLATTR_TOKEN_KEYS"]).write_text('{"1": {"kty": "hunter2", "k": "hunter2"}}')
    assert "wrong: " in of(doctor(**healthy)[1], "file FLATTR_TOKEN_KEYS")


def test_a_schema_of_before_is_found(warehouse_server: EmbeddedWarehouse, healthy: dict[str, str]) -> None:
    code, found = doctor("streams", **{**healthy, "FLATTR_WAREHOUSE": f"{warehouse_server.url}/never_made"})
    assert code == 1
    assert "wrong: no migration was applied" in of(found, "schema")
    warehouse = Warehouse(healthy["FLATTR_WAREHOUSE"])
    warehouse.command("ALTER TABLE migrations DELETE WHERE number > 119", settings={"mutations_sync": 2})
    warehouse.close()
    said = of(doctor("streams", **healthy)[1], "schema")
    later = sum(migration.number > 119 for migration in migrations())
    assert said.startswith(f"wrong: {later} migrations are not applied, from 0120_")
    assert "flattr warehouse migrate" in said


def test_a_server_that_accepts_and_says_nothing_costs_no_more_than_the_time_that_was_given(
    healthy: dict[str, str],
) -> None:
    with socket.create_server((HOST, 0)) as mute:
        address = f"{HOST}:{mute.getsockname()[1]}"
        changed = {"FLATTR_BROKER": address, "FLATTR_WAREHOUSE": f"clickhouse://{address}/x"}
        code, found = doctor("--timeout-s", "3", **{**healthy, **changed})
    assert code == 1
    assert "wrong: " in of(found, "kafka")
    assert "wrong: " in of(found, "warehouse")
    assert "ok: " in of(found, "file FLATTR_TOKEN_KEYS")


def test_a_check_that_hangs_keeps_what_it_found() -> None:
    hung = threading.Event()

    def hangs() -> Iterator[Any]:
        yield ok("first", "well")
        hung.wait(20)

    found = examine({"it": hangs, "other": lambda: iter([ok("second", "well")])}, 0.2)
    hung.set()
    assert [(one.about, one.state) for one in found] == [
        ("first", State.OK), ("it", State.WRONG), ("second", State.OK),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("theirs_ms", "state"), [(1000, "ok"), (1500, "ok"), (2900, "ok"), (3600, "warning"), (-40_000, "wrong")]
)
def test_a_clock_is_off_by_what_the_question_did_not_take(theirs_ms: int, state: str) -> None:
    assert difference("it", 1000, theirs_ms, 2000).state == state


# Rights in the warehouse


class Lacking(GuardedWarehouse):
    """A server whose streams may not write what was late, nor read a table."""

    def _users(self) -> str:
        return super()._users().replace("<query>GRANT INSERT ON flattr.late</query>", "")


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWarehouse]:
    server = Lacking(tmp_path_factory.mktemp("lacking"))
    server.environment |= {f"FLATTR_DB_PASSWORD_{role.upper()}": PASSWORD for role in ROLES}
    with server:
        admin = Warehouse(f"{server.url}/default")
        admin.command("CREATE DATABASE flattr")
        admin.close()
        migrator = Warehouse(as_user(server, "migrate"))
        migrate(migrator)
        migrator.close()
        yield server


def as_user(server: EmbeddedWarehouse, role: str) -> str:
    return f"clickhouse://flattr_{role}:{PASSWORD}@{HOST}:{server.port}/flattr"


def test_a_right_that_is_missing_is_named(lacking: EmbeddedWarehouse) -> None:
    code, found = doctor(FLATTR_WAREHOUSE=as_user(lacking, "streams"))
    assert code == 1
    assert "wrong: what streams does needs INSERT ON late -> " in of(found, "rights of flattr_streams")


@pytest.mark.parametrize("role", sorted({role for _, role in SERVICES.values() if role} - {"streams"}))
def test_every_other_role_has_what_it_needs(lacking: EmbeddedWarehouse, role: str) -> None:
    _, found = doctor(FLATTR_WAREHOUSE=as_user(lacking, role))
    assert of(found, f"rights of flattr_{role}").startswith("ok: all ")


def test_a_user_who_may_less_than_another_service_needs_is_found(lacking: EmbeddedWarehouse) -> None:
    _, found = doctor("close", FLATTR_WAREHOUSE=as_user(lacking, "api"))
    assert "wrong: what close does needs INSERT ON locks" in of(found, "rights of flattr_api")


def test_every_service_has_a_role_that_is_known() -> None:
    assert all(needs(role) for _, role in SERVICES.values() if role)
    assert needs("nobody") is None


def test_the_version_that_is_tested_is_the_one_that_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f"chdb-core=={TESTED}.0" in tomllib.loads(text)["project"]["optional-dependencies"]["local"]


# Certificates


def certificate(folder: Path, *, name: str, days: int) -> Path:
    """A self-signed certificate with its key, in one file, that ends so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}-{days}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@contextmanager
def greeting(pem: Path) -> Iterator[int]:
    """A server that greets by TLS and says nothing else; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(one, server_side=True):
                        pass
                except OSError:
                    one.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    ("name", "days", "trusted", "said"),
    [
        ("localhost", 100, True, "ok: CN=localhost is valid until"),
        ("localhost", 10, True, "warning: CN=localhost expires on"),
        ("localhost", -1, True, "wrong: it is not believed: certificate has expired -> renew"),
        ("elsewhere", 100, True, "wrong: it is not believed: Hostname mismatch"),
        ("localhost", 100, False, "wrong: it is not believed: self-signed certificate -> name the authority"),
    ],
)
def test_certificates_that_are_shown(tmp_path: Path, name: str, days: int, said: str, *, trusted: bool) -> None:
    shown = certificate(tmp_path, name=name, days=days)
    ca = shown if trusted else certificate(tmp_path, name="authority", days=100)
    with greeting(shown) as port:
        url = f"clickhouses://u:hunter2@localhost:{port}/x?ca={ca}"
        _, found = doctor("--timeout-s", "4", FLATTR_WAREHOUSE=url)
    assert said in of(found, f"certificate of warehouse localhost:{port}")


def test_a_server_without_tls_and_a_ca_that_has_expired_are_found(tmp_path: Path) -> None:
    old = certificate(tmp_path, name="authority", days=-1)
    with serving(create_app(ApiSettings())) as url:
        _, found = doctor(
            "--timeout-s", "4", FLATTR_BROKER=f"localhost:{url.rpartition(':')[2]}", FLATTR_BROKER_SECURITY="SSL",
            FLATTR_BROKER_CA_FILE=str(old),
        )  # fmt: skip
    assert "wrong: the server does not speak TLS" in of(found, "certificate of kafka")
    assert "wrong: CN=authority has expired" in of(found, "file FLATTR_BROKER_CA_FILE")


# Apache Kafka with TLS, SASL and rights


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", ["ingest", "streams", "finance", "erasure", "verify", "replay", "subscriptions"])
def test_every_kafka_user_has_what_it_needs(secure_kafka: ComposeKafka, service: str) -> None:
    found: Findings = []

    def groups_are_read() -> bool:
        found[:] = doctor(service, **settings(secure_kafka, service))[1]
        return "LoadInProgress" not in of(found, "rights on group")

    wait_until(groups_are_read, "Kafka has started")
    assert "ok: " in of(found, "rights on topic clicks")
    assert "wrong" not in of(found, "rights on")
    assert "ok: CN=kafka is valid until" in of(found, "certificate of kafka localhost")
    assert ("ok: " in of(found, "rights on group")) == (service == "streams")
    assert "unknown: only a user who may describe the cluster is told" in of(found, "clock of kafka")


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_kafka_rights_that_are_missing_are_named(secure_kafka: ComposeKafka) -> None:
    _, found = doctor("ingest", **settings(secure_kafka, "streams"))
    assert "wrong: streams may not Write -> run `flattr topics allow`" in of(found, "rights on topic clicks")
    _, found = doctor("streams", **settings(secure_kafka, "finance"))
    assert "wrong: Kafka says TopicAuthorizationFailedError" in of(found, "topic rejected")
    assert "wrong: streams may not join it" in of(found, "rights on group flattr-streams")


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_the_operator_is_told_the_time_of_kafka_and_what_a_topic_is_set_to(secure_kafka: ComposeKafka) -> None:
    given = settings(secure_kafka, "topics")
    _, found = doctor(**given)
    assert of(found, "clock of kafka").startswith("ok: ")
    assert of(found, "settings of topic clicks").startswith("ok: ")
    _, found = doctor(**{**given, "FLATTR_CLOCK": "-90"})
    assert of(found, "clock of kafka").startswith("wrong: ")
    made = flattr(["topics", "create", "--clicks", "short", "--partitions", "1"],
                  {**given, "FLATTR_TOPIC_CLICKS_DAYS": "35"})  # fmt: skip
    assert made.returncode == 0, made.stderr
    _, found = doctor(**{**given, "FLATTR_TOPIC_CLICKS": "short", "FLATTR_TOPIC_CLICKS_DAYS": "100"})
    assert "warning: records stay for 35 days, and 100 are set" in of(found, "settings of topic short")


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"FLATTR_BROKER_SASL_PASSWORD": "hunter2"}, "Authentication failed"),
        ({"FLATTR_BROKER_SECURITY": "PLAINTEXT"}, "wrong: no broker of"),
    ],
)
def test_a_kafka_that_lets_nobody_in_says_why(secure_kafka: ComposeKafka, changed: dict[str, str], said: str) -> None:
    code, found = doctor("--timeout-s", "6", **{**settings(secure_kafka, "topics"), **changed})
    assert code == 1
    assert said in of(found, "kafka")


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_a_certificate_of_another_name_is_found(secure_kafka: ComposeKafka) -> None:
    given = {**settings(secure_kafka, "topics"), "FLATTR_BROKER": f"{HOST}:{secure_kafka.port}"}
    assert "wrong: it is not believed: IP address mismatch" in of(doctor(**given)[1], "certificate of kafka")


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_a_kafka_that_stands_still_is_found(secure_kafka: ComposeKafka) -> None:
    assert secure_kafka.process is not None
    secure_kafka.process.send_signal(signal.SIGSTOP)
    try:
        code, found = doctor("--timeout-s", "4", **settings(secure_kafka, "topics"))
    finally:
        secure_kafka.process.send_signal(signal.SIGCONT)
    assert code == 1
    assert "wrong: " in of(found, "kafka")
