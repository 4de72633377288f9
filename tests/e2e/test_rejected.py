"""Refused input is kept, shown, and goes in again repaired: once, however often it is replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.cli.resend import NotReplayable, Repair, pieces_of, repaired, repaired_item
from deploy.stack.supervisor import Stack, StackPlan
from ingest.runtime.clock import system_clock
from ingest.runtime.tokens import issue
from tests.support.serving import ask
from tests.support.waiting import wait_until
from warehouse.counts.rejections import Rejected, RejectedId, rejected
from warehouse.storage.client import Warehouse

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


BATCH = [{"creator_id": "bob", "thing": f"https://example.org/{n}"} for n in range(3)]


def sent(found: Rejected, repair: Repair = Repair()) -> list[dict[str, object]]:  # noqa: B008 - it is frozen
    return [repaired_item(found, item, click, repair)[1] for item, click in pieces_of(found).clicks]


def test_refused_batch_goes_in_click_by_click_under_ids_of_their_places() -> None:
    array, lines = json.dumps(BATCH).encode(), b"\r\n".join(json.dumps(one).encode() for one in BATCH)
    for raw in (array, lines, b" \n" + array):
        clicks = sent(record(raw))
        assert [click["thing"] for click in clicks] == [one["thing"] for one in BATCH]
        assert len({click["click_id"] for click in clicks}) == 3
        assert clicks == sent(record(raw))
        assert pieces_of(record(raw)).rest == ""


def test_batch_that_was_cut_goes_in_as_far_as_it_is_whole() -> None:
    raw = json.dumps(BATCH).encode()
    for length in range(1, len(raw)):
        found = replace(record(raw[:length]), cut=True)
        pieces = pieces_of(found)
        assert [click for _, click in pieces.clicks] == BATCH[: raw[:length].count(b"}")]
        assert "cut off" in pieces.rest
        assert [one["click_id"] for one in sent(found)] == [one["click_id"] for one in sent(record(raw))][
            : len(pieces.clicks)
        ]


def test_batch_is_read_to_where_it_breaks_and_says_so() -> None:
    whole = json.dumps(BATCH).encode()
    assert [item for item, _ in pieces_of(record(b"[7," + whole[1:])).clicks] == [1, 2, 3]
    assert pieces_of(record(b"[7," + whole[1:])).rest == "1 items are not clicks"
    broken = pieces_of(record(whole.replace(b'/1"', b"/1")))
    assert ([item for item, _ in broken.clicks], broken.rest) == ([0], "item 1 is not complete JSON")
    lines = pieces_of(record(b'{"creator_id":"bob","thing":"x"}\n{nonsense\n{"creator_id":"bob","thing":"y"}'))
    assert ([item for item, _ in lines.clicks], lines.rest) == ([0, 2], "1 items are not clicks")
    assert pieces_of(replace(record(b'{"creator_id":"bob","thi'), cut=True)).rest.startswith("only its beginning")


def test_thing_out_of_which_a_token_was_cut_is_not_sent_as_another_thing() -> None:
    found = record(b'{"creator_id":"bob","thing":"https://x.example/?jwt=...","token":"..."}')
    with pytest.raises(NotReplayable, match="--set thing="):
        repaired(found, Repair())
    assert repaired(found, Repair(put={"thing": "https://x.example/..."}))[1]["thing"] == "https://x.example/..."


def flattr(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin",
        "FLATTR_WAREHOUSE": stack.warehouse_url,
        "FLATTR_TOKEN_KEYS": str(stack.token_keys),
        "COLUMNS": "40",
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
        (retained,) = rejected(warehouse)
        warehouse.close()
        assert (retained.reason, retained.member_id, retained.raw) == ("field_unknown", "ann", raw.encode())
        listed = flattr(stack, "rejected", "list")
        assert str(retained.id) in listed.stdout, listed.stderr
        shown = flattr(stack, "rejected", "show", str(retained.id))
        assert raw in shown.stdout
        as_it_is = flattr(stack, "rejected", "replay", str(retained.id), "--url", stack.ingest.url)
        assert (as_it_is.returncode, as_it_is.stdout.splitlines()[-1]) == (1, "0 of 1 accepted")
        for _ in range(2):
            words = ["rejected", "replay", str(retained.id), "--drop", "colour", "--url", stack.ingest.url]
            done = flattr(stack, *words)
            assert done.stdout == "1 of 1 accepted\n", done.stderr
        # What is in again has left the list, and can be looked up all the same.
        assert flattr(stack, "rejected", "list").stdout == "Nothing was refused.\n"
        warehouse = Warehouse(stack.warehouse_url)
        assert [one.id for one in rejected(warehouse, replayed=True)] == [retained.id]
        warehouse.close()
        unknown = flattr(stack, "rejected", "show", "rejected:0:1")
        assert (unknown.returncode, unknown.stderr.strip()) == (1, "flattr: no refused input with id rejected:0:1")
        counters = f"{stack.api.url}/v1/counters?creator=bob&thing=https://example.org/a"
        wait_until(lambda: list(ask(counters).json["counters"].values()) == [1], "the replayed click is counted once")


def test_batch_refused_as_a_whole_is_replayed_in_parts(tmp_path: Path) -> None:
    with Stack(StackPlan(folder=tmp_path / "stack"), say=lambda _: None) as stack:
        token = issue(stack.token_keys, "ann", audience="flattr", now_ms=system_clock(), valid_s=60)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        many = json.dumps([{"creator_id": "bob", "thing": f"https://example.org/{n:04}"} for n in range(1001)])
        assert ask(f"{stack.ingest.url}/v1/clicks", method="POST", headers=headers, body=many.encode()).status == 413
        warehouse = Warehouse(stack.warehouse_url)
        wait_until(lambda: rejected(warehouse), "the refused batch is in the warehouse")
        (retained,) = rejected(warehouse)
        assert (retained.reason, retained.cut) == ("batch_too_large", True)
        whole = retained.raw.count(b"}")
        assert 100 < whole < 1001
        done = flattr(stack, "rejected", "replay", str(retained.id), "--url", stack.ingest.url)
        assert (
            f"{retained.id}: {whole} of {whole} clicks accepted; "
            f"item {whole} is not complete JSON, the rest was cut off" in done.stdout
        )
        assert done.stdout.endswith("1 of 1 accepted\n"), done.stderr
        assert rejected(warehouse) == []
        counts = "SELECT count() FROM flattrs FINAL"
        wait_until(lambda: warehouse.rows(counts) == [(whole,)], "each replayed click is one flattr")
        warehouse.close()
