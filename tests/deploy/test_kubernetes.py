"""The Helm chart: what it renders is valid, agrees with docker-compose.yml, and lets nothing through unneeded.

No cluster is at hand: helm renders, kubernetes-validate knows the built-in kinds. docs/kubernetes.md says what that
leaves open.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from deploy.provision.secret_files import SERVICES as SECRETS
from ingest.metrics import Metrics as IngestMetrics
from streams.operating.metrics import Metrics as StreamsMetrics
from tests.deploy.test_compose import OURS, option_names, settings_names
from tests.support.commands import app

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/kubernetes/flattr"
#: What only a Docker host needs: there, files of secrets are made; here, Secrets are (docs/kubernetes.md).
ONLY_COMPOSE = {"secrets", "keys"}
#: Settings that differ on purpose: names and paths of the cluster, bounds that follow from a pod's memory and volume.
ELSEWHERE = {
    "FLATTR_BROKER", "FLATTR_BROKER_SASL_MECHANISM", "FLATTR_BROKER_CA_FILE", "FLATTR_TRUSTED_PROXIES",
    "FLATTR_API_INGEST", "FLATTR_API_PARTS", "FLATTR_TRACES_ENDPOINT",
}  # fmt: skip
_ARCHIVES = "/var/lib/flattr/archives"
BOUNDS = {"FLATTR_INGEST_SPOOL_MAX_BYTES", "FLATTR_STREAMS_STATE_MAX_MB", "FLATTR_STREAMS_SPILL_FOLDER"}
EVERYTHING = (
    "streams.autoscaling.enabled=true", "api.autoscaling.enabled=true", "ingress.enabled=true",
    "ingress.trustedProxies=10.42.0.0/16", "monitoring.enabled=true", "traces.endpoint=http://jaeger:4318/v1/traces",
    "archive.enabled=true", "archive.to=s3:https://store.example/archives/flattr", "warehouse.ca.secret=clickhouse-ca",
    "image.pullSecrets={registry}", "ingest.storageClass=fast", "finance.storageClass=slow",
)  # fmt: skip
NOTHING = (
    "topics.enabled=false", "migrate.enabled=false", "verify.enabled=false", "quarantine.enabled=false",
    "subscriptions.enabled=false", "backup.enabled=false", "network.enabled=false", "broker.security=PLAINTEXT",
)  # fmt: skip
FOREIGN = re.compile(r"^(keda\.sh|monitoring\.coreos\.com)/")
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    tools: Path

    def template(self, *values: str, only: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(self.tools / "helm"), "template", "flattr", str(CHART), "--namespace", "clicks"]
        command += [word for value in values for word in ("--set", value)]
        command += ["--show-only", f"templates/{only}"] if only else []
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def render(self, *values: str, only: str = "") -> list[Manifest]:
        done = self.template(*values, only=only)
        assert done.returncode == 0, done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    def pods(self) -> dict[str, Manifest]:
        """Every service's pod, those of the tools by the template of a command."""
        found = dict(pods(self.render()))
        for name in OURS.keys() - ONLY_COMPOSE - found.keys():
            found |= dict(pods(self.render(f"run.as={name}", only="command.yaml")))
        return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for one in manifests:
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one.get("spec", {})
        if one["kind"] in {"Deployment", "StatefulSet", "Job", "CronJob"}:
            yield spec["template"]["metadata"]["labels"]["app.kubernetes.io/component"], spec["template"]["spec"]


def container(pod: Manifest) -> Manifest:
    (one,) = pod["containers"]
    found: Manifest = one
    return found


def environment(pod: Manifest) -> dict[str, str]:
    entries = container(pod)["env"]
    found = {entry["name"]: entry["value"] for entry in entries}
    assert len(found) == len(entries), "a name stands twice"
    return found


@pytest.fixture(scope="module")
def chart(helm: Path) -> Chart:
    return Chart(helm)


@pytest.fixture(scope="module")
def all_pods(chart: Chart) -> dict[str, Manifest]:
    return chart.pods()


def test_every_part_of_compose_is_a_pod_of_the_chart(all_pods: dict[str, Manifest]) -> None:
    assert set(all_pods) == OURS.keys() - ONLY_COMPOSE


@pytest.mark.parametrize("values", [(), EVERYTHING, NOTHING], ids=["as it comes", "everything on", "everything off"])
def test_what_is_rendered_is_valid_to_kubernetes(chart: Chart, tmp_path: Path, values: tuple[str, ...]) -> None:
    manifests = chart.render(*values)
    command = chart.render("run.as=finance", "run.sessionS=60", only="command.yaml")
    for one in command:
        one["metadata"]["name"] = one["metadata"].pop("generateName") + "1"  # The schemas know no generateName.
    file = tmp_path / "rendered.yaml"
    file.write_text(yaml.safe_dump_all([one for one in manifests + command if not FOREIGN.match(one["apiVersion"])]))
    done = subprocess.run(
        [chart.tools / "kubernetes-validate", "--strict", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "network" in done.stdout or "network.enabled=false" in values
    foreign = {one["kind"] for one in manifests if FOREIGN.match(one["apiVersion"])}
    assert foreign == ({"ScaledObject", "PodMonitor", "PrometheusRule"} if values is EVERYTHING else set())


def test_lint_finds_nothing(chart: Chart) -> None:
    done = subprocess.run(
        [chart.tools / "helm", "lint", "--strict", CHART], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_service_has_compose_s_command_secret_user_files_and_settings(all_pods: dict[str, Manifest]) -> None:
    for name, pod in all_pods.items():
        service, here = OURS[name], container(pod)
        args = here["args"]
        if name == "topics":
            at = args.index("--replication")
            args = args[:at] + args[at + 2 :]
        if name == "quarantine":
            assert service["command"][-1] == args[-1]
        command = service["command"]
        if name == "archive":  # Into a volume there; here onto S3.
            args, command = args[:-1], command[:-1]
        assert args == command, name
        (secret,) = [Path(one["path"]).stem for one in service["env_file"] if one["path"] != "deploy/secrets/rules.env"]
        assert here["envFrom"][0] == {"secretRef": {"name": f"flattr-{secret}"}}, name
        computes = any(one["path"] == "deploy/secrets/rules.env" for one in service["env_file"])
        assert here["envFrom"][1:] == ([{"configMapRef": {"name": "flattr-rules"}}] if computes else []), name
        mounts = {one["mountPath"] for one in here["volumeMounts"]} | ({_ARCHIVES} if name == "archive" else set())
        mounts -= {
            "/tmp",
            "/var/cache/flattr",
            "/var/lib/flattr/spill",
        }
        theirs = {one.split(":")[1] for one in service.get("volumes", [])}
        theirs |= {"/run/flattr/broker"} if "secrets" in service else set()
        assert mounts == theirs, name
        assert here.get("workingDir") == service.get("working_dir"), name
        settings, given = service["environment"], environment(pod)
        if "secrets" not in service:  # Compose gives the broker's address to whoever has no business with it, too.
            settings = {key: value for key, value in settings.items() if not key.startswith("FLATTR_BROKER")}
        assert {key: value for key, value in settings.items() if key not in ELSEWHERE} == {
            key: value for key, value in given.items() if key not in ELSEWHERE | BOUNDS
        }, name


def test_an_authority_of_one_s_own_is_where_the_warehouses_address_names_it_and_nowhere_else(chart: Chart) -> None:
    found = dict(pods(chart.render("warehouse.ca.secret=clickhouse-ca", "warehouse.ca.key=tls.crt")))
    for name, pod in found.items():
        volumes = [one["secret"] for one in pod["volumes"] if one["name"] == "warehouse-ca"]
        mounted = [one["mountPath"] for one in container(pod)["volumeMounts"] if one["name"] == "warehouse-ca"]
        _, warehouse = SECRETS["finance" if name == "quarantine" else name]
        assert mounted == (["/run/flattr/warehouse"] if warehouse else []), name
        wanted = {"secretName": "clickhouse-ca", "items": [{"key": "tls.crt", "path": "ca.pem"}]}
        assert volumes == [wanted] * len(mounted), name
    assert "?ca=/run/flattr/warehouse/ca.pem" in (ROOT / "docs/kubernetes.md").read_text()


def test_old_months_are_archived_by_the_migrator_onto_a_store_that_the_network_lets_it_reach(chart: Chart) -> None:
    (job,) = [
        one for one in chart.render(*EVERYTHING, only="schedules.yaml") if one["metadata"]["name"].endswith("archive")
    ]
    assert (job["kind"], job["spec"]["concurrencyPolicy"]) == ("CronJob", "Forbid")
    pod = dict(pods([job]))["archive"]
    assert container(pod)["args"][-1] == "s3:https://store.example/archives/flattr"
    assert {9000, 443} == ports(policies(chart, *EVERYTHING)["archive"]["egress"])


def test_a_folder_of_the_cluster_s_keys_is_where_the_settings_look(all_pods: dict[str, Manifest]) -> None:
    assert environment(all_pods["streams"])["FLATTR_BROKER_CA_FILE"] == "/run/flattr/broker/ca.pem"
    parts = json.loads(environment(all_pods["api"])["FLATTR_API_PARTS"])
    assert parts == {
        name: address.replace(f"//{name}:", f"//flattr-{name}:")
        for name, address in json.loads(OURS["api"]["environment"]["FLATTR_API_PARTS"]).items()
    }
    assert environment(all_pods["api"])["FLATTR_API_INGEST"] == parts["ingest"].removesuffix("/ready")
    (note,) = re.findall(r"^ENV .*NUMBA_CACHE_DIR=(\S+)", (ROOT / "deploy/images/Dockerfile").read_text(), re.MULTILINE)
    assert all(note in {one["mountPath"] for one in container(pod)["volumeMounts"]} for pod in all_pods.values())


def test_settings_and_commands_exist(chart: Chart, all_pods: dict[str, Manifest]) -> None:
    commands = typer.main.get_command(app)
    known = settings_names() | option_names(commands)
    rendered = yaml.safe_dump_all(chart.render(*EVERYTHING))
    assert set(re.findall(r"\bFLATTR_[A-Z0-9_]+", rendered)) <= known
    for name, pod in all_pods.items():
        command: Any = commands
        for word in container(pod)["args"]:
            if word.startswith("-"):
                break
            command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in container(pod)["args"] if word.startswith("-")} <= options, name


def test_a_pod_may_do_little_and_take_so_much(all_pods: dict[str, Manifest]) -> None:
    (uid,) = re.findall(r"--uid (\d+)", (ROOT / "deploy/images/Dockerfile").read_text())
    for name, pod in all_pods.items():
        assert pod["securityContext"]["runAsUser"] == int(uid)
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        here = container(pod)
        assert here["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert set(here["resources"]["requests"]) == {"cpu", "memory"}, name
        assert set(here["resources"]["limits"]) == {"memory"}, name
        assert all("sizeLimit" in one["emptyDir"] for one in pod["volumes"] if "emptyDir" in one), name


def test_a_service_is_asked_how_it_is_where_it_listens_and_has_time_to_end(all_pods: dict[str, Manifest]) -> None:
    served = {name for name in all_pods if "ports" in container(all_pods[name])}
    assert served == {name for name in all_pods if "healthcheck" in OURS[name]}
    for name in served:
        here = container(all_pods[name])
        (port,) = [one["containerPort"] for one in here["ports"]]
        theirs = OURS[name]["healthcheck"]["test"][-1]
        assert f":{port}/" in theirs
        paths = {here[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert paths == ({"/live", "/ready"} if "/ready" in theirs else {"/metrics"}), name
        assert here["livenessProbe"]["httpGet"]["path"] != "/ready"
        grace = OURS[name].get("stop_grace_period", "10s")
        waits = here.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert all_pods[name]["terminationGracePeriodSeconds"] >= int(grace.removesuffix("s")) + waits, name


def test_memory_holds_the_state_and_the_spool_fits_its_volume_twice(chart: Chart) -> None:
    manifests = chart.render("streams.stateMb=2048", "ingest.spoolGi=10")
    found = dict(pods(manifests))
    limit = container(found["streams"])["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) == int(environment(found["streams"])["FLATTR_STREAMS_STATE_MAX_MB"]) + 768
    (ingest,) = [one for one in manifests if one["kind"] == "StatefulSet"]
    (claim,) = ingest["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"
    assert int(environment(found["ingest"])["FLATTR_INGEST_SPOOL_MAX_BYTES"]) * 2 == 10 << 30
    assert ingest["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_no_secret_stands_in_the_values_or_in_what_is_rendered(chart: Chart) -> None:
    assert not re.search(r"(?i)(password|passwd|token|://\w+:\w+@)\w*\s*[:=]\s*\S", (CHART / "values.yaml").read_text())
    assert not [one for one in chart.render(*EVERYTHING) if one["kind"] == "Secret"]
    for name in ("FLATTR_WAREHOUSE", "FLATTR_BROKER_SASL_PASSWORD", "FLATTR_BACKUP_S3_SECRET"):
        done = chart.template(f"settings.{name}=x")
        assert done.returncode, f"{name} is taken as a plain value"
        assert name in done.stderr


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("streams.replicas=13", "the topic has 12 partitions: further workers would count nothing"),
        ("run.as=nobody", "it must be one of api, approver, archive"),
        ("ingress.enabled=true", "ingress.trustedProxies is empty"),
        ("stream.replicas=3", "additional properties 'stream' not allowed"),
        ("ingest.replicas=two", "'/ingest/replicas': got string, want integer"),
        ("broker.security=TLS", "'/broker/security': value must be one of"),
        ("rules.FLATTR_CLOCK=+1", "FLATTR_CLOCK"),
        ("archive.enabled=true", "archive.to is empty"),
        ("archive.to=/archives", "'/archive/to'"),
    ],
)
def test_a_wrong_value_is_a_sentence(chart: Chart, value: str, said: str) -> None:
    done = chart.template("api.autoscaling.enabled=false", value)
    assert done.returncode
    assert said in done.stderr


def policies(chart: Chart, *values: str) -> dict[str, Manifest]:
    found = [one for one in chart.render(*values) if one["kind"] == "NetworkPolicy"]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"] for one in found}


def ports(rules: list[Manifest]) -> set[int]:
    return {one["port"] for rule in rules for one in rule["ports"]}


def test_the_network_lets_through_what_a_service_needs_and_no_more(chart: Chart) -> None:
    found = policies(chart, "traces.endpoint=http://jaeger:4318/v1/traces")
    everybody = found.pop("network")
    assert everybody["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everybody
    assert ports(everybody["egress"]) == {53}
    assert found.keys() == OURS.keys() - ONLY_COMPOSE
    for name, policy in found.items():
        kafka, warehouse = SECRETS[{"quarantine": "finance", "archive": "migrate"}.get(name, name)]
        if name == "quarantine":
            kafka = None  # It has finance's user of the warehouse, and no business with the log.
        wanted = ({9093} if kafka else set()) | ({9000} if warehouse else set())
        wanted |= {4318} if name in {"ingest", "streams", "api"} else set()
        wanted |= {443} if name == "archive" else set()
        wanted |= {8001, 8002} if name == "api" else set()
        assert ports(policy["egress"]) == wanted, name
        listens = re.findall(r":(\d+)/", OURS[name].get("healthcheck", {"test": [""]})["test"][-1])
        assert ports(policy.get("ingress", [])) == set(map(int, listens)), name


def test_who_is_not_named_may_not_come_in(chart: Chart) -> None:
    found = policies(chart, "network.monitors=null", "network.clients=null")
    assert "ingress" not in found["api"], "an empty list of callers would let everybody in"
    (only,) = found["streams"]["ingress"]
    assert [one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in only["from"]] == ["api"]


def test_workers_are_scaled_by_metrics_that_there_are(chart: Chart) -> None:
    (scaled,) = [one for one in chart.render(*EVERYTHING) if one["kind"] == "ScaledObject"]
    names = {
        name
        for trigger in scaled["spec"]["triggers"]
        for name in re.findall(r"flattr_\w+", trigger["metadata"]["query"])
    }
    registries = (IngestMetrics().registry, StreamsMetrics().registry)
    known = {sample.name for registry in registries for metric in registry.collect() for sample in metric.samples}
    known |= {metric.name for registry in registries for metric in registry.collect()}
    assert names == {"flattr_ingest_clicks_accepted_total", "flattr_streams_lag_seconds"}
    assert names <= known
    workers = [one for one in chart.render(*EVERYTHING) if one["metadata"]["name"] == "flattr-streams"]
    assert "replicas" not in next(one for one in workers if one["kind"] == "Deployment")["spec"]


def test_alerts_are_those_of_compose_and_go_by_the_services_names(chart: Chart) -> None:
    found = {one["kind"]: one["spec"] for one in chart.render(*EVERYTHING, only="monitoring.yaml")}
    assert found["PrometheusRule"] == yaml.safe_load((ROOT / "deploy/images/prometheus/alerts.yml").read_text())
    assert found["PodMonitor"]["jobLabel"] == "app.kubernetes.io/component"


def test_what_provides_runs_first_and_in_order(chart: Chart) -> None:
    hooks = [one for one in chart.render(only="provision.yaml") if one["kind"] == "Job"]
    assert [one["metadata"]["name"] for one in hooks] == ["flattr-topics", "flattr-migrate"]
    weights = [int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in hooks]
    assert weights == sorted(set(weights))


def test_chart_image_and_project_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f"image: flattr:{chart['appVersion']}\n" in (ROOT / "docker-compose.yml").read_text()
    assert chart["version"] == chart["appVersion"]


def test_topics_of_the_operator_s_example_are_those_that_the_command_makes() -> None:
    from deploy.provision import acl
    from deploy.provision.topics import TopicPlan, rejected_plan

    resources = list(yaml.safe_load_all((CHART.parent / "examples/kafka.yaml").read_text()))
    topics = {one["metadata"]["name"]: one["spec"] for one in resources if one["kind"] == "KafkaTopic"}
    for plan in (TopicPlan("clicks", 12, 3), rejected_plan("rejected", 3)):
        spec = topics[plan.name]
        assert (spec["partitions"], spec["replicas"]) == (plan.partitions, plan.replication)
        assert {name: str(value) for name, value in spec["config"].items()} == plan.settings
    kinds = {acl.TOPIC: "topic", acl.GROUP: "group"}
    granted = {
        (one["metadata"]["name"], entry["resource"]["type"], entry["resource"]["name"], operation)
        for one in resources
        if one["kind"] == "KafkaUser"
        for entry in one["spec"]["authorization"]["acls"]
        for operation in entry["operations"]
    }
    assert granted == {
        (right.user, kinds[right.kind], right.name, right.operation)
        for right in acl.rights("clicks", "rejected", "flattr-streams")
    }
