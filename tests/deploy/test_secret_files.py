"""`flattr secrets init`: everything that compose refers to, once, for its reader alone, and all of one piece."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from deploy.provision.acl import rights
from deploy.provision.secret_files import BROKER_USERS, SERVICES, WAREHOUSE_USERS, init
from deploy.stack.embedded import ROOT
from tests.support.waiting import wait_until
from warehouse import keys

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
FOLDER = "deploy/secrets"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init(tmp_path / "secrets")
    return tmp_path / "secrets"


def values(path: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, _, value in pairs}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mounted_keys(service: dict[str, Any]) -> set[str]:
    """The files of keys that a service reads, by their names here. Their folders are mounted, not they themselves."""
    found: set[str] = set()
    # `keys` changes them.
    if service.get("command") == ["keys", "--help"]:
        return found
    for name, value in service.get("environment", {}).items():
        if name.endswith(("_KEYS", "_SESSION_SECRET")):
            folder, file = value.rsplit("/", 1)
            ((source, _, mode),) = [
                entry.split(":") for entry in service["volumes"] if entry.split(":")[1] == folder
            ]  # fmt: skip
            assert mode == "ro"
            found.add(f"{source.removeprefix('./')}/{file}")
    return found


def referred() -> set[str]:
    """Every file under deploy/secrets that docker-compose.yml names."""
    names = {entry["file"] for entry in COMPOSE["secrets"].values()}
    for name, service in COMPOSE["services"].items():
        names |= {entry["path"] for entry in service.get("env_file", [])}
        if name == "kafka":
            names |= {
                f"{FOLDER}/kafka/{service['environment'][key]}"
                for key in (
                    "KAFKA_SSL_KEYSTORE_FILENAME",
                    "KAFKA_SSL_KEYSTORE_CREDENTIALS",
                    "KAFKA_SSL_KEY_CREDENTIALS",
                )
            }
            trusted = service["environment"]["KAFKA_SSL_TRUSTSTORE_LOCATION"]
            names.add(trusted.replace("/etc/kafka/secrets", f"{FOLDER}/kafka"))
        names |= mounted_keys(service)
    names.add(f"{FOLDER}/alertmanager/alertmanager.yml")
    return {name.removeprefix(f"{FOLDER}/") for name in names}


def test_every_file_that_compose_names_is_made_and_no_other_but_the_authoritys(folder: Path) -> None:
    assert referred() | {"ca-key.pem"} == set(files(folder))


def test_second_run_writes_nothing_and_counts_what_the_first_one_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    first = init(folder)
    before = files(folder)
    again = init(folder)
    assert sorted(again.retained) == sorted(first.written)
    assert again.written == ()
    assert again.api_key == ""
    assert set(again.retained) >= referred()
    assert files(folder) == before


def test_file_that_was_lost_is_made_to_fit_the_others(folder: Path) -> None:
    before = files(folder)
    for name in ("streams.env", "ingest.env", "kafka/broker.p12"):
        (folder / name).unlink()
    assert set(init(folder).written) == {"streams.env", "ingest.env", "kafka/broker.p12"}
    after = files(folder)
    assert after.pop("kafka/broker.p12") != before.pop("kafka/broker.p12")
    assert after == before


def test_keys_under_their_older_names_move_into_folders(folder: Path) -> None:
    (folder / "api/session-secret").unlink()
    before = files(folder)
    for name, older in (("tokens/keys.json", "token-keys.json"), ("api/keys.json", "api-keys.json")):
        (folder / name).rename(folder / older)
        (folder / name).parent.rmdir()
    again = init(folder)
    assert (again.written, again.api_key) == (("api/session-secret",), "")
    after = files(folder)
    assert len(after.pop("api/session-secret")) > 32
    assert after == before


def test_user_that_a_newer_version_brings_gets_a_password_and_the_others_keep_theirs(folder: Path) -> None:
    before = files(folder)
    text = (folder / "kafka.env").read_text()
    older = re.sub(r' user_subscriptions="[^"]+"', "", text)
    assert older != text
    (folder / "kafka.env").write_text(older)
    (folder / "subscriptions.env").unlink()
    assert set(init(folder).written) == {"kafka.env", "subscriptions.env"}
    given = values(folder / "subscriptions.env")["FLATTR_BROKER_SASL_PASSWORD"]
    assert len(given) >= 32
    assert f'user_subscriptions="{given}"' in (folder / "kafka.env").read_text()
    assert re.sub(r' user_subscriptions="[^"]+"', "", (folder / "kafka.env").read_text()) == older
    assert {name: text for name, text in files(folder).items() if "subscriptions" not in name} == {
        **{name: text for name, text in before.items() if "subscriptions" not in name},
        "kafka.env": (folder / "kafka.env").read_bytes(),
    }


def test_service_that_got_a_second_user_gets_its_lines_and_keeps_those_that_it_had(folder: Path) -> None:
    before = values(folder / "api.env")
    older = [line for line in (folder / "api.env").read_text().splitlines() if line.startswith("FLATTR_WAREHOUSE")]
    (folder / "api.env").write_text("\n".join(["FLATTR_API_PUBLIC='true'", *older, ""]))
    assert init(folder).written == ("api.env",)
    assert values(folder / "api.env") == {**before, "FLATTR_API_PUBLIC": "true"}


#: Looks the key up whenever a line comes, through a mount of the folder, as a container has it.
_IN_A_CONTAINER = """
import sys
from pathlib import Path
from warehouse.keys import KeyRing
ring = KeyRing(Path(sys.argv[1]))
for line in sys.stdin:
    print(ring.holder(line.strip()) is not None, flush=True)
"""


def test_revoked_key_is_revoked_in_a_container_that_mounts_the_folder(folder: Path, tmp_path: Path) -> None:
    secret, key = keys.issue("board", keys.Role.DASHBOARD)
    keys.save(folder / "api/keys.json", [key])
    inside = tmp_path / "mounted"
    inside.mkdir()
    mount = 'mount --bind "$1" "$2" && exec "$3" -c "$4" "$2/keys.json"'
    # Root's container sees the files' owners; another user's, in which that user is root, only its own.
    alone = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    command = ["unshare", *alone, "bash", "-c", mount, "mount"]
    with subprocess.Popen(
        [*command, str(folder / "api"), str(inside), sys.executable, _IN_A_CONTAINER],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as reader:  # fmt: skip
        assert reader.stdin is not None
        assert reader.stdout is not None

        def is_known(asked: IO[str] = reader.stdin, answers: IO[str] = reader.stdout) -> str:
            print(secret, file=asked, flush=True)
            return answers.readline().strip()

        assert is_known() == "True"
        keys.save(folder / "api/keys.json", [])
        wait_until(lambda: is_known() == "False", "the change is seen")
        reader.stdin.close()
        assert reader.wait(10) == 0


def test_secrets_are_for_their_owner_alone(folder: Path) -> None:
    open_to_others = {name for name in files(folder) if (folder / name).stat().st_mode & 0o077}
    assert open_to_others == {"ca.pem", "kafka/ca.pem"}


def test_no_two_users_have_one_password(folder: Path) -> None:
    jaas = values(folder / "kafka.env")["KAFKA_LISTENER_NAME_SASL__SSL_PLAIN_SASL_JAAS_CONFIG"]
    known = dict(re.findall(r'user_(\w+)="([^"]+)"', jaas))
    words = [*known.values(), *values(folder / "clickhouse.env").values()]
    assert set(known) == set(BROKER_USERS)
    assert len(set(words)) == len(words) == len(BROKER_USERS) + len(WAREHOUSE_USERS)
    assert min(map(len, words)) >= 32


def test_every_service_has_a_user_of_its_own_with_least_rights(folder: Path) -> None:
    broker, warehouse = [], []
    for service in SERVICES:
        given = values(folder / f"{service}.env")
        assert COMPOSE["services"][service]["env_file"][0]["path"] == f"{FOLDER}/{service}.env"
        broker += [given["FLATTR_BROKER_SASL_USERNAME"]] if "FLATTR_BROKER_SASL_USERNAME" in given else []
        warehouse.append(urlsplit(given.get("FLATTR_WAREHOUSE", "")).username or given.get("CLICKHOUSE_USER"))
    # Finance and the close ask Kafka for the same, where the log ends; what they may write differs.
    assert len(broker) == len(set(broker)) + 1
    assert broker.count("finance") == 2
    named = [user for user in warehouse if user]
    assert len(named) == len(set(named))
    allowed = {right.user for right in rights("clicks", "rejected", "flattr-streams")}
    assert set(broker) == allowed | {"operator"}
    supers = COMPOSE["services"]["kafka"]["environment"]["KAFKA_SUPER_USERS"]
    assert {user.removeprefix("User:") for user in supers.split(";")} == {"broker", "operator"}


def test_users_of_clickhouse_are_those_whose_passwords_are_made(folder: Path) -> None:
    users = (ROOT / "deploy/images/clickhouse/users.xml").read_text()
    assert set(re.findall(r'from_env="(\w+)"', users)) == set(values(folder / "clickhouse.env"))
    mounted = COMPOSE["services"]["clickhouse"]["volumes"]
    assert "./deploy/images/clickhouse/users.xml:/etc/clickhouse-server/users.d/flattr.xml:ro" in mounted


def test_compose_itself_holds_no_password() -> None:
    for name, service in COMPOSE["services"].items():
        said = [key for key, value in service.get("environment", {}).items() if "PASSWORD" in key and value]
        assert said == [], name


def test_broker_takes_nothing_but_tls_sasl_and_rights_by_name() -> None:
    given = COMPOSE["services"]["kafka"]["environment"]
    assert {listener.partition("://")[0] for listener in given["KAFKA_ADVERTISED_LISTENERS"].split(",")} == {"SASL_SSL"}
    protocols = {pair.partition(":")[2] for pair in given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")}
    assert protocols == {"SASL_SSL"}
    assert given["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"
    assert given["KAFKA_AUTHORIZER_CLASS_NAME"].endswith("StandardAuthorizer")


def test_secrets_do_not_get_into_the_image() -> None:
    assert f"{FOLDER}/" in (ROOT / ".dockerignore").read_text().splitlines()
    assert (ROOT / FOLDER / ".gitignore").read_text().splitlines()[1:] == ["*", "!.gitignore"]


def test_root_gives_each_file_to_who_reads_it_and_another_user_keeps_all(tmp_path: Path) -> None:
    # Only root can give a file away, as in compose's container; either answer is looked at by whoever runs this.
    root = os.geteuid() == 0
    if root:
        os.chown(tmp_path, 4242, 4243)
    init(tmp_path)
    owner = {name: (tmp_path / name).stat().st_uid for name in files(tmp_path)}
    given = {
        **dict.fromkeys(("kafka/broker.p12", "kafka/password"), 1000),
        "alertmanager/alertmanager.yml": 65534,
        **dict.fromkeys(("tokens/keys.json", "api/keys.json", "api/session-secret"), 10001),
    }
    owner_id = 4242 if root else os.geteuid()
    assert owner == {name: given.get(name, owner_id) if root else owner_id for name in owner}


def test_certificate_is_the_brokers_and_signed_by_the_authority(folder: Path) -> None:
    password = (folder / "kafka/password").read_bytes()
    _, certificate, _ = pkcs12.load_key_and_certificates((folder / "kafka/broker.p12").read_bytes(), password)
    assert certificate is not None
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    advertised = COMPOSE["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert advertised.partition("://")[2].partition(":")[0] in names.get_values_for_type(x509.DNSName)


def test_broker_is_who_it_says_to_a_client_that_takes_rfc_5280_to_the_letter(folder: Path, tmp_path: Path) -> None:
    """As Python does from 3.13 on; the older ones are asked to."""
    password = (folder / "kafka/password").read_bytes()
    key, certificate, _ = pkcs12.load_key_and_certificates((folder / "kafka/broker.p12").read_bytes(), password)
    assert key is not None
    assert certificate is not None
    pem = tmp_path / "broker.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    client = ssl.create_default_context(cafile=folder / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="kafka"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].getpeercert()


def test_command_shows_the_operators_key_once_and_no_password(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "deploy", "secrets", "init", "--folder", str(tmp_path / "s")]
    first, second = (subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(2))
    assert "the operator's API key (not shown again): " in first.stdout
    assert "API key" not in second.stdout
    passwords = {word for name in ("clickhouse.env",) for word in values(tmp_path / "s" / name).values()}
    assert not [word for word in passwords if word in first.stdout]


def test_a_secret_that_was_half_written_when_the_disk_was_full_is_made_at_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            init(tmp_path / "secrets")
    assert files(tmp_path / "secrets") == {}
    init(tmp_path / "secrets")
    assert referred() <= set(files(tmp_path / "secrets"))
