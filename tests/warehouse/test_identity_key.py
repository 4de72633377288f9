"""The identity key: one for the installation, for good, and in no text that anybody can read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.stack.embedded import EmbeddedBroker, EmbeddedWarehouse
from streams.clicks.pseudonyms import ErasureList
from streams.errors import StreamStopped
from streams.recovery import Recovery
from streams.state.partition import PartitionState
from tests.support.clicks import NOVEMBER
from warehouse.erasure.erase import erase
from warehouse.storage.client import Warehouse
from warehouse.storage.identity_key import IdentityKey, IdentityKeyMissing, make_identity_key, read_identity_key
from warehouse.storage.migrate import migrate

MIGRATE = """
import sys
from warehouse.storage.client import Warehouse
from warehouse.storage.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(Warehouse(sys.argv[1]))
"""


@pytest.mark.parametrize("turn", range(3))
def test_migrations_that_race_end_in_one_key_for_all(warehouse_server: EmbeddedWarehouse, turn: int) -> None:
    url = f"{warehouse_server.url}/raced_{turn}"
    admin = Warehouse(warehouse_server.url)
    admin.command(f"CREATE DATABASE raced_{turn}")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racing = [subprocess.Popen([sys.executable, "-c", MIGRATE, url], **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for one in racing:
        assert one.stdout.readline() == "ready\n"
    for one in racing:
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in racing:
        one.communicate()
    warehouse = Warehouse(url)
    migrate(warehouse)  # whoever lost a race on something else is repeated, as an operator would
    key = read_identity_key(warehouse)
    migrate(warehouse)
    make_identity_key(warehouse)
    assert read_identity_key(warehouse) == key
    assert key.k0 != key.k1
    warehouse.close()
    admin.command(f"DROP DATABASE raced_{turn} SYNC")
    admin.close()


@pytest.fixture
def fresh(warehouse_server: EmbeddedWarehouse) -> Iterator[Warehouse]:
    """A database that its own migrations made: a copy has another's key."""
    with closing(Warehouse(f"{warehouse_server.url}/fresh_key")) as warehouse:
        migrate(warehouse)
        yield warehouse
        warehouse.command("DROP DATABASE fresh_key SYNC")


def test_of_many_keys_inserted_at_once_the_table_keeps_one(fresh: Warehouse) -> None:
    key = read_identity_key(fresh)
    script = (
        "import sys\nfrom warehouse.storage.client import Warehouse\n"
        "from warehouse.storage.identity_key import make_identity_key\n"
        "own = Warehouse(sys.argv[1])\nfor _ in range(50):\n    make_identity_key(own)\n"
    )
    racing = [subprocess.Popen([sys.executable, "-c", script, fresh.url]) for _ in range(2)]
    assert [one.wait() for one in racing] == [0, 0]
    assert read_identity_key(fresh) == key


def test_every_installation_has_a_key_of_its_own(fresh: Warehouse, warehouse: Warehouse) -> None:
    assert read_identity_key(fresh) != read_identity_key(warehouse)


class LoggingWarehouse(EmbeddedWarehouse):
    """A server that writes down every statement, and whatever it says to itself on the way."""

    def _config(self) -> str:
        text = super()._config().replace("<level>warning</level>", "<level>trace</level>")
        return text.replace(
            "</clickhouse>", "<query_log><database>system</database><table>query_log</table></query_log>\n</clickhouse>"
        )


def test_key_shows_in_no_text_of_a_statement_no_log_and_no_words_of_its_own(tmp_path: Path) -> None:
    with LoggingWarehouse(tmp_path) as server:
        warehouse = Warehouse(f"{server.url}/logged", settings={"log_queries": 1})
        migrate(warehouse)
        key = read_identity_key(warehouse)
        recovery = Recovery(warehouse, 1, lambda _: None, ErasureList(warehouse).newest)
        recovery.load([PartitionState(0)], NOVEMBER)
        erase(warehouse, "member-1", 1, log_days=1, settle_s=0)
        warehouse.command("SYSTEM FLUSH LOGS")
        statements = warehouse.rows("SELECT toString(tuple(*)) FROM system.query_log")
        tables = warehouse.rows("SELECT create_table_query FROM system.tables")
        warehouse.close()
    logged = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*.log"))
    assert any("sipHash128ReferenceKeyed" in text for (text,) in statements)
    for word in (str(key.k0), str(key.k1)):
        assert not any(word in text for (text,) in statements + tables)
        assert word not in logged
        assert word not in f"{key!r} {key}"


def test_warehouse_without_a_key_is_told_to_migrate(warehouse: Warehouse) -> None:
    warehouse.command("TRUNCATE TABLE identity_key")
    with pytest.raises(IdentityKeyMissing, match="run `flattr warehouse migrate`"):
        read_identity_key(warehouse)
    warehouse.command("DROP TABLE identity_key SYNC")
    with pytest.raises(IdentityKeyMissing, match="run `flattr warehouse migrate`"):
        read_identity_key(warehouse)


def test_two_keys_are_none(warehouse: Warehouse) -> None:
    warehouse.insert("identity_key", {"k0": [1], "k1": [2]})
    with pytest.raises(IdentityKeyMissing, match="2 identity keys"):
        read_identity_key(warehouse)


def test_worker_without_a_key_leaves_with_a_sentence(
    warehouse: Warehouse, embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    warehouse.command("DROP TABLE identity_key SYNC")
    environment = {
        **os.environ,
        "FLATTR_BROKER": embedded_broker.address,
        "FLATTR_WAREHOUSE": warehouse.url,
        "FLATTR_TOPIC_CLICKS": topic,
        "FLATTR_TOPIC_REJECTED": f"{topic}-rejected",
    }
    flattr = [sys.executable, "-c", "from deploy.cli.main import main; main()"]
    create = [*flattr, "topics", "create", "--partitions", "1", "--replication", "1"]
    subprocess.run(create, env=environment, cwd=tmp_path, check=True, capture_output=True)
    ended = subprocess.run(
        [*flattr, "streams"], env=environment, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "The warehouse has no identity key: run `flattr warehouse migrate`." in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_process_stops_when_the_warehouses_key_is_another_than_it_began_with(warehouse: Warehouse) -> None:
    known = ErasureList(warehouse)
    recovery = Recovery(warehouse, 1, lambda _: None, known.newest)
    recovery.load([PartitionState(0)], NOVEMBER)
    warehouse.command("TRUNCATE TABLE identity_key")
    other = IdentityKey.random()
    warehouse.insert("identity_key", {"k0": [other.k0], "k1": [other.k1]})
    with pytest.raises(StreamStopped, match="identity key in the warehouse has changed"):
        recovery.load([PartitionState(0)], NOVEMBER)
