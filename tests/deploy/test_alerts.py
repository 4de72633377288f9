"""Every alert by Debian's promtool: it fires, it resolves, it stays quiet. One travels to whom Alertmanager tells."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.provision.secret_files import init
from deploy.stack.embedded import HOST, ROOT, ServiceProcess, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("debian")
FOLDER = ROOT / "deploy/images/prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
UP = {**{f'up{{job="{job}"}}': "1x2300" for job in ("ingest", "streams", "api", "clickhouse")},
      **{f"flattr_{what}_last_timestamp_seconds": "0+60x2300" for what in ("verify", "quarantine")}}  # fmt: skip
#: A cluster's nodes, all well.
NODES = {f'flattr_warehouse_replica_{what}{{node="{node}"}}': f"{value}x60"
         for what, value in (("up", 1), ("tables", 58), ("readonly_tables", 0), ("delay_seconds", 3))
         for node in ("a:9440", "b:9440")}  # fmt: skip
#: For each alert, or each of its causes: series that make it fire for a while, minute by minute; when it fires; when it
#: is over.
PROVOKED: dict[str, tuple[dict[str, str], str, str]] = {
    "PartDown": ({'up{job="streams"}': "1x4 0x9 1x40"}, "10m", "20m"),
    "WarehouseAway": ({'up{job="clickhouse"}': "1x4 _x9 1x40"}, "13m", "25m"),
    "DiskFilling": (
        {'node_filesystem_avail_bytes{fstype="ext4"}': "50x4 4x19 50x40",
         'node_filesystem_size_bytes{fstype="ext4"}': "100x60"},
        "20m", "30m",
    ),
    "BrokerAway": ({"flattr_ingest_broker_up": "1x4 0x9 1x40"}, "10m", "20m"),
    "KafkaSilent": ({"flattr_streams_kafka_silent_seconds": "1x4 60+60x9 1x40"}, "10m", "20m"),
    "ClockWrong": ({"flattr_ingest_stamps_refused_total": "0x4 5x50"}, "6m", "20m"),
    "SpoolFilling": ({"flattr_ingest_spool_bytes": "0x4 100000000+9000000x9 0x40"}, "12m", "25m"),
    "SpoolDamaged": ({"flattr_ingest_spool_damaged_segments_total": "0x4 1x50"}, "6m", "30m"),
    "CountsBehind": ({"flattr_pipeline_lag_seconds": "1x4 90x9 1x40"}, "10m", "20m"),
    "PartitionStuck": (
        {'flattr_pipeline_lag_seconds{partition="3"}': "1x4 400x9 1x40",
         'flattr_pipeline_lag_records{partition="3"}': "0x4 7x9 0x40"}, "10m", "20m",
    ),
    "ManyRejected": (
        {"flattr_ingest_refused_total": "0+60x30 1800x40", "flattr_ingest_clicks_accepted_total": "0+60x70"},
        "25m", "50m",
    ),
    "ManyMalformed": ({"flattr_streams_malformed_share": "0x4 0.9x9 0x40"}, "10m", "20m"),
    "SlowAnswers": (
        {'flattr_ingest_answer_seconds_bucket{le="0.1"}': "0+0x20 0+600x40",
         'flattr_ingest_answer_seconds_bucket{le="1"}': "0+600x20 12000+600x40",
         'flattr_ingest_answer_seconds_bucket{le="+Inf"}': "0+600x20 12000+600x40"}, "15m", "35m",
    ),
    "SlowReads": (
        {'flattr_api_query_seconds_bucket{le="0.1"}': "0+0x20 0+600x40",
         'flattr_api_query_seconds_bucket{le="5"}': "0+600x20 12000+600x40",
         'flattr_api_query_seconds_bucket{le="+Inf"}': "0+600x20 12000+600x40"}, "15m", "35m",
    ),
    "VerifyWrong": ({"flattr_verify_wrong": "0x4 2x9 0x40"}, "10m", "20m"),
    "VerifyMissing": ({"flattr_verify_last_timestamp_seconds": "0+60x4 240x29 2040+60x60"}, "30m", "45m"),
    "QuarantineMissing": ({"flattr_quarantine_last_timestamp_seconds": "0+60x4 240x29 2040+60x60"}, "30m", "45m"),
    "CloseOverdue": ({"flattr_pipeline_close_overdue_seconds": "0x4 90000x9 0x40"}, "10m", "20m"),
    "ReplicaGone": (NODES | {'flattr_warehouse_replica_up{node="b:9440"}': "1x4 0x9 1x40"}, "10m", "20m"),
    "ReplicaBehind: read-only": (
        NODES | {'flattr_warehouse_replica_readonly_tables{node="b:9440"}': "0x4 2x9 0x40"}, "10m", "20m",
    ),
    "ReplicaBehind: slow": (
        NODES | {'flattr_warehouse_replica_delay_seconds{node="b:9440"}': "9x4 60+60x9 1x40"}, "10m", "20m",
    ),
    "ReplicaBehind: a new disk": (
        NODES | {'flattr_warehouse_replica_tables{node="b:9440"}': "58x4 0x9 58x40"}, "10m", "20m",
    ),
    # A night without a backup is none of its business; after the second it fires, until there is one.
    "BackupOld": ({"flattr_backup_last_timestamp_seconds": "1x2200 130000x60"}, "2190m", "2230m"),
}  # fmt: skip


def test_every_alert_is_provoked_here() -> None:
    assert {name.partition(":")[0] for name in PROVOKED} == {rule["alert"] for rule in RULES}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_and_rules_are_sound() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")


def test_every_alert_fires_resolves_and_is_quiet_when_all_is_well(tmp_path: Path) -> None:
    """In one run, each in a world of its own: at three moments every other alert is asked for, too."""
    tests = []
    for cause, (series, fires, over) in PROVOKED.items():
        name, world = cause.partition(":")[0], UP | series
        tests.append({
            "name": cause, "interval": "1m",
            "input_series": [{"series": what, "values": values} for what, values in world.items()],
            "promql_expr_test": [
                {"expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > bool 0', "eval_time": at,
                 "exp_samples": [{"labels": "{}", "value": 1}] if at == fires else []}
                for at in ("3m", fires, over)
            ] + [
                {"expr": 'count(ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": []}
                for at in ("3m", over)
            ],
        })  # fmt: skip
    file = tmp_path / "tests.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", file)


class Listener:
    """Answers /metrics with ``text``, and keeps what is posted to it."""

    def __init__(self) -> None:
        self.text = ""
        self.posted: list[dict[str, Any]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(told.text.encode())

            def do_POST(self) -> None:
                told.posted.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/plain")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = HTTPServer((HOST, 0), Handler)
        self.address = f"{HOST}:{self.server.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.server.serve_forever, daemon=True)
    thread.start()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()
    thread.join(5)


def test_an_alert_reaches_whom_alertmanager_tells_and_so_does_its_end(listener: Listener, tmp_path: Path) -> None:
    """With compose's rules and configuration, faster, and the operator's file as its comment says to fill it in."""
    init(tmp_path / "secrets")
    routes = yaml.safe_load((tmp_path / "secrets/alertmanager/alertmanager.yml").read_text())
    routes["receivers"] = [{"name": "nobody", "webhook_configs": [{"url": f"http://{listener.address}/hook"}]}]
    routes["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(routes))
    subprocess.run(["amtool", "check-config", str(tmp_path / "alertmanager.yml")], check=True, capture_output=True)
    ports = {name: free_port() for name in ("prometheus", "alertmanager")}
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(FOLDER / "alerts.yml")]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [f"{HOST}:{ports['alertmanager']}"]}]}]
    config["scrape_configs"] = [{"job_name": "streams", "static_configs": [{"targets": [listener.address]}]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    commands = {
        "prometheus": ["prometheus", f"--config.file={tmp_path}/prometheus.yml",
                       f"--storage.tsdb.path={tmp_path}/data"],
        "alertmanager": ["prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml",
                         f"--storage.path={tmp_path}/told", "--cluster.listen-address="],
    }  # fmt: skip
    parts = [
        ServiceProcess(
            name, [*command, f"--web.listen-address={HOST}:{ports[name]}"], folder=tmp_path, port=ports[name]
        )
        for name, command in commands.items()
    ]
    listener.text = "flattr_pipeline_close_overdue_seconds 90000\n"
    with parts[1], parts[0]:
        wait_until(lambda: told(listener, "firing"), "the alert arrives", alive=parts[0])
        listener.text = "flattr_pipeline_close_overdue_seconds 0\n"
        wait_until(lambda: told(listener, "resolved"), "its end arrives", alive=parts[1])
    (alert,) = told(listener, "firing")[:1]
    assert alert["labels"]["severity"] == "page"
    assert alert["annotations"]["summary"] == "a month has been due to close for 1d 1h 0m 0s"
    assert alert["annotations"]["runbook"].endswith("docs/runbooks.md#closeoverdue")


def told(listener: Listener, status: str) -> list[dict[str, Any]]:
    alerts = [alert for message in listener.posted for alert in message["alerts"]]
    return [one for one in alerts if one["labels"]["alertname"] == "CloseOverdue" and one["status"] == status]
