"""Alerts and dashboards ask only for metrics that there are and queries that run; every alert has its runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.cli.quarantine_metrics import QuarantineMetrics
from ingest.metrics import Metrics as IngestMetrics
from streams.operating.metrics import Metrics as StreamsMetrics
from warehouse.api.metrics import ApiMetrics
from warehouse.storage.client import Warehouse

ROOT = Path(__file__).resolve().parents[2]
ALERTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/images/prometheus/alerts.yml").read_text())["groups"][0][
    "rules"
]
DASHBOARDS = {
    path.name: json.loads(path.read_text()) for path in (ROOT / "deploy/images/grafana/dashboards").glob("*.json")
}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]]
#: Services of ours that serve metrics.
OURS = ("ingest", "streams", "api", "quarantine", "verify")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def names_of(registry: CollectorRegistry) -> set[str]:
    """Every name under which a metric is scraped, with the suffix that its type adds."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {metric.name + suffix for metric in registry.collect() for suffix in suffixes[metric.type]}


KNOWN = set().union(
    *(names_of(part().registry) for part in (IngestMetrics, StreamsMetrics, ApiMetrics, QuarantineMetrics))
)


def asked(expression: str) -> set[str]:
    return set(re.findall(r"\bflattr_[a-z_]+", expression))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_alert_asks_for_metrics_that_are_measured_and_names_its_runbook(alert: dict[str, Any]) -> None:
    names = asked(alert["expr"])
    assert names <= KNOWN, names - KNOWN
    assert names or re.search(r"\b(up\{|node_filesystem_)", alert["expr"])
    file, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert anchor in {heading.lower() for heading in headings}
    assert anchor == alert["alert"].lower()


def test_lag_rejections_spool_and_close_have_their_alerts() -> None:
    names = {str(alert["alert"]) for alert in ALERTS}
    assert {"CountsBehind", "PartitionStuck", "ManyRejected", "SpoolFilling", "CloseOverdue"} <= names


@pytest.mark.parametrize(
    ("name", "panel"), PANELS, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_panel_asks_for_metrics_that_are_measured(name: str, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        names = asked(target.get("expr", ""))
        assert names <= KNOWN, f"{name}: {names - KNOWN}"
        assert names or target["rawSql"]


def test_sql_of_the_dashboards_runs_on_the_schema(warehouse: Warehouse) -> None:
    statements = [target["rawSql"] for _, panel in PANELS for target in panel["targets"] if "rawSql" in target]
    assert len(statements) >= 4
    for statement in statements:
        warehouse.rows(statement.replace("${month}", "202609"))


def test_panels_of_the_month_show_the_month_that_is_chosen() -> None:
    (chosen,) = DASHBOARDS["month.json"]["templating"]["list"]
    assert chosen["name"] == "month"
    statements = [target["rawSql"] for _, panel in PANELS for target in panel["targets"] if "rawSql" in target]
    assert not [statement for statement in statements if "now(" in statement]
    assert [statement for statement in statements if "${month}" not in statement] == [
        statement for statement in statements if "FROM closed_months" in statement
    ]


def test_panels_name_the_runbooks_of_alerts_that_there_are() -> None:
    named = {name for _, panel in PANELS for name in re.findall(r"runbooks\.md#(\w+)", panel["description"])}
    assert len(named) >= 8
    assert named <= {alert["alert"].lower() for alert in ALERTS}


def test_dashboards_use_the_provisioned_sources() -> None:
    file = ROOT / "deploy/images/grafana/provisioning/datasources/datasources.yml"
    provisioned = {source["uid"]: source["type"] for source in yaml.safe_load(file.read_text())["datasources"]}
    for name, panel in PANELS:
        source = panel["datasource"]
        assert provisioned[source["uid"]] == source["type"], name
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_prometheus_scrapes_the_ports_that_the_services_listen_on() -> None:
    config = yaml.safe_load((ROOT / "deploy/images/prometheus/prometheus.yml").read_text())
    found = {}
    for job in config["scrape_configs"]:
        for source in job.get("dns_sd_configs", []):
            assert (source["names"], source["type"]) == ([job["job_name"]], "A")
            found[job["job_name"]] = source["port"]
        for source in job.get("static_configs", []):
            name, port = source["targets"][0].split(":")
            assert name == job["job_name"]
            found[name] = int(port)
    engine = ET.parse(ROOT / "deploy/images/clickhouse/config.xml").findtext("prometheus/port")
    assert found == {**{name: port_of(name) for name in OURS}, "clickhouse": int(engine or 0), "disks": 9100}
    assert config["rule_files"] == ["alerts.yml"]


def port_of(name: str) -> int:
    """The port on which a service of ours is asked for its metrics."""
    service = COMPOSE["services"][name]
    command = service["command"]
    if "--port" in command:
        return int(command[command.index("--port") + 1])
    return int(service["environment"][f"FLATTR_{name.upper()}_PORT"])


def test_merges_yield_to_inserts_on_the_server_of_the_tests_and_on_the_image(warehouse: Warehouse) -> None:
    name = "os_threads_nice_value_merge_mutate"
    installed = ET.parse(ROOT / "deploy/images/clickhouse/config.xml").findtext(name)
    asked = warehouse.rows("SELECT value FROM system.server_settings WHERE name = %(name)s", {"name": name})
    assert asked == [(installed,)]
    assert int(installed or 0) > 0
