"""No Docker engine is at hand, so the compose file is read as Docker would read it and held against the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic_settings import BaseSettings

from tests.support.commands import app
from warehouse.storage.client import Warehouse

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ingest", "streams", "warehouse", "deploy")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("flattr:")}


def settings_names() -> set[str]:
    """Every environment name that a settings class of ours reads."""
    names = set()
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*settings.py")]
    for path in paths:
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseSettings):
                prefix = value.model_config.get("env_prefix", "")
                for name, field in value.model_fields.items():
                    alias = field.validation_alias
                    names.add(alias if isinstance(alias, str) else (prefix + name).upper())
    return names


def option_names(command: Any) -> set[str]:
    """Every environment name that an option of a command of ours, or of one below it, takes its value from."""
    names = {str(option.envvar) for option in command.params if option.envvar}
    return names.union(*map(option_names, getattr(command, "commands", {}).values()))


def test_every_part_is_there() -> None:
    assert {"kafka", "clickhouse", "topics", "migrate", "ingest", "streams", "api"} <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_pinned_to_a_full_version(name: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+", SERVICES[name]["image"]), SERVICES[name]["image"]


@pytest.mark.parametrize("name", OURS)
def test_environment_of_our_services_is_known_to_their_settings(name: str) -> None:
    given = {key for key in OURS[name].get("environment", {}) if key.startswith("FLATTR_")}
    assert given <= settings_names() | option_names(typer.main.get_command(app))


@pytest.mark.parametrize("name", OURS)
def test_command_exists(name: str) -> None:
    command = typer.main.get_command(app)
    for word in OURS[name]["command"]:
        if word.startswith("-"):
            break
        command = command.commands[word]  # type: ignore[attr-defined]  # typer's groups have commands


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.get("restart") != "no"])
def test_long_running_service_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_health_checks_ask_the_port_that_the_service_listens_on() -> None:
    for name in ("ingest", "streams", "api"):
        port = SERVICES[name]["environment"][f"FLATTR_{name.upper()}_PORT"]
        assert f":{port}/ready" in SERVICES[name]["healthcheck"]["test"][-1]


def test_published_ports_do_not_collide() -> None:
    published = [port.split(":")[-2] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


def test_what_can_be_scaled_publishes_no_port_and_is_reached_through_the_front() -> None:
    assert [name for name, service in OURS.items() if "ports" in service] == []
    assert SERVICES["streams"]["deploy"]["replicas"] == 2
    front = (ROOT / "deploy/images/nginx/flattr.conf").read_text()
    for name in ("ingest", "api"):
        port = SERVICES[name]["environment"][f"FLATTR_{name.upper()}_PORT"]
        assert f"set $service {name};\n        proxy_pass http://$service:{port};" in front
        assert f"{port}:{port}" in SERVICES["front"]["ports"]
        (subnet,) = COMPOSE["networks"]["default"]["ipam"]["config"]
        assert SERVICES[name]["environment"]["FLATTR_TRUSTED_PROXIES"] == subnet["subnet"]


def test_every_named_volume_and_dependency_is_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            made = source.startswith("./deploy/secrets")  # tests/deploy/test_secret_files.py
            assert made or source in COMPOSE["volumes"] or (ROOT / source).exists()
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_state_is_kept_on_volumes() -> None:
    assert SERVICES["kafka"]["volumes"]
    assert SERVICES["clickhouse"]["volumes"]


def test_dockerfile_copies_only_files_that_exist() -> None:
    text = (ROOT / "deploy/images/Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_image_of_clickhouse_is_the_version_that_the_tests_run_on(warehouse: Warehouse) -> None:
    assert SERVICES["clickhouse"]["image"].split(":")[1] == warehouse.rows("SELECT version()")[0][0]


def test_image_of_kafka_is_the_version_that_the_tests_run_on() -> None:
    version = SERVICES["kafka"]["image"].split(":")[1]
    assert f"<version>{version}</version>" in (ROOT / "deploy/images/kafka/pom.xml").read_text()
