"""docker-compose.yml is lived in, without Docker: every service of ours as it stands there, from click to bank file.

What stands for the images of others, and what it leaves untried, is in tests/support/compose.py and docs/operators.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from deploy.provision.secret_files import init
from deploy.stack.embedded import KAFKA_HOME, ROOT
from ingest.contract.month import month_after, month_of, month_start_ms, month_text
from ingest.runtime.clock import system_clock
from ingest.runtime.watched_file import replace_file
from tests.deploy.test_secure_kafka import NO_PROPERTY, as_property
from tests.security.test_roles import GuardedWarehouse
from tests.support.compose import COMPOSE, SERVICES, Project, env_file
from tests.support.network import own_network
from tests.support.serving import Answer, ask
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.debian, pytest.mark.kafka, pytest.mark.timeout(420)]
#: In the order in which compose would start them.
SERVED = (
    "kafka", "clickhouse", "topics", "migrate", "ingest", "streams", "api", "front", "verify", "quarantine",
    "prometheus",
)  # fmt: skip
MONTH = month_of(system_clock())
NAME = month_text(MONTH)
#: When the month may be closed: commands of the close are asked to believe that it is then.
LATER = {"FLATTR_CLOCK": f"+{(month_start_ms(month_after(MONTH)) - system_clock()) // 1000 + 2 * 86_400}"}


def kafka(project: Project, environment: dict[str, str]) -> list[str]:
    """Apache Kafka with the image's rule for its settings."""
    secrets, data = project.path("./deploy/secrets/kafka"), project.path("kafka")
    password = (secrets / environment["KAFKA_SSL_KEYSTORE_CREDENTIALS"]).read_text()
    made = {
        "ssl.keystore.location": secrets / environment["KAFKA_SSL_KEYSTORE_FILENAME"],
        "ssl.keystore.password": password,
        "ssl.key.password": password,
        "offsets.topic.num.partitions": 4,
        "log.cleaner.dedupe.buffer.size": 4194304,
    }
    stated = {as_property(name): value for name, value in environment.items() if name not in NO_PROPERTY}
    text = "".join(f"{name}={value}\n" for name, value in {**stated, **made}.items())
    data.mkdir(parents=True)
    file = data / "server.properties"
    file.write_text(text.replace("/etc/kafka/secrets", str(secrets)).replace("/var/lib/kafka/data", f"{data}/log"))
    logs = ROOT / "deploy/images/kafka/log4j2.yaml"
    java = f"java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile={logs}"
    java = f"{java} -cp '{KAFKA_HOME}/libs/*'"
    format_log = f"{java} kafka.tools.StorageTool format -t ZmxhdHRyLWZsYXR0ci1mbA -c {file}"
    return ["bash", "-c", f"{format_log} && exec {java} kafka.Kafka {file}"]


class ComposeWarehouse(GuardedWarehouse):
    """The engine with compose's users, reachable from the network."""

    def _config(self) -> str:
        return super()._config().replace("<listen_host>127.0.0.1<", "<listen_host>0.0.0.0<")

    def write_configuration(self) -> None:
        """What `launch` writes."""
        self.folder.mkdir(parents=True)
        (self.folder / "config.xml").write_text(self._config())
        (self.folder / "users.xml").write_text(self._users())


def clickhouse(project: Project, _: dict[str, str]) -> list[str]:
    """The engine of chdb-core; its database is made as the image makes CLICKHOUSE_DB."""
    data, database = project.path("clickhouse"), SERVICES["clickhouse"]["environment"]["CLICKHOUSE_DB"]
    ComposeWarehouse(data, port=9000, http_port=8123).write_configuration()
    make = f"wget -qO- --post-data='CREATE DATABASE IF NOT EXISTS {database}' http://127.0.0.1:8123/"
    serve = f"exec {sys.executable} -m deploy.stack.serve_clickhouse"
    return ["bash", "-c", f"cd {data}; (until {make}; do sleep 0.2; done) & {serve}"]


def front(project: Project, _: dict[str, str]) -> list[str]:
    """Debian's nginx, with another address of the DNS."""
    folder = project.path("front")
    folder.mkdir(parents=True)
    text = (ROOT / "deploy/images/nginx/flattr.conf").read_text()
    assert "127.0.0.11" in text
    (folder / "flattr.conf").write_text(text.replace("127.0.0.11", project.network.gateway))
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; error_log stderr; daemon off; user root; events {{}}\n"
        f"http {{ client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;\n"
        f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; include {folder}/flattr.conf; }}\n"
    )
    return ["nginx", "-c", str(folder / "nginx.conf")]


def prometheus(project: Project, _: dict[str, str]) -> list[str]:
    """Debian's, with the image's configuration and command."""
    words = [str(word) for word in SERVICES["prometheus"]["command"]]
    configuration = ROOT / "deploy/images/prometheus"
    for theirs, ours in {
        "/etc/prometheus": f"{configuration}",
        "=/prometheus": f"={project.path('prometheus')}",
    }.items():
        words = [word.replace(theirs, ours) for word in words]
    return ["prometheus", *words]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, debian: None, apache_kafka: object) -> Iterator[Project]:
    del debian, apache_kafka  # what starts here starts them
    folder = tmp_path_factory.mktemp("compose")
    subnet = COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"]
    others = {"kafka": kafka, "clickhouse": clickhouse, "front": front, "prometheus": prometheus}
    with own_network(subnet.removesuffix(".0/24")) as network:
        project = Project(folder, network, others)
        made = init(project.path("./deploy/secrets"))
        project.path("./deploy/secrets/rules.env").write_text(
            "FLATTR_CLOSE_DEBTOR_NAME='Flattr'\nFLATTR_CLOSE_DEBTOR_IBAN='DE89370400440532013000'\n"
        )
        project.api_key = made.api_key
        try:
            project.up(SERVED)
            yield project
        finally:
            project.down()


def address(project: Project, service: str, port: int) -> str:
    return f"http://{project.running[service][0].address}:{port}"


def read(project: Project, path: str, key: str = "") -> Answer:
    """Ask the API through the front."""
    bearer = {"authorization": f"Bearer {key or project.api_key}"}
    return ask(f"{address(project, 'front', 8003)}{path}", headers=bearer)


def click(project: Project, token: str, thing: str) -> Answer:
    body = {"click_id": str(uuid.uuid4()), "creator_id": "bob", "thing": f"https://bob.example/{thing}"}
    return ask(
        f"{address(project, 'front', 8001)}/v1/clicks", method="POST", body=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )  # fmt: skip


def flattrs(project: Project) -> int:
    return int(read(project, "/v1/creators/bob/counts").json["flattrs"])


def up(project: Project, job: str) -> int:
    """How many processes of a service Prometheus has found and scraped."""
    answer = ask(f"{address(project, 'prometheus', 9090)}/api/v1/query?query=sum(up{{job=%22{job}%22}})")
    found = answer.json["data"]["result"]
    return int(found[0]["value"][1]) if found else 0


def test_compose_from_the_first_click_to_the_banks_file(project: Project) -> None:
    token = project.run("keys", "token", "issue", "ann").split()[-1]
    assert click(project, token, "1").status == 202
    wait_until(lambda: flattrs(project) == 1, "the first click is counted")
    scaled(project, token)
    keys_come_and_go(project, token)
    equations_hold(project)
    the_log_grows(project)
    file = month_is_closed_and_paid(project)
    assert "<EndToEndId>" in file
    assert "GB29NWBK60161331926819" in file


def scaled(project: Project, token: str) -> None:
    """Three workers, two of ingest and the API, all found by name; a worker goes, and no click is lost."""
    project.scale(streams=3, ingest=2, api=2)
    wait_until(lambda: [up(project, job) for job in ("streams", "ingest", "api")] == [3, 2, 2], "all are found")
    for number in range(2, 12):
        assert click(project, token, str(number)).status == 202
    gone = project.running["streams"].pop(0)
    project.network.leave("streams", gone.address)
    project.stop(gone)
    assert click(project, token, "12").status == 202
    wait_until(lambda: flattrs(project) == 12, "all are counted")
    wait_until(lambda: [up(project, job) for job in ("verify", "quarantine")] == [1, 1], "so are those that go round")


def keys_come_and_go(project: Project, token: str) -> None:
    """Revoked is revoked, in containers that have been running all the time."""
    key = project.run("keys", "keys", "issue", "board", "dashboard").split()[-1]
    counts = "/v1/creators/bob/counts"
    wait_until(lambda: {read(project, counts, key).status for _ in range(4)} == {200}, "it is known everywhere")
    project.run("keys", "keys", "revoke", "board")
    wait_until(lambda: {read(project, counts, key).status for _ in range(4)} == {401}, "it is known nowhere")
    added = re.search(r"key (\w+) ", project.run("keys", "token", "keygen"))
    assert added
    fresh = project.run("keys", "token", "issue", "cyd").split()[-1]
    wait_until(lambda: click(project, fresh, "1").status == 202, "tokens of the new key are taken")
    file = project.path("./deploy/secrets/tokens/keys.json")
    stands = json.loads(file.read_text())
    replace_file(file, json.dumps({added[1]: stands[added[1]]}).encode())
    assert file.stat().st_uid == 10001
    wait_until(lambda: {click(project, token, "1").status for _ in range(4)} == {401}, "the older key is gone")


def equations_hold(project: Project, counted: int = 13) -> None:
    """By the service's user, by hand, and by the page, which asks Kafka as the API's user."""
    wait_until(lambda: flattrs(project) == counted, "all is counted")
    assert "WRONG" not in project.run("verify", "verify")
    page = read(project, "/verify")
    assert page.headers["x-state"] == "holds"
    assert b"sample of the log" in page.body
    assert b"flattr_verify_wrong 0.0" in ask(f"{address(project, 'verify', 8005)}/metrics").body
    assert "every row and every tally matches" in project.run("replay", "replay", "--month", NAME)


def the_log_grows(project: Project) -> None:
    """Twice the partitions, by the command of docs/grow.md, with the users of two services."""
    migrator = env_file(project.path("./deploy/secrets/migrate.env"))
    # Whatever day it is.
    command = ["topics", "grow", "24", "--rights", "--anyway"]
    assert (
        f"--env-from-file deploy/secrets/migrate.env topics {' '.join(command[:4])}\n"
        in (ROOT / "docs/grow.md").read_text()
    )
    grows = project.start("topics", command, environment=migrator)
    wait_until(lambda: "Now stop `flattr streams`" in grows.log.read_text(), "the old topic is counted to its end")
    token = project.run("keys", "token", "issue", "dan").split()[-1]
    assert click(project, token, "1").status == 202, "meanwhile clicks go into the spool"
    for one in project.running["streams"]:
        project.stop(one)
    assert grows.process.wait(120) == 0, grows.said()
    project.running["topics"].remove(grows)
    project.settings |= dict(re.findall(r"(FLATTR_TOPIC_CLICKS|FLATTR_LOG_EPOCH)=([\w.-]+)", grows.log.read_text()))
    assert len(project.settings) == 2, grows.said()
    project.restart("ingest", "streams", "api", "verify", "quarantine")
    assert click(project, token, "2").status == 202
    wait_until(lambda: flattrs(project) == 15, "what came in between and afterwards is counted")
    equations_hold(project, 15)


def month_is_closed_and_paid(project: Project) -> str:
    """What finance, two approvers and an operator do, each in a container of theirs; the bank's file."""
    finance = project.path("./deploy/secrets/finance")
    (finance / "pledges.csv").write_text(
        f"member_id,month,amount,currency,paid\nann,{NAME},50.00,EUR,yes\ncyd,{NAME},5.00,EUR,yes\n"
    )
    (finance / "creators.csv").write_text("creator_id,name,iban,bic\nbob,Bob,GB29NWBK60161331926819,NWBKGB2L\n")
    project.run("finance", "pledges", "import", "pledges.csv", "--yes")
    project.run("finance", "creators", "import", "creators.csv", "--yes")
    assert "is closed" in project.run("close", "month", "close", NAME, "--yes", **LATER)
    project.run("close", "month", "verify", NAME, **LATER)
    on = "2027-03-01"
    for name in ("eve", "fay"):
        key = project.folder / f"{name}.pem"
        words = [sys.executable, "-m", "deploy", "approver", "keygen", str(key)]
        public = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        os.chown(key, 10001, 10001)
        project.run("operator", "approver", "enrol", name, public)
        project.run("approver", "month", "approve", NAME, "--on", on, "--name", name, "--key", "/run/key.pem", "--yes",
                    volumes=[f"{key}:/run/key.pem:ro"], **LATER)  # fmt: skip
    project.run("finance", "payouts", "export", NAME, "--format", "pain.001", "--output", "payments.xml", **LATER)
    return (finance / "payments.xml").read_text()
