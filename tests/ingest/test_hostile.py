"""Bad input: never a 5xx, never a traceback, memory bounded, and every one counted by its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from ingest.contract.rejection import Reason
from tests.ingest.conftest import Ingest
from tests.ingest.hostile import JSON, corpus
from tests.support.serving import ask

REASONS = {reason.value for reason in Reason}


def memory_mb() -> float:
    """What this process, which serves, holds now."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


def test_hostile_corpus_is_refused_by_reason_and_counted(ingest: Ingest) -> None:
    found = corpus()
    assert len(found) >= 300
    before_mb = memory_mb()
    counted: dict[str, int] = {}
    token = ingest.token()
    for one in found:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        for name, value in one.headers.items():
            headers[name] = "" if value is None else value.replace("{token}", token)
        answer = ask(
            ingest.url + one.path.replace("{token}", token), method=one.method, headers=headers, body=one.body or None
        )
        assert 400 <= answer.status < 500, f"{one.name}: {answer.status} {answer.body[:200]!r}"
        assert b"Traceback" not in answer.body, one.name
        assert answer.headers["content-type"] == "application/problem+json", one.name
        assert token.encode() not in answer.body
        for refusal in answer.json.get("refused") or [answer.json]:
            assert refusal["reason"] in REASONS, one.name
            counted[refusal["reason"]] = counted.get(refusal["reason"], 0) + 1
    assert memory_mb() - before_mb < 150
    for reason, count in counted.items():
        assert ingest.metric("flattr_ingest_refused_total", reason=reason) == count
    assert len(counted) >= 15
    assert ingest.metric("flattr_ingest_clicks_accepted_total") == 0
    assert ingest.post(json.loads(JSON)).status == 202


def test_openapi_document_keeps_its_word(ingest: Ingest) -> None:
    schema = schemathesis.openapi.from_dict(ask(f"{ingest.url}/openapi.json").json)
    headers = {"authorization": f"Bearer {ingest.token()}"}

    for operation in schema.get_all_operations():
        assert isinstance(operation, Ok)
        strategy = operation.ok().as_strategy()

        @given(case=strategy)
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        def check(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(
                base_url=ingest.url,
                headers=headers,
                checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
            )

        check()
