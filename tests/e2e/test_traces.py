"""Traces: one click is one connected picture over HTTP, Kafka and ClickHouse; off they are not even imported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.embedded import HOST, ROOT, EmbeddedWarehouse, free_port
from deploy.stack.supervisor import Stack, StackPlan
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from tests.support.otlp import Backend, Seen, backend
from tests.support.serving import Answer, ask
from tests.support.waiting import accepted, wait_until
from warehouse.storage.client import Warehouse

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class ObservedWarehouse(EmbeddedWarehouse):
    """A server that keeps its own spans, as ClickHouse does where it is told to."""

    def _config(self) -> str:
        log = (
            "<opentelemetry_span_log><database>system</database><table>opentelemetry_span_log</table>"
            "<engine>ENGINE = MergeTree ORDER BY finish_time_us</engine>"
            "<flush_interval_milliseconds>200</flush_interval_milliseconds></opentelemetry_span_log>"
        )
        return super()._config().replace("</clickhouse>", f"{log}</clickhouse>")


@pytest.fixture(scope="module")
def collector() -> Iterator[Backend]:
    with backend() as taken:
        yield taken


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObservedWarehouse]:
    with ObservedWarehouse(tmp_path_factory.mktemp("observed")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(collector: Backend, observed: ObservedWarehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    plan = StackPlan(
        folder=tmp_path_factory.mktemp("traced"),
        warehouse=f"{observed.url}/flattr",
        environment={
            "FLATTR_TRACES_ENDPOINT": collector.url,
            "FLATTR_TRACES_SAMPLE_RATIO": "1",
            "FLATTR_TRACES_SERVICE": "shop",
            "FLATTR_TRACES_HEADERS": "x-key=secret",
        },
    )
    with Stack(plan, say=print) as stack:
        yield stack


def post(stack: Stack, member: str, creator: str = "bob-the-builder") -> Answer:
    """One click of a member, with a traceparent of the page's own."""
    token = issue(stack.token_keys, member, audience="flattr", now_ms=system_clock(), valid_s=600)
    click = {"click_id": str(uuid.uuid4()), "creator_id": creator, "thing": f"https://{creator}.example/song"}
    return ask(
        f"{stack.ingest.url}/v1/clicks",
        method="POST",
        headers={"authorization": f"Bearer {token}", "content-type": "application/json", "traceparent": CALLER},
        body=json.dumps(click).encode(),
    )


def one(collector: Backend, service: str, name: str) -> Seen:
    """The span of that name, once it is there."""
    wait_until(lambda: collector.spans(service, name), f"{name} of {service}", timeout_s=20)
    (span,) = collector.spans(service, name)
    return span


def test_one_click_is_one_connected_picture(stack: Stack, collector: Backend, observed: ObservedWarehouse) -> None:
    assert post(stack, "ann-of-the-members").status == 202
    request = one(collector, "shop-ingest", "POST /v1/clicks")
    block = one(collector, "shop-ingest", "send clicks")
    batch = one(collector, "shop-streams", "batch")
    insert = one(collector, "shop-streams", "insert flattrs")
    assert block.links == {request.ids}
    assert block.ids in request.links
    assert batch.links == {block.ids}
    assert (insert.trace_id, insert.parent_id) == batch.ids
    assert request.attributes["http.response.status_code"] == 202
    assert block.attributes["messaging.batch.message_count"] == 1
    assert block.attributes["messaging.kafka.offset"] == 0
    assert batch.attributes["flattr.clicks"] == 1
    children = {span.name for span in collector.spans("shop-streams") if span.parent_id == batch.span_id}
    assert {"count", "insert flattrs", "insert counts_by_creator", "insert progress"} <= children
    # The page's trace is linked, not joined: who asks does not decide what is traced.
    assert tuple(CALLER.split("-")[1:3]) in request.links
    assert request.trace_id != CALLER.split("-")[1]
    # And ClickHouse carries the trace on: its own spans hang on ours.
    server = Warehouse(f"{observed.url}/system")
    server.command("SYSTEM FLUSH LOGS")
    parents = server.rows(
        "SELECT lower(hex(parent_span_id)) FROM opentelemetry_span_log WHERE trace_id = %(trace)s",
        {"trace": str(uuid.UUID(insert.trace_id))},
    )
    assert (insert.span_id,) in parents
    server.close()


def test_refused_click_is_traced_to_its_answer_and_begins_no_block(stack: Stack, collector: Backend) -> None:
    before = len(collector.spans("shop-ingest", "send"))
    answer = ask(f"{stack.ingest.url}/v1/clicks", method="POST", body=b"{}")
    assert answer.status == 401
    wait_until(lambda: refused(collector), "the refusal's span", timeout_s=20)
    assert len(collector.spans("shop-ingest", "send")) == before


def refused(collector: Backend) -> list[Seen]:
    return [
        span
        for span in collector.spans("shop-ingest", "POST")
        if span.attributes.get("http.response.status_code") == 401
    ]


def test_read_is_traced_with_the_queries_that_it_waits_for(stack: Stack, collector: Backend) -> None:
    assert ask(f"{stack.api.url}/v1/creators/bob-the-builder/counts").status == 200
    request = one(collector, "shop-api", "GET /v1/creators/{creator_id}/counts")
    queries = [span for span in collector.spans("shop-api", "query") if span.parent_id == request.span_id]
    assert queries
    assert {span.trace_id for span in queries} == {request.trace_id}


def test_spans_name_no_member_and_no_creator_and_probes_make_none(stack: Stack, collector: Backend) -> None:
    assert ask(f"{stack.api.url}/v1/members/ann-of-the-members/counts").status == 200
    one(collector, "shop-api", "GET /v1/members/{member_id}/counts")
    assert "ann-of-the-members" not in collector.text
    assert "bob-the-builder" not in collector.text
    assert not [span for span in collector.spans("shop-api") if "/ready" in span.name]
    assert collector.headers["x-key"] == "secret"


def test_back_end_that_is_away_slows_and_fails_nothing(tmp_path: Path) -> None:
    plan = StackPlan(
        folder=tmp_path / "away",
        environment={
            "FLATTR_TRACES_ENDPOINT": f"http://{HOST}:{free_port()}/v1/traces",
            "FLATTR_TRACES_SAMPLE_RATIO": "1",
            "FLATTR_TRACES_EXPORT_TIMEOUT_S": "1",
        },
    )
    with Stack(plan, say=lambda _: None) as stack:
        took_s = []
        for number in range(100):
            began = time.perf_counter()
            assert post(stack, f"member-{number}").status == 202
            took_s.append(time.perf_counter() - began)
        # A busy machine makes one or two wait; an exporter that was waited for would make all.
        assert sorted(took_s)[-5] < 1
        warehouse = Warehouse(stack.warehouse_url)
        wait_until(lambda: accepted(warehouse) == 100, "all are counted")
        warehouse.close()
        leaving = time.monotonic()
        for service in stack.services.values():
            service.stop()
        assert time.monotonic() - leaving < 12
        # uvicorn ends by the signal that it was given.
        codes = {service.process.returncode for service in stack.services.values() if service.process}
        assert codes <= {0, -signal.SIGTERM}


@pytest.mark.parametrize(
    ("make", "absent"),
    [
        # FastAPI itself imports OpenTelemetry's interface, which does nothing; the worker has no FastAPI.
        ("from ingest.app import create_app; create_app", "opentelemetry.sdk opentelemetry.exporter google.protobuf"),
        (
            "from warehouse.api.app import create_app; create_app",
            "opentelemetry.sdk opentelemetry.exporter google.protobuf",
        ),
        ("from streams.app import Worker; lambda s: Worker(s, 4)", "opentelemetry"),
    ],
    ids=["ingest", "api", "streams"],
)
def test_nothing_of_it_is_imported_while_traces_are_off(make: str, absent: str, tmp_path: Path) -> None:
    imports, _, call = make.partition("; ")
    settings = {
        "ingest": "from ingest.settings import IngestSettings as S",
        "warehouse": "from warehouse.api.settings import ApiSettings as S",
        "streams": "from streams.settings import StreamsSettings as S",
    }[imports.split()[1].partition(".")[0]]
    keys = tmp_path / "keys.json"
    program = f"""
import sys
from pathlib import Path
from ingest.runtime.tokens import keygen
keygen(Path({str(keys)!r}), algorithm="HS256", kid="1")
{imports}
{settings}
({call})(S())
print(*[name for name in sys.modules if name.startswith({tuple(absent.split())!r})])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "FLATTR_TOKEN_KEYS": str(keys)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
