"""Apache Kafka's empty log is made without its tool, whose start takes half as long as Kafka's."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.stack import embedded
from deploy.stack.embedded import ApacheKafka


def files(node: ApacheKafka) -> dict[str, bytes]:
    node.prepare()
    return {path.name: path.read_bytes() for path in (node.folder / "data").iterdir()}


def properties(text: bytes) -> dict[str, str]:
    lines = text.decode().splitlines()
    return dict(line.split("=") for line in lines if not line.startswith("#"))


def test_log_of_kafka_is_formatted_as_its_tool_does(
    apache_kafka: type[ApacheKafka], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_FIRST_RECORDS", tmp_path / "bootstrap.checkpoint")
    tool, likewise, again = (files(apache_kafka(tmp_path / name)) for name in ("tool", "likewise", "again"))
    assert tool.keys() == likewise.keys() == {"bootstrap.checkpoint", "meta.properties"}
    assert tool["bootstrap.checkpoint"] == likewise["bootstrap.checkpoint"]
    theirs, ours, others = (properties(of["meta.properties"]) for of in (tool, likewise, again))
    assert len({of.pop("directory.id") for of in (theirs, ours, others)}) == 3
    assert theirs == ours == others


def test_folder_that_takes_no_file_costs_no_more_than_the_tool(
    apache_kafka: type[ApacheKafka], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_FIRST_RECORDS", tmp_path / "nowhere" / "bootstrap.checkpoint")
    assert files(apache_kafka(tmp_path / "node")).keys() == {"bootstrap.checkpoint", "meta.properties"}
