"""The secrets that docker-compose.yml needs, created once: CA, certificate, passwords, keys.

| file in the folder | contents | read by |
|---|---|---|
| `ca.pem` | the CA's certificate; not secret | every Kafka client |
| `ca-key.pem` | the CA's key, to sign the next certificate | no service: store it elsewhere |
| `kafka/ca.pem` | a copy of `ca.pem` for the broker | kafka |
| `kafka/broker.p12`, `kafka/password` | the broker's key and certificate, and their password | kafka |
| `kafka.env` | Kafka's users | kafka |
| `clickhouse.env` | passwords for deploy/images/clickhouse/users.xml | clickhouse |
| `clickhouse/ca.pem`, `/node.pem`, `/key.pem` | of a cluster: certificate and key of its nodes | each node |
| `SERVICE.env` | one service's users and passwords | that service |
| `tokens/keys.json` | keys of member tokens | ingest, api |
| `api/keys.json`, `api/session-secret` | hashes of API keys; what signs the pages' sessions | api |
| `rules.env` | FLATTR_CLOSE_* and FLATTR_QUARANTINE_*, by the operator | whoever computes money |
| `alertmanager/alertmanager.yml` | whom to tell of alerts, by the operator | alertmanager |
| `finance/` | files that finance brings in and takes out | finance |

Existing files are never overwritten: a second run only adds what a newer version needs. A file that needs a password
from another file reads it there, so that both agree whatever was deleted in between. Users that a newer version brings
are added to those that are there. A service that got a second user gets its lines, and those that it had stay.

Keys have folders of their own, and the folders are mounted: a changed file is a new file under the old name, which a
mount of the file itself never shows.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from ingest.runtime.tokens import keygen
from warehouse import keys

#: Host names by which clients, the broker itself and its health check reach it.
BROKER_NAMES: Final = ("kafka", "localhost")
#: Kafka's users; ``broker`` and ``operator`` are its super users.
BROKER_USERS: Final = (
    "broker", "operator", "ingest", "streams", "finance", "erasure", "subscriptions", "api", "verify", "replay",
)  # fmt: skip
#: Service -> its Kafka user and its ClickHouse user. The close asks Kafka where the log ends, as finance does.
SERVICES: Final[dict[str, tuple[str | None, str | None]]] = {
    "topics": ("operator", None),
    "migrate": (None, "migrate"),
    "ingest": ("ingest", None),
    "streams": ("streams", "streams"),
    "api": ("api", "api"),
    "verify": ("verify", "verify"),
    "replay": ("replay", "replay"),
    "finance": ("finance", "finance"),
    "close": ("finance", "close"),
    "approver": (None, "approver"),
    "operator": (None, "operator"),
    "erasure": ("erasure", "erasure"),
    "subscriptions": ("subscriptions", "subscriptions"),
    "backup": (None, "backup"),
    "grafana": (None, "grafana"),
}
WAREHOUSE_USERS: Final = (
    "streams", "api", "finance", "close", "approver", "operator", "erasure", "subscriptions", "backup", "migrate",
    "grafana", "verify", "replay",
)  # fmt: skip
#: How nodes of a cluster know each other (deploy/images/clickhouse/cluster/config.xml).
_BETWEEN_NODES: Final = ("FLATTR_CLUSTER_SECRET", "FLATTR_INTERSERVER_PASSWORD")
#: Where services of ours find the CA by which a cluster is verified.
WAREHOUSE_CA: Final = "/run/secrets/warehouse_ca"
#: Files of keys, and the names under which older versions wrote them.
_TOKENS: Final = ("tokens/keys.json", "token-keys.json")
_API: Final = ("api/keys.json", "api-keys.json")
#: Signs the sessions of the API's pages.
_SESSIONS: Final = "api/session-secret"
_JAAS: Final = "KAFKA_LISTENER_NAME_SASL__SSL_PLAIN_SASL_JAAS_CONFIG"
_JAAS_OF_CONTROLLER: Final = "KAFKA_LISTENER_NAME_CONTROLLER_PLAIN_SASL_JAAS_CONFIG"
_RULES: Final = "rules.env"
_RULES_TEXT: Final = """\
# FLATTR_CLOSE_* and FLATTR_QUARANTINE_* as docs/settings.md lists them, one NAME='value' a line, for all services.
# Payment files need the paying account: FLATTR_CLOSE_DEBTOR_NAME, FLATTR_CLOSE_DEBTOR_IBAN, FLATTR_CLOSE_DEBTOR_BIC.
"""
_ALERTMANAGER: Final = "alertmanager/alertmanager.yml"
_ALERTMANAGER_TEMPLATE: Final = Path(__file__).with_name("alertmanager.yml")
#: The user ids that the images run as.
_OUR_USER: Final = 10001
_KAFKA_USER: Final = 1000
_CLICKHOUSE_USER: Final = 101
_NOBODY: Final = 65534
_YEARS: Final = 5
_CURVE: Final = ec.SECP256R1()


@dataclass(frozen=True)
class Made:
    """The names of the files that a run created, and of those it found."""

    written: tuple[str, ...]
    retained: tuple[str, ...]
    #: The operator's new API key, to be shown once; empty if there was one already.
    api_key: str


def init(folder: Path, *, names: tuple[str, ...] = BROKER_NAMES, cluster: str = "") -> Made:
    """Create the missing files in ``folder``, each readable only by its reader.

    ``cluster`` are the warehouse's nodes, replicas separated by commas and shards by plus signs, if it has several.
    """
    return _Secrets(folder, names, cluster).init()


class _Secrets:
    def __init__(self, folder: Path, names: tuple[str, ...], cluster: str) -> None:
        self._folder = folder
        self._names = names
        self._cluster = cluster
        self._written: list[str] = []
        self._retained: list[str] = []
        self._api_key = ""

    def init(self) -> Made:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "kafka").mkdir(exist_ok=True)
        self._certificates()
        if self._cluster:
            self._node()
        self._kafka()
        self._clickhouse()
        for service in SERVICES:
            self._service(service)
        self._keys()
        self._operators_own()
        return Made(tuple(self._written), tuple(self._retained), self._api_key)

    def _write(
        self, name: str, content: bytes, *, user: int | None = None, mode: int = 0o600, replaces: bool = False
    ) -> None:
        path = self._folder / name
        # Written under a temporary name, as an incomplete secret would never be overwritten.
        fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, mode)
                self._hand_over(fresh, user)
                file.flush()
                os.fsync(descriptor)
            if replaces:
                fresh.replace(path)
            else:
                path.hardlink_to(fresh)
        finally:
            fresh.unlink(missing_ok=True)
        self._written.append(name)

    def _hand_over(self, path: Path, user: int | None) -> None:
        # Only root, as in compose's container, can change the owner. Files that no image reads go to the folder's
        # owner, because compose itself reads the environment files, as the user who calls it.
        if os.geteuid() == 0:
            owner = self._folder.stat()
            os.chown(path, *((owner.st_uid, owner.st_gid) if user is None else (user, user)))

    def _there(self, name: str) -> bool:
        if not (self._folder / name).exists():
            return False
        self._retained.append(name)
        return True

    def _certificates(self) -> None:
        if self._there("ca.pem"):
            # Its key may lie elsewhere by now, as it should.
            self._there("ca-key.pem")
        else:
            key = ec.generate_private_key(_CURVE)
            authority = _certificate("flattr authority", key, issuer=None, signer=key, names=())
            self._write("ca-key.pem", _private(key))
            self._write("ca.pem", authority.public_bytes(serialization.Encoding.PEM), mode=0o644)
        if not self._there("kafka/ca.pem"):
            self._write("kafka/ca.pem", (self._folder / "ca.pem").read_bytes(), mode=0o644)
        if not self._there("kafka/password"):
            self._write("kafka/password", secrets.token_urlsafe(24).encode(), user=_KAFKA_USER)
        if not self._there("kafka/broker.p12"):
            key, certificate, authority = self._signed("kafka", self._names)
            password = (self._folder / "kafka/password").read_bytes()
            packed = pkcs12.serialize_key_and_certificates(
                b"kafka", key, certificate, [authority], serialization.BestAvailableEncryption(password)
            )
            self._write("kafka/broker.p12", packed, user=_KAFKA_USER)

    def _signed(
        self, name: str, hosts: tuple[str, ...]
    ) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate, x509.Certificate]:
        """A key, its certificate for these hosts, and the CA's."""
        authority = x509.load_pem_x509_certificate((self._folder / "ca.pem").read_bytes())
        signer = serialization.load_pem_private_key((self._folder / "ca-key.pem").read_bytes(), None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise TypeError("ca-key.pem is not the key that was created here")
        key = ec.generate_private_key(_CURVE)
        return key, _certificate(name, key, issuer=authority.subject, signer=signer, names=hosts), authority

    def _node(self) -> None:
        """What the nodes of ClickHouse have in common: a certificate in all their names."""
        folder = self._folder / "clickhouse"
        folder.mkdir(exist_ok=True)
        if not self._there("clickhouse/node.pem"):
            hosts = {node.partition(":")[0] for shard in self._cluster.split("+") for node in shard.split(",")}
            key, certificate, authority = self._signed("clickhouse", tuple(sorted(hosts)))
            self._write(
                "clickhouse/ca.pem", authority.public_bytes(serialization.Encoding.PEM), mode=0o644, replaces=True
            )
            self._write("clickhouse/key.pem", _private(key), user=_CLICKHOUSE_USER, replaces=True)
            self._write("clickhouse/node.pem", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)

    def _kafka(self) -> None:
        known = self._broker_passwords() if self._there("kafka.env") else {}
        if known.keys() >= set(BROKER_USERS):
            return
        passwords = {user: known.get(user) or secrets.token_urlsafe(24) for user in BROKER_USERS}
        login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        users = " ".join(f'user_{user}="{password}"' for user, password in passwords.items())
        jaas = f'{login} username="broker" password="{passwords["broker"]}" {users};'
        self._write("kafka.env", _environment({_JAAS: jaas, _JAAS_OF_CONTROLLER: jaas}), replaces=True)

    def _clickhouse(self) -> None:
        known = _values(self._folder / "clickhouse.env") if self._there("clickhouse.env") else {}
        names = [f"FLATTR_DB_PASSWORD_{user.upper()}" for user in WAREHOUSE_USERS]
        names += _BETWEEN_NODES if self._cluster else ()
        # A version that brings users adds their passwords; those that are there stay.
        if not known.keys() >= set(names):
            fresh = {name: known.get(name) or secrets.token_urlsafe(24) for name in names}
            self._write("clickhouse.env", _environment(known | fresh), replaces=True)

    def _service(self, service: str) -> None:
        name = f"{service}.env"
        broker_user, warehouse_user = SERVICES[service]
        known = _values(self._folder / name) if self._there(name) else {}
        if known and (broker_user is None or "FLATTR_BROKER_SASL_USERNAME" in known):
            return
        lines = {}
        if broker_user is not None:
            lines["FLATTR_BROKER_SASL_USERNAME"] = broker_user
            lines["FLATTR_BROKER_SASL_PASSWORD"] = self._broker_passwords()[broker_user]
        if warehouse_user is not None:
            password = _values(self._folder / "clickhouse.env")[f"FLATTR_DB_PASSWORD_{warehouse_user.upper()}"]
            if service == "grafana":
                lines |= {"CLICKHOUSE_USER": "flattr_grafana", "CLICKHOUSE_PASSWORD": password}
            else:
                lines["FLATTR_WAREHOUSE"] = self._address(f"flattr_{warehouse_user}:{password}")
        self._write(name, _environment(lines | known), replaces=True)

    def _address(self, signed_in: str) -> str:
        if self._cluster:
            return f"clickhouses://{signed_in}@{self._cluster}/flattr?cluster=flattr&ca={WAREHOUSE_CA}"
        return f"clickhouse://{signed_in}@clickhouse:9000/flattr"

    def _broker_passwords(self) -> dict[str, str]:
        return dict(re.findall(r'user_(\w+)="([^"]+)"', _values(self._folder / "kafka.env")[_JAAS]))

    def _keys(self) -> None:
        if self._missing(*_TOKENS):
            keygen(self._folder / _TOKENS[0], algorithm="HS256", kid=secrets.token_hex(4))
            self._hand_over(self._folder / _TOKENS[0], _OUR_USER)
            self._written.append(_TOKENS[0])
        if self._missing(*_API):
            self._api_key, key = keys.issue("operator", keys.Role.OPERATOR)
            keys.save(self._folder / _API[0], [key])
            self._hand_over(self._folder / _API[0], _OUR_USER)
            self._written.append(_API[0])
        if not self._there(_SESSIONS):
            self._write(_SESSIONS, secrets.token_urlsafe(48).encode() + b"\n", user=_OUR_USER)

    def _operators_own(self) -> None:
        """What only the operator knows, to be filled in; and the folder that finance shares with its container."""
        if not self._there(_RULES):
            self._write(_RULES, _RULES_TEXT.encode())
        (self._folder / _ALERTMANAGER).parent.mkdir(exist_ok=True)
        if not self._there(_ALERTMANAGER):
            self._write(_ALERTMANAGER, _ALERTMANAGER_TEMPLATE.read_bytes(), user=_NOBODY)
        finance = self._folder / "finance"
        finance.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            # The container writes there, and so does the group of whoever owns the folder.
            os.chown(finance, _OUR_USER, self._folder.stat().st_gid)
            finance.chmod(0o2770)

    def _missing(self, name: str, older: str) -> bool:
        """Whether a file of keys has to be made. One under its older name moves, in its folder."""
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() and (self._folder / older).exists():
            (self._folder / older).rename(path)
        return not self._there(name)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Name | None,
    signer: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
) -> x509.Certificate:
    """Make a certificate, valid for some years; without an issuer, a self-signed CA's."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        # Python from 3.13 on verifies by RFC 5280 to the letter: without these it refuses the broker.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_usage(is_authority=issuer is None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in names]), critical=False
        )
    return builder.sign(signer, hashes.SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _environment(values: dict[str, str]) -> bytes:
    """Lines for compose's ``env_file``; single quotes prevent any interpolation."""
    return "".join(f"{name}='{value}'\n" for name, value in values.items()).encode()


def _values(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in path.read_text().splitlines() if line)
    return {name: value.strip("'") for name, _, value in pairs}
