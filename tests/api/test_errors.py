from __future__ import annotations

import socket
import time

import pytest

from deploy.stack.embedded import free_port
from tests.api.conftest import settings_for
from tests.support.serving import ask, serving
from warehouse.api.app import create_app
from warehouse.storage.client import Warehouse


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/v1/creators/anna/counts?month=2026-13", 422, "month_malformed"),
        ("/v1/creators/anna/counts?month=202611", 422, "month_malformed"),
        ("/v1/creators/anna/counts?month=", 422, "month_malformed"),
        (f"/v1/creators/{'a' * 65}/counts", 422, "parameter_invalid"),
        ("/v1/things/xyz/counts", 422, "parameter_invalid"),
        ("/v1/nothing", 404, "route_unknown"),
    ],
)
def test_refused_read_is_a_problem_with_its_reason(idle_api: str, path: str, status: int, reason: str) -> None:
    answer = ask(idle_api + path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json["reason"], answer.json["type"]) == (reason, f"urn:flattr:reason:{reason}")
    assert answer.json["detail"]


def test_write_to_a_read_address_is_refused_with_what_is_allowed(idle_api: str) -> None:
    answer = ask(f"{idle_api}/v1/creators/anna/counts", method="POST", body=b"{}")
    assert (answer.status, answer.json["reason"], answer.headers["allow"]) == (405, "method_unknown", "GET")


def test_absent_warehouse_is_503_with_retry_after_and_names_no_host() -> None:
    away = Warehouse(f"clickhouse://user:secret@127.0.0.1:{free_port()}/x")
    with serving(create_app(settings_for(away))) as url:
        answer = ask(f"{url}/v1/creators/anna/counts")
        assert (answer.status, answer.json["reason"], answer.headers["retry-after"]) == (
            503, "warehouse_unavailable", "2",
        )  # fmt: skip
        assert b"127.0.0.1" not in answer.body
        assert ask(f"{url}/ready").status == 503
        assert ask(f"{url}/live").status == 200


def test_probes_and_metrics_are_answered_while_the_warehouse_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hangs = Warehouse(f"clickhouse://127.0.0.1:{mute.getsockname()[1]}/x")
        with serving(create_app(settings_for(hangs))) as url:
            began = time.monotonic()
            metrics, ready = ask(f"{url}/metrics"), ask(f"{url}/ready")
            # Prometheus waits five seconds, a probe of Kubernetes and of compose three.
            assert time.monotonic() - began < 5
    assert (metrics.status, ready.status, ready.json["reason"]) == (200, 503, "warehouse_unavailable")
    assert ready.json["detail"] == "the warehouse has not answered within 2 s"


def test_database_that_was_never_migrated_is_not_ready(warehouse: Warehouse) -> None:
    with serving(create_app(settings_for(Warehouse(warehouse.url + "_else")))) as url:
        answer = ask(f"{url}/ready")
        assert (answer.status, answer.json["reason"]) == (503, "schema_missing")
        assert ask(f"{url}/v1/creators/anna/counts").json["reason"] == "internal"


def test_ready_when_the_warehouse_answers(idle_api: str) -> None:
    assert ask(f"{idle_api}/ready").json == {"status": "ready"}


def test_metrics_count_answers_by_route_and_status_not_by_address(api: str) -> None:
    ask(f"{api}/v1/creators/anna/counts")
    ask(f"{api}/v1/creators/bob/counts?month=x")
    ask(f"{api}/etc/passwd")
    text = ask(f"{api}/metrics").body.decode()
    assert 'flattr_api_requests_total{route="/v1/creators/{creator_id}/counts",status="200"} 1.0' in text
    assert 'flattr_api_requests_total{route="/v1/creators/{creator_id}/counts",status="422"} 1.0' in text
    assert 'route="unknown",status="404"' in text
    assert 'flattr_api_query_seconds_count{query="creator_counts"} 1.0' in text
    assert "anna" not in text
