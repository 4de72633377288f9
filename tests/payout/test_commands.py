"""The month's end from the command line, as finance does it: exit codes, sentences, files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.provision.topics import TopicPlan, create_topics
from deploy.stack.embedded import EmbeddedBroker
from ingest.runtime.clock import system_clock
from tests.payout.build import PARTITIONS, flattrs_of, pledge, state_month
from warehouse.payout.close.months import cutoff_ms
from warehouse.storage.client import Warehouse

#: Every command is a process, and a busy machine takes three seconds to start one.
pytestmark = pytest.mark.timeout(400)
MONTH = 202611
RUN = "from deploy.cli.main import main; main()"


class Terminal:
    """Runs `flattr` with an environment of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", RUN, *words]
        return subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def says(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refuses(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
async def terminal(warehouse: Warehouse, embedded_broker: EmbeddedBroker, topic: str) -> Terminal:
    await create_topics(embedded_broker.address, [TopicPlan(topic, PARTITIONS)])
    return Terminal(
        {
            "FLATTR_WAREHOUSE": warehouse.url,
            "FLATTR_BROKER": embedded_broker.address,
            "FLATTR_TOPIC_CLICKS": topic,
            "FLATTR_CLOCK": "system",
            "FLATTR_CLOSE_STAMPS_BOUNDED": "false",
            "FLATTR_CLOSE_DRAIN_TIMEOUT_S": "0.5",
            "FLATTR_CLOSE_CLAIM_REQUIRED": "false",
            "FLATTR_CLOSE_MINIMUM_MINOR": "100",
            "FLATTR_CLOSE_DEBTOR_NAME": "Flattr",
            "FLATTR_CLOSE_DEBTOR_IBAN": "DE89370400440532013000",
            "FLATTR_CLOSE_DEBTOR_BIC": "COBADEFF",
        }
    )


def test_month_from_pledges_to_payments_on_the_command_line(
    warehouse: Warehouse, terminal: Terminal, tmp_path: Path
) -> None:
    state_month(warehouse, MONTH, flattrs_of("mia ada 2\nmia bob 1"))
    pledges = tmp_path / "pledges.csv"
    pledges.write_text("member_id,month,amount,currency,paid\nmia,2026-11,2.00,EUR,maybe\n")
    assert "line 2: paid 'maybe'" in terminal.refuses("pledges", "import", str(pledges))
    pledges.write_text("member_id,month,amount,currency,paid\nmia,2026-11,2.00,EUR,yes\n")
    assert "--yes" in terminal.refuses("pledges", "import", str(pledges))
    said = terminal.says("pledges", "import", str(pledges), "--yes")
    assert "2026-11  pledged 0.00 -> 2.00, paid 0.00 -> 2.00" in said
    assert "2026-11  mia: nothing -> 2.00 EUR, paid" in said
    assert "1 pledges imported as version 1" in said
    assert "mia  2.00 EUR  paid  import 1" in terminal.says("pledges", "list", "2026-11")

    before = cutoff_ms(MONTH, 0) - system_clock() - 60_000
    terminal.environment["FLATTR_CLOCK"] = f"{before / 1000:+.3f}"
    assert "2026-11 is not over" in terminal.says("month", "status", "2026-11")
    assert "2026-11 is not over" in terminal.refuses("month", "close", "2026-11")
    after = cutoff_ms(MONTH, 3600) + 600_000 - system_clock()
    terminal.environment["FLATTR_CLOCK"] = f"{after / 1000:+.3f}"
    assert "is not a month" in terminal.refuses("month", "close", "2026-13")
    assert "2026-11 is not closed" in terminal.refuses("payouts", "show", "2026-11")
    assert "can be closed: 3 flattrs" in terminal.says("month", "status", "2026-11")
    assert "would close as follows" in terminal.says("month", "close", "2026-11", "--dry-run", "--keep")
    assert "Close it?" in terminal.run("month", "close", "2026-11").stdout
    assert "is not closed" in terminal.refuses("payouts", "show", "2026-11")
    assert "2026-11 is closed" in terminal.says("month", "close", "2026-11", "--yes")
    assert "verifies" in terminal.says("month", "verify", "2026-11")
    assert "0 payout lines differ" in terminal.says("month", "compare", "2026-11")
    assert re.search(r"ada .* 1\.20", terminal.says("payouts", "show", "2026-11"))
    assert terminal.says("payouts", "export", "2026-11").count("\n") == 3
    statement = json.loads(terminal.says("statement", "member", "2026-11", "mia"))
    assert [share["share_micro"] for share in statement["shares"]] == [1_200_000, 600_000]
    assert "option" in terminal.says("ledger", "export", "2026-11")
    assert json.loads(terminal.says("month", "proof", "2026-11"))["paid_micro"] == 1_200_000
    _pay(terminal, tmp_path)


def _pay(terminal: Terminal, tmp_path: Path) -> None:
    register = tmp_path / "creators.csv"
    register.write_text("creator_id,name,iban,bic\nada,Ada Größe,GB29NWBK60161331926819,\n")
    assert "'Ada Größe' goes to the bank as 'Ada Grosse'" in terminal.says("creators", "import", str(register), "--yes")
    payments = ("payouts", "export", "2026-11", "--format", "pain.001")
    assert "approved by nobody" in terminal.refuses(*payments)
    for name in ("eve", "fay"):
        public = terminal.says("approver", "keygen", str(tmp_path / f"{name}.pem")).strip()
        assert "A key is never overwritten" in terminal.refuses("approver", "keygen", str(tmp_path / f"{name}.pem"))
        assert f"{name} may approve" in terminal.says("approver", "enrol", name, public)

    def approve(name: str, key: str, *options: str, on: str = "2026-12-03") -> tuple[str, ...]:
        who = ("--name", name, "--key", str(tmp_path / f"{key}.pem"))
        return ("month", "approve", "2026-11", *who, "--on", on, *options)

    assert "exactly this?" in terminal.run(*approve("eve", "eve")).stdout
    assert "approved by nobody" in terminal.refuses(*payments)
    assert "Banks do not settle on 2026-12-05" in terminal.refuses(*approve("eve", "eve", "--yes", on="2026-12-05"))
    assert "Banks do not settle on 2026-11-30" in terminal.refuses(*approve("eve", "eve", "--yes", on="2026-11-30"))
    said = terminal.says(*approve("eve", "eve", "--yes"))
    assert "1 payments, EUR 1.20, on Thursday, 03 December 2026" in said
    assert "GB29NWBK60161331926819" in said
    assert "1 more needed" in said
    assert "not enrolled as fay's" in terminal.refuses(*approve("fay", "eve", "--yes"))
    assert "approved by eve: they need 2 people" in terminal.refuses(*payments)
    assert "0 more needed" in terminal.says(*approve("fay", "fay", "--yes"))
    assert "<EndToEndId>FL-202611-" in terminal.says(*payments)
    register.write_text("creator_id,name,iban,bic\nada,Ada Größe,DE89370400440532013000,\n")
    terminal.says("creators", "import", str(register), "--yes")
    assert "have changed: the iban of ada" in terminal.refuses(*payments)
    # The clock of the test stands after the month's end, days from the import's own.
    assert "GB29" not in terminal.says("payouts", "export", "2026-11", "--format", "draft", "--on", "2026-12-03")


async def test_undrained_stream_refuses_on_the_command_line_and_writes_nothing(
    warehouse: Warehouse, terminal: Terminal, embedded_broker: EmbeddedBroker, topic: str
) -> None:
    from aiokafka import AIOKafkaProducer

    state_month(warehouse, MONTH, [])
    pledge(warehouse, MONTH, {"mia": 2_000_000})
    producer = AIOKafkaProducer(bootstrap_servers=embedded_broker.address)
    await producer.start()
    await producer.send_and_wait(topic, b"x", partition=2)
    await producer.send_and_wait(topic, b"x", partition=2)
    await producer.stop()
    terminal.environment["FLATTR_CLOCK"] = f"{(cutoff_ms(MONTH, 3600) + 600_000 - system_clock()) / 1000:+.3f}"
    said = terminal.refuses("month", "close", "2026-11")
    assert "partition 2 is counted to offset 1 of 2" in said
    assert warehouse.rows("SELECT (SELECT count() FROM seals), (SELECT count() FROM close_log)") == [(0, 0)]
