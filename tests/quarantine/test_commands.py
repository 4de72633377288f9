"""The quarantine from the command line and on the live stream: exit codes, sentences, figures, events."""

from __future__ import annotations

import subprocess
import sys
import urllib.request

import pytest

from deploy.stack.embedded import free_port
from tests.api.conftest import settings_for
from tests.payout.build import flattrs_of, pledge, state_month
from tests.payout.test_close import close
from tests.payout.test_commands import RUN, Terminal
from tests.quarantine.build import MONTH, flag, release
from tests.support.serving import Listener, serving
from warehouse.api.app import create_app
from warehouse.quarantine.log import Subject
from warehouse.storage.client import Warehouse


@pytest.fixture
def terminal(warehouse: Warehouse) -> Terminal:
    state_month(warehouse, MONTH, flattrs_of("rob rex 9\nmia ada 2\nmia bob 1"))
    pledge(warehouse, MONTH, {"rob": 2_000_000, "mia": 2_000_000})
    return Terminal(
        {"FLATTR_WAREHOUSE": warehouse.url, "FLATTR_QUARANTINE_VELOCITY_MAX": "8", "FLATTR_OPERATOR": "finn"}
    )


def test_scan_flag_list_release_and_log_say_what_they_did(terminal: Terminal) -> None:
    assert "velocity: member rob: 9 flattrs within 600 s" in terminal.says("quarantine", "scan", "2026-11", "--dry-run")
    assert "1 newly flagged in 2026-11; 9 flattrs" in terminal.says("quarantine", "scan", "2026-11")
    said = terminal.says("quarantine", "flag", "2026-11", "--member", "mia", "--creator", "bob", "--reason", "a [test]")
    assert said == "member mia, creator bob is flagged in 2026-11 (step 2); 10 flattrs are in quarantine\n"
    listed = terminal.says("quarantine", "list", "2026-11")
    assert "2 flags in force" in listed
    assert "a [test]" in listed
    said = terminal.says("quarantine", "release", "2026-11", "--member", "rob", "--reason", "a reader, we asked")
    assert said == "member rob is released in 2026-11 (step 3); 1 flattrs are in quarantine\n"
    logged = terminal.says("quarantine", "log", "2026-11")
    assert [word in logged for word in ("3 steps", "velocity", "by hand", "finn", "a reader, we asked")] == [True] * 5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("flag", "2026-11", "--reason", "x"), "Name one subject"),
        (("flag", "2026-11", "--reason", "x", "--site", "s", "--member", "m"), "Name one subject"),
        (("flag", "2026-11", "--reason", " ", "--member", "m"), "needs a reason"),
        (("flag", "2026-11", "--reason", "x", "--member", "m", "--thing", "song"), "'song' is not a thing id"),
        (("flag", "2026-13", "--reason", "x", "--member", "m"), "is not a month"),
        (
            ("release", "2026-11", "--reason", "x", "--member", "m"),
            "not flagged in 2026-11; only what is flagged can be released. Flagged there: nothing",
        ),
    ],
)
def test_refusal_is_one_sentence(terminal: Terminal, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in terminal.refuses("quarantine", *words)


def test_steps_after_the_close_name_the_corrections(terminal: Terminal, warehouse: Warehouse) -> None:
    close(warehouse)
    said = terminal.says("quarantine", "flag", "2026-11", "--member", "rob", "--reason", "a script")
    assert "which is closed; these enter the ledger with the next close:" in said
    assert "rex gives back 1.800000 EUR, account charity, citing payouts 2026-11 rex" in said
    assert "rex gets 1.800000 EUR" in terminal.says(
        "quarantine", "release", "2026-11", "--member", "rob", "--reason", "no script"
    )


def test_repeated_scan_serves_figures(terminal: Terminal) -> None:
    port = free_port()
    command = [sys.executable, "-c", RUN, "quarantine", "scan", "2026-11", "--every", "1", "--port", str(port)]
    with subprocess.Popen(command, env=terminal.environment, stdout=subprocess.PIPE, text=True) as scan:
        try:
            assert scan.stdout is not None
            assert "1 newly flagged" in scan.stdout.readline()
            assert "0 newly flagged" in scan.stdout.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        finally:
            scan.kill()
    assert 'flattr_quarantine_flags{month="2026-11",rule="velocity"} 1.0' in text
    assert 'flattr_quarantine_flattrs{month="2026-11"} 9.0' in text


def test_flag_and_release_reach_who_listens(terminal: Terminal, warehouse: Warehouse) -> None:
    del terminal
    # Nothing was stored lately: only the flag can be what is told.
    warehouse.command(
        "ALTER TABLE counts_by_creator UPDATE changed_at = toDateTime64('2020-01-01 00:00:00', 3, 'UTC') WHERE 1 "
        "SETTINGS mutations_sync = 1"
    )
    with (
        serving(create_app(settings_for(warehouse, api_poll_ms=20))) as url,
        Listener(f"{url}/v1/creators/rex/live") as rex,
    ):
        assert rex.next()[2]["flattrs"] == 9
        flag(warehouse, Subject.of(member_id="rob"))
        assert rex.next()[2]["flattrs"] == 0
        release(warehouse, Subject.of(member_id="rob"))
        assert rex.next()[2]["flattrs"] == 9
