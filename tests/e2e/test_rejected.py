"""Refused input is kept, shown, and goes in again repaired: once, however often it is replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.rejected import NotReplayable, Repair, repaired
from deploy.stack import Stack, StackPlan
from ingest.clock import system_clock
from ingest.tokens import issue
from tests.support.serving import ask
from tests.support.waiting import wait_until
from warehouse.client import Warehouse
from warehouse.rejected import Rejected, RejectedId, rejected

ROOT = Path(__file__).resolve().parents[2]
REFUSED_AT_MS = 1_763_800_000_000


def record(raw: bytes, *, topic: str = "rejected", member_id: str = "ann") -> Rejected:
    return Rejected(RejectedId(topic, 0, 65536), REFUSED_AT_MS, "field_unknown", "", member_id, "", raw)


def test_repair_drops_sets_and_names_the_click_by_where_it_stands() -> None:
    member, click = repaired(
        record(b'{"creator_id":"bob","thing":"x","colour":"red","token":"..."}'),
        Repair(["colour"], {"site_id": "blog"}),
    )
    again = repaired(record(b'{"creator_id":"bob","thing":"x"}'), Repair())[1]
    assert member == "ann"
    assert {name: click[name] for name in click if name != "click_id"} == {
        "creator_id": "bob", "thing": "x", "site_id": "blog", "clicked_at": REFUSED_AT_MS
    }  # fmt: skip
    assert click["click_id"] == again["click_id"]


def test_click_refused_by_the_stream_goes_in_without_what_ingest_adds() -> None:
    raw = b'{"v":1,"click_id":"c","member_id":"zoe","creator_id":"bob","thing":"x","thing_id":"0","received_at":1}'
    assert repaired(record(raw, topic="clicks", member_id=""), Repair()) == (
        "zoe", {"v": 1, "click_id": "c", "creator_id": "bob", "thing": "x", "clicked_at": 1}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("times", "clicked_at"),
    [
        ({}, REFUSED_AT_MS),
        ({"clicked_at": REFUSED_AT_MS - 7_000}, REFUSED_AT_MS - 7_000),
        ({"clicked_at": 60_000, "sent_at": 65_000}, REFUSED_AT_MS - 5_000),
        ({"clicked_at": REFUSED_AT_MS + 3_600_000, "sent_at": REFUSED_AT_MS + 3_601_000}, REFUSED_AT_MS - 1_000),
        ({"clicked_at": "2025-11-22T08:26:40Z"}, REFUSED_AT_MS),
        ({"clicked_at": -1}, -1),
        ({"clicked_at": True}, True),
        ({"clicked_at": [], "sent_at": {}}, []),
    ],
)
def test_click_goes_in_again_as_of_when_it_was_made(times: dict[str, object], clicked_at: object) -> None:
    raw = json.dumps({"creator_id": "bob", "thing": "x", **times}).encode()
    _, click = repaired(record(raw), Repair())
    assert (click["clicked_at"], "sent_at" in click) == (clicked_at, False)


@pytest.mark.parametrize(
    ("raw", "member"), [(b"{", "ann"), (b"[1]", "ann"), (b"7", "ann"), (b"{}", ""), (b"{}", "a b")]
)
def test_what_cannot_go_in_again_says_why(raw: bytes, member: str) -> None:
    with pytest.raises(NotReplayable):
        repaired(record(raw, member_id=member), Repair())


def flattr(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin",
        "FLATTR_WAREHOUSE": stack.warehouse_url,
        "FLATTR_TOKEN_KEYS": str(stack.token_keys),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "deploy", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_rejected_click_is_listed_shown_and_replayed_into_one_flattr(tmp_path: Path) -> None:
    raw = json.dumps({"creator_id": "bob", "thing": "https://example.org/a", "colour": "red"})
    with Stack(StackPlan(folder=tmp_path / "stack"), say=lambda _: None) as stack:
        token = issue(stack.token_keys, "ann", audience="flattr", now_ms=system_clock(), valid_s=60)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        refused = ask(f"{stack.ingest.url}/v1/clicks", method="POST", headers=headers, body=raw.encode())
        assert refused.status == 422
        warehouse = Warehouse(stack.warehouse_url)
        wait_until(lambda: rejected(warehouse), "the refused click is in the warehouse")
        (kept,) = rejected(warehouse)
        warehouse.close()
        assert (kept.reason, kept.member_id, kept.raw) == ("field_unknown", "ann", raw.encode())
        listed = flattr(stack, "rejected", "list")
        assert str(kept.id) in listed.stdout, listed.stderr
        shown = flattr(stack, "rejected", "show", str(kept.id))
        assert raw in shown.stdout
        as_it_is = flattr(stack, "rejected", "replay", str(kept.id), "--url", stack.ingest.url)
        assert (as_it_is.returncode, as_it_is.stdout.splitlines()[-1]) == (1, "0 of 1 taken")
        for _ in range(2):
            words = ["rejected", "replay", str(kept.id), "--drop", "colour", "--url", stack.ingest.url]
            done = flattr(stack, *words)
            assert done.stdout == "1 of 1 taken\n", done.stderr
        unknown = flattr(stack, "rejected", "show", "rejected:0:1")
        assert (unknown.returncode, unknown.stderr.strip()) == (1, "flattr: nothing refused is called rejected:0:1")
        counters = f"{stack.api.url}/v1/counters?creator=bob&thing=https://example.org/a"
        wait_until(lambda: list(ask(counters).json["counters"].values()) == [1], "the replayed click is counted once")
