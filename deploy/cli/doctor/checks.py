"""All checks of an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import ValidationError

from deploy.cli.doctor.findings import Check, Finding
from deploy.cli.doctor.kafka import Expected, look_at_kafka
from deploy.cli.doctor.local import look_at_files, look_at_folders, look_at_settings
from deploy.cli.doctor.tls import look_at_endpoint
from deploy.cli.doctor.warehouse import look_at_warehouse
from deploy.provision.acl import rights
from deploy.provision.secret_files import SERVICES
from deploy.provision.topic_days import TopicSettings
from deploy.provision.topics import TopicPlan, plans_of, rejected_plan
from ingest.runtime.clock import Clock, clock_from
from ingest.runtime.kafka_settings import BrokerSettings
from ingest.runtime.setting_error import SettingError
from streams.settings import StreamsSettings
from warehouse.storage.settings import WarehouseSettings
from warehouse.storage.topology import Topology


def checks(
    environment: Mapping[str, str], command: Callable[[], Any], service: str, timeout_s: float
) -> dict[str, Check]:
    """What to look at, by name. Rights are the service's, or those of the users that are configured."""
    broker_user, warehouse_role = SERVICES[service] if service else (None, "")
    clock = _clock(environment)
    each_s = timeout_s / 2
    found: dict[str, Check] = {
        "settings": partial(look_at_settings, environment, command),
        "files": partial(look_at_files, environment),
        "folders": partial(look_at_folders, environment),
        "warehouse": partial(_warehouse, clock, warehouse_role, each_s),
        "kafka": partial(_kafka, environment, clock, broker_user, each_s),
    }
    with suppress(ValidationError, SettingError):
        found |= _certificates(each_s)
    return found


def _clock(environment: Mapping[str, str]) -> Clock:
    """The services' clock, as that is what has to agree; the machine's if the setting is wrong, which is said apart."""
    try:
        return clock_from(environment.get("FLATTR_CLOCK", "system"))
    except SettingError:
        return clock_from("system")


def _warehouse(clock: Clock, role: str | None, timeout_s: float) -> Iterator[Finding]:
    if role is None:
        return
    url = WarehouseSettings().warehouse.get_secret_value()
    yield from look_at_warehouse(url, clock, role, timeout_s)


def _kafka(environment: Mapping[str, str], clock: Clock, user: str | None, timeout_s: float) -> Iterator[Finding]:
    settings = BrokerSettings()
    user = user or settings.broker_sasl_username
    plans = plans_of(TopicSettings(), TopicPlan(settings.topic_clicks, 1), rejected_plan(settings.topic_rejected))
    group = environment.get("FLATTR_STREAMS_GROUP", StreamsSettings.model_fields["streams_group"].default)
    granted = rights(settings.topic_clicks, settings.topic_rejected, group)
    expected = Expected(
        {plan.name: plan for plan in plans},
        [right for right in granted if right.user == user],
        settings.log_partitions,
    )
    yield from look_at_kafka(settings, expected, clock, timeout_s)


def _certificates(timeout_s: float) -> dict[str, Check]:
    """One check for each address that is reached by TLS."""
    broker = BrokerSettings()
    topology = Topology.of(WarehouseSettings().warehouse.get_secret_value())
    endpoints = []
    if broker.broker_security.endswith("SSL"):
        ca = str(broker.broker_ca_file) if broker.broker_ca_file else None
        endpoints += [("kafka", *address, ca) for address in _addresses(broker.broker)]
    if topology.is_tls:
        endpoints += [("warehouse", *node, topology.ca) for node in topology.nodes]
    return {
        f"certificate of {what} {host}:{port}": partial(look_at_endpoint, what, host, port, ca, timeout_s)
        for what, host, port, ca in endpoints
    }


def _addresses(brokers: str) -> Iterator[tuple[str, int]]:
    for address in brokers.split(","):
        host, _, port = address.strip().rpartition(":")
        yield host.strip("[]"), int(port)
