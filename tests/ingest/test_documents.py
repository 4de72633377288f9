"""docs/click.md and docs/ingest.md leave nothing out and make nothing up."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ingest.contract.rejection import Reason
from ingest.http.openapi import CLICK_SCHEMA
from ingest.metrics import COUNTERS, NAMES, REFUSED
from ingest.runtime.refusal import STATUS
from ingest.settings import IngestSettings

DOCS = Path(__file__).parents[2] / "docs"


def first_cells(document: str) -> set[str]:
    """What stands in code in the first column of its tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (DOCS / document).read_text(), flags=re.MULTILINE))


def test_every_reason_is_documented_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}|) ?\|", (DOCS / "click.md").read_text(), flags=re.MULTILINE))
    codes = {name: status for name, status in rows.items() if name in {reason.value for reason in Reason}}
    assert codes == {reason.value: str(STATUS.get(reason, "")) for reason in Reason}


def test_every_field_of_a_click_is_documented() -> None:
    assert set(CLICK_SCHEMA["properties"]) <= first_cells("click.md")


def test_every_setting_and_metric_is_documented_and_no_other() -> None:
    settings = {
        str(field.validation_alias or f"FLATTR_INGEST_{name.upper()}")
        for name, field in IngestSettings.model_fields.items()
    }
    counters = {name for name, _ in (*COUNTERS.values(), REFUSED)}
    metrics = {f"{name}_total" if name in counters else name for name in NAMES}
    assert first_cells("ingest.md") == settings | metrics


def test_example_answer_has_the_fields_of_an_answer() -> None:
    examples = re.findall(r"```json\n(.*?)```", (DOCS / "click.md").read_text(), flags=re.DOTALL)
    (example,) = (one for one in examples if "receipts" in one)
    body = json.loads(example)
    assert set(body["receipts"][0]) == {"item", "click_id", "partition", "offset", "index"}
