"""Acknowledged clicks in the damaged bytes of a spool segment: what is proven is sent again, the rest is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.stack.embedded import ROOT, EmbeddedBroker
from ingest.contract.click import Click, decode_block, encode, encode_block
from ingest.contract.thing import thing_id
from ingest.log.partition import member_hash
from ingest.log.salvage import Salvaged, salvage
from ingest.log.spool_format import MAGIC, Record
from tests.ingest.conftest import make_topics, records, serving, settings_for
from tests.support.clicks import NOVEMBER_MS, make_click


def click(member: str, thing: str, at_ms: int = NOVEMBER_MS) -> Click:
    address = f"https://bert.example/{thing}"
    return make_click(member, "bert", thing, at_ms=at_ms, thing_id=thing_id("bert", address))


def record(*clicks: Click) -> bytes:
    return Record(member_hash(clicks[0].member_id), len(clicks), encode_block(clicks)).encode()


ANNA = [click("anna", thing) for thing in "abc"]
ZOE = [click("zoe", "d")]
WHOLE = [click("eve", "e")]
SEGMENT = MAGIC + record(*ANNA) + record(*ZOE) + record(*WHOLE)


def damaged(what: bytes, instead: bytes) -> bytes:
    assert SEGMENT.count(what) == 1
    return SEGMENT.replace(what, instead)


def test_whole_segment_has_nothing_to_recover() -> None:
    assert salvage(SEGMENT) == Salvaged()


def test_lines_around_damaged_bytes_are_proven_and_the_damaged_line_is_shown() -> None:
    found = salvage(damaged(b"https://bert.example/b", b"https://bert.\xff\xfe\xfdmple/b"))
    assert found.clicks == [ANNA[0], ANNA[2]]
    assert len(found.doubtful) == 1


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"https://bert.example/d", b"https://bert.example/f"),
        (b'"member_id":"zoe"', b'"member_id":"zof"'),
        (b'"member_id":"zoe","creator_id":"bert"', b'"member_id":"zoe","creator_id":"bers"'),
    ],
)
def test_flipped_bit_that_makes_another_name_is_not_believed(what: bytes, instead: bytes) -> None:
    found = salvage(damaged(what, instead))
    assert found.clicks == []
    assert len(found.doubtful) == 1


def test_click_whose_month_was_damaged_is_not_believed() -> None:
    line = encode(click("zoe", "d"))
    moved = line.replace(b'"clicked_at":1', b'"clicked_at":2', 1)
    segment = MAGIC + Record(member_hash("zoe"), 1, line).encode().replace(line, moved) + record(*WHOLE)
    assert (salvage(segment).clicks, salvage(segment).doubtful) == ([], [moved])


@given(st.integers(min_value=len(MAGIC), max_value=len(SEGMENT) - 1), st.integers(min_value=1, max_value=255))
def test_no_flipped_byte_makes_a_click_for_other_money(at: int, flip: int) -> None:
    segment = bytearray(SEGMENT)
    segment[at] ^= flip
    money = {(each.member_id, each.creator_id, each.thing_id, each.action) for each in (*ANNA, *ZOE, *WHOLE)}
    for each in salvage(bytes(segment)).clicks:
        assert (each.member_id, each.creator_id, each.thing_id, each.action) in money


def recover(segment: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "deploy", "spool", "recover", str(segment), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_proven_clicks_are_shown_and_sent_again_with_their_ids_and_times(
    embedded_broker: EmbeddedBroker, topic: str, token_keys: Path, tmp_path: Path
) -> None:
    make_topics(embedded_broker.address, topic)
    segment = tmp_path / "0000000000000001.damaged"
    segment.write_bytes(damaged(b"https://bert.example/b", b"https://bert.\xff\xfe\xfdmple/b"))
    shown = recover(segment)
    assert shown.stdout.splitlines()[-1] == "2 clicks are proven, 1 lines are not"
    assert f"proven: {encode(ANNA[0]).decode()}" in shown.stdout
    with serving(settings_for(embedded_broker, topic, token_keys)) as ingest:
        for _ in range(2):  # safe to repeat
            sent = recover(segment, "--send", "--url", ingest.url, "--keys", token_keys)
            assert sent.stdout.splitlines()[-1] == "2 of 2 accepted, 1 lines are not proven", sent.stderr
    found = [one for each in records(embedded_broker.address, topic) for one in decode_block(each.value)]
    assert {(one.click_id, one.member_id, one.thing_id, one.clicked_at) for one in found} == {
        (one.click_id, one.member_id, one.thing_id, one.clicked_at) for one in (ANNA[0], ANNA[2])
    }
