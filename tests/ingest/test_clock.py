"""An ingest whose clock is wrong: nothing is promised that is not kept, and it goes on when the clock is right."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from deploy.stack.embedded import ApacheKafka
from ingest.contract.click import Click, decode_block, encode, received_until
from ingest.contract.thing import thing_id
from ingest.contract.times import AHEAD_MAX_MS
from ingest.runtime.clock import system_clock, write_clock_file
from tests.ingest.conftest import Ingest, make_topics, records, serving, settings_for, wait_until

CLICK = {"creator_id": "bob", "thing": "https://example.org/a"}
OFF_BY_MS = [180_000, -180_000, 400 * 24 * 3_600_000]


def post(ingest: Ingest, count: int, clock_ms: int) -> dict[str, int]:
    """Statuses by click id; the tokens hold by this clock and by the right one."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    valid_s = max(0, clock_ms) // 1000 + 600
    return {
        one: ingest.post({**CLICK, "click_id": one}, token=ingest.token(f"m-{one}", valid_s=valid_s)).status
        for one in ids
    }


def in_log(broker: ApacheKafka, topic: str) -> dict[str, tuple[Click, int]]:
    """The clicks in the log with their records' stamps, by click id."""
    return {
        click.click_id: (click, record.timestamp)
        for record in records(broker.address, topic)
        for click in decode_block(record.value)
    }


@pytest.mark.parametrize("off_by_ms", OFF_BY_MS)
def test_clicks_under_a_wrong_clock_wait_in_the_spool_and_are_in_the_log_when_it_is_right(
    kafka: ApacheKafka, topic: str, token_keys: Path, tmp_path: Path, off_by_ms: int
) -> None:
    make_topics(kafka.address, topic)
    write_clock_file(tmp_path / "clock", off_by_ms)
    settings = settings_for(
        kafka, topic, token_keys, clock=f"file:{tmp_path / 'clock'}", spool=tmp_path / "spool", produce_timeout_s=2
    )
    with capture_logs() as lines, serving(settings) as ingest:
        answers = post(ingest, 20, off_by_ms)
        assert set(answers.values()) == {202}
        assert in_log(kafka, topic) == {}
        wait_until(lambda: ingest.metric("flattr_ingest_stamps_refused_total") > 2)
        assert ingest.get("/ready").json["parts"]["broker"] == "refuses our clock"
        write_clock_file(tmp_path / "clock", 0)
        answers |= post(ingest, 5, 0)
        wait_until(lambda: ingest.metric("flattr_ingest_spool_clicks") == 0)
        wait_until(lambda: ingest.get("/ready").json["parts"]["broker"] == "connected")
        answers |= post(ingest, 5, 0)
    # It is let in and refused every second, and says so once a minute.
    assert [line["event"] for line in lines].count("reconnected to the broker") <= 1
    logged = in_log(kafka, topic)
    assert logged.keys() == {one for one, status in answers.items() if status == 202}
    for click, stamp in logged.values():
        assert click.received_at - stamp <= AHEAD_MAX_MS
        assert abs(stamp - system_clock()) < 60_000


def test_clicks_under_a_wrong_clock_and_no_spool_are_503_and_not_in_the_log(
    kafka: ApacheKafka, topic: str, token_keys: Path, tmp_path: Path
) -> None:
    make_topics(kafka.address, topic)
    write_clock_file(tmp_path / "clock", 180_000)
    settings = settings_for(kafka, topic, token_keys, clock=f"file:{tmp_path / 'clock'}", produce_timeout_s=2)
    with serving(settings) as ingest:
        assert set(post(ingest, 10, 180_000).values()) == {503}
        assert in_log(kafka, topic) == {}
        write_clock_file(tmp_path / "clock", 0)
        wait_until(lambda: set(post(ingest, 1, 0).values()) == {202})
        answers = post(ingest, 10, 0)
    assert set(answers.values()) == {202}
    assert answers.keys() <= in_log(kafka, topic).keys()


@given(st.text(max_size=40), st.integers(0, 1 << 42), st.integers(0, 1 << 42))
def test_receipt_is_bounded_in_its_field_alone(thing: str, received_at: int, at_ms: int) -> None:
    thing += f'"received_at":{received_at}'
    click = Click(
        v=1, click_id="x", action="flattr", member_id='"received_at":9', creator_id="bob", thing=thing,
        thing_id=thing_id("bob", "x"), site_id="s", clicked_at=received_at, received_at=received_at,
    )  # fmt: skip
    (found,) = decode_block(received_until(encode(click), at_ms))
    assert found.received_at == min(received_at, at_ms)
    assert (found.thing, found.member_id, found.clicked_at) == (click.thing, click.member_id, click.clicked_at)
