"""The settings of the way to Kafka, which every service shares."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ingest.runtime.kafka_settings import BrokerSettings, client_security
from ingest.settings import IngestSettings
from streams.settings import StreamsSettings

SETTINGS = (BrokerSettings, IngestSettings, StreamsSettings)


@pytest.mark.parametrize("settings", SETTINGS)
def test_one_name_is_one_thing_in_every_service(
    settings: type[BrokerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"BROKER": "kafka:9", "BROKER_SECURITY": "SASL_PLAINTEXT", "TOPIC_CLICKS": "c", "TOPIC_REJECTED": "r"}
    said |= {"BROKER_SASL_USERNAME": "ann", "BROKER_SASL_PASSWORD": "xyzzy"}
    for name, value in said.items():
        monkeypatch.setenv(f"FLATTR_{name}", value)
    read = settings()
    assert (read.broker, read.topic_clicks, read.topic_rejected) == ("kafka:9", "c", "r")
    assert "xyzzy" not in repr(read)
    assert client_security(read) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ann",
        "sasl_plain_password": "xyzzy",
    }


@pytest.mark.parametrize("settings", SETTINGS)
def test_sasl_without_a_password_is_refused_at_the_start(
    settings: type[BrokerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATTR_BROKER_SECURITY", "SASL_SSL")
    monkeypatch.setenv("FLATTR_BROKER_SASL_USERNAME", "ann")
    with pytest.raises(ValidationError, match="FLATTR_BROKER_SASL_PASSWORD"):
        settings()


@pytest.mark.parametrize("group", ["", " ", "a b", "group\n", "gr\u00fcn", "g" * 250])
def test_a_group_that_kafka_would_refuse_is_told_at_the_start(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATTR_STREAMS_GROUP", group)
    with pytest.raises(ValidationError, match="streams_group"):
        StreamsSettings()
