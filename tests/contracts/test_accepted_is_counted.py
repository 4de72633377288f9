"""Whatever ingest answers 202 is well-formed for the stream: counted, a duplicate, an undo or late, never refused."""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.admission.request import Request
from ingest.admission.validate import Caller, Validator
from ingest.contract.click import Click, encode
from ingest.contract.times import TIME_END_MS
from ingest.runtime.refusal import Refused
from streams.clicks import decode
from streams.counting.count_batch import CountingRules, count_records
from streams.sink.flush_rows import Rows
from streams.source.chunk import LogRecord
from streams.state.partition import MonthState, PartitionState
from tests.ingest.hostile import GOOD, corpus

NOW_MS = 1_795_000_000_000
CALLERS = [Caller("ann"), Caller("ann", "blog"), Caller("!" * 64, "~" * 64)]
FORM, JSON = b"application/x-www-form-urlencoded", b"application/json"
RULES = CountingRules(partitions=1, epoch=0, grace_ms=1000, topic="clicks")
validator = Validator()


def verdicts(body: bytes, media_type: bytes, caller: Caller, now_ms: int = NOW_MS) -> list[Click]:
    """What of a body is answered 202, read as the beacon reads it."""
    request = Request("POST", "/v1/clicks", b"", [(b"content-type", media_type)])
    try:
        plain, kind = request.as_json(body)
        found = validator.read(plain, kind, caller, now_ms)
    except Refused:
        return []
    return [one for one in found if isinstance(one, Click)]


def records_of(clicks: list[Click], stamp_ms: int) -> Iterator[list[LogRecord]]:
    """The clicks in one block, and each as a record of its own."""
    lines = [encode(click) for click in clicks]
    yield [LogRecord(0, stamp_ms, b"\n".join(lines))]
    yield [LogRecord(offset, stamp_ms, line) for offset, line in enumerate(lines)]


def the_stream_takes(clicks: list[Click], now_ms: int = NOW_MS) -> None:
    """Every one of them is counted, a duplicate, an undo or late."""
    for records in records_of(clicks, now_ms) if clicks else ():
        assert decode.read(records, 0).refused == []
        state, rows = PartitionState(0), Rows()
        count_records(state, records, RULES, lambda _: MonthState(), rows)
        tallied = Counter[str]()
        for of_month in state.tallies.values():
            tallied.update(of_month)
        assert tallied["accepted"] == len(clicks)
        assert sum(tallied[name] for name in ("counted", "duplicate", "undo", "late")) == len(clicks)
        assert (tallied["rejected"], rows.malformed) == (0, 0)


TEXT = st.text(max_size=80) | st.text(st.characters(max_codepoint=127), max_size=80)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
NUMBER = st.integers() | st.floats() | st.booleans() | st.none()
TIMES = (
    st.integers(-2, TIME_END_MS + 2)
    | st.sampled_from([0, 1, TIME_END_MS - 1, TIME_END_MS, 1 << 44, 10**30, "1970-01-01T00:00:00Z", "", "0"])
    | st.datetimes(timezones=st.timezones()).map(lambda at: at.isoformat())
    | NUMBER
)
THINGS = (
    TEXT
    | VISIBLE
    | TEXT.map(lambda rest: "https://" + rest)
    | st.builds(
        lambda sign, length: sign * length,
        st.sampled_from("xä\U0001f600\u0301"),
        st.sampled_from([1, 2047, 2048, 2049]),
    )
    | st.builds(lambda rest: " \n\t https://example.org/" + rest, TEXT)
)
MONTHS = st.builds("{:04}-{:02}".format, st.integers(1960, 2260) | st.integers(2246, 2249), st.integers(0, 13))
CLICKS = st.fixed_dictionaries(
    {"creator_id": VISIBLE | TEXT, "thing": THINGS},
    optional={
        "v": st.just(1) | NUMBER,
        "click_id": st.uuids().map(str) | st.uuids().map(lambda one: str(one).upper()) | TEXT,
        "action": st.sampled_from(["flattr", "undo", "subscribe", "subscribe", "unsubscribe"]) | TEXT,
        "until": MONTHS | TEXT | NUMBER,
        "member_id": st.sampled_from([caller.member_id for caller in CALLERS]) | TEXT,
        "site_id": VISIBLE | TEXT,
        "clicked_at": TIMES,
        "sent_at": TIMES,
        "x_own": TEXT | NUMBER,
    },
)
NOWS = st.integers(NOW_MS - 10**10, NOW_MS + 10**10) | st.sampled_from([0, 1, TIME_END_MS - 1])


@given(st.lists(CLICKS, min_size=1, max_size=5), st.sampled_from(CALLERS), NOWS, st.booleans())
@settings(max_examples=500)
def test_what_ingest_accepts_the_stream_takes(
    clicks: list[Any],
    caller: Caller,
    now_ms: int,
    ascii_only: bool,  # noqa: FBT001
) -> None:
    texts = [json.dumps(click, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for click in clicks]
    accepted = verdicts(b"[" + b",".join(texts) + b"]", JSON, caller, now_ms)
    accepted += verdicts(b"\n".join(texts), b"application/x-ndjson", caller, now_ms)
    the_stream_takes(accepted, now_ms)


@given(st.dictionaries(st.sampled_from(["creator_id", "thing", "clicked_at", "sent_at", "v", "click_id"]), TEXT))
def test_what_ingest_accepts_of_a_form_the_stream_takes(fields: dict[str, str]) -> None:
    from urllib.parse import urlencode

    body = urlencode({**GOOD, **fields}, errors="replace").encode()
    the_stream_takes(verdicts(body, FORM, Caller("ann")))


def rule_bound() -> Iterator[dict[str, Any]]:
    """Each field at each end of its rule."""
    ids = ["!", "~", "a" * 64, '"\\' * 32, "'alice"]
    things = [
        "x",
        "ä",
        "\U0001f600" * 2048,
        "x" * 2048,
        '"\\/',
        "urn:x",
        "https://é.example/ü?ä",
        "\n https://a.example/\t",
    ]
    times = [0, 1, 60_000, NOW_MS - 10**11, NOW_MS, NOW_MS + 10**11, TIME_END_MS - 1, "1970-01-01T00:00:00Z", None]
    yield from ({"creator_id": name, "site_id": name} for name in ids)
    yield from ({"thing": thing} for thing in things)
    yield from ({"clicked_at": one, "sent_at": other} for one, other in itertools.product(times, times))
    yield {"click_id": "4BE0643F-1D98-573B-97CD-CA98A65347DD"}


@pytest.mark.parametrize("caller", CALLERS[:1])
def test_each_field_at_the_ends_of_its_rule_is_accepted_and_taken(caller: Caller) -> None:
    for change in rule_bound():
        accepted = verdicts(json.dumps({**GOOD, **change}).encode(), JSON, caller)
        assert len(accepted) == 1, change
        the_stream_takes(accepted)


def test_hostile_corpus_beside_a_good_click_costs_nobody_anything() -> None:
    good = json.dumps(GOOD).encode()
    for one in corpus():
        if one.method == "POST":
            accepted = verdicts(one.body, JSON, Caller("ann"))
            accepted += verdicts(good + b"\n" + one.body, b"application/x-ndjson", Caller("ann"))
            the_stream_takes(accepted)


@given(st.binary(max_size=200).map(base64.b64encode) | st.binary(max_size=200))
def test_any_bytes_that_are_accepted_are_taken(body: bytes) -> None:
    the_stream_takes(verdicts(body, JSON, Caller("ann")))
