"""The two ports, each a process of its own as operators start it, and what one needs to look at them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.embedded import EmbeddedBroker, ServiceProcess, free_port
from ingest.runtime.tokens import keygen
from tests.ingest.conftest import make_topics

ROOT = Path(__file__).resolve().parents[2]


def service(name: str, folder: Path, environment: dict[str, str]) -> ServiceProcess:
    """A service of the project, in a process of its own."""
    port = free_port()
    return ServiceProcess(
        name,
        [sys.executable, "-m", "deploy", name],
        folder=folder / name,
        port=port,
        environment={**environment, f"FLATTR_{name.upper()}_PORT": str(port), "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "token-keys.json"
    keygen(path, algorithm="HS256", kid="first")
    return path


@pytest.fixture(scope="module")
def ingest_process(
    embedded_broker: EmbeddedBroker, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    make_topics(embedded_broker.address, "hostile")
    environment = {
        "FLATTR_BROKER": embedded_broker.address,
        "FLATTR_INGEST_IDEMPOTENCE": "false",
        "FLATTR_TOPIC_CLICKS": "hostile",
        "FLATTR_TOPIC_REJECTED": "hostile-rejected",
        "FLATTR_TOKEN_KEYS": str(keys),
    }
    with service("ingest", tmp_path_factory.mktemp("ingest"), environment) as part:
        yield part


@pytest.fixture(scope="module")
def api_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Without a warehouse: what strangers do to the port does not get that far."""
    environment = {"FLATTR_WAREHOUSE": f"clickhouse://127.0.0.1:{free_port()}/nothing"}
    with service("api", tmp_path_factory.mktemp("api"), environment) as part:
        yield part


@pytest.fixture(params=["ingest", "api"])
def port_of(request: pytest.FixtureRequest) -> ServiceProcess:
    part: ServiceProcess = request.getfixturevalue(f"{request.param}_process")
    return part
