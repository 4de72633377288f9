"""What is a click, and why something is none."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import validate
from ingest.admission.validate import Caller, Validator
from ingest.contract.click import UNREADABLE, Click, encode
from ingest.contract.rejection import Reason
from ingest.contract.times import TIME_END_MS
from ingest.runtime.refusal import Refusal

NOW_MS = 1_763_800_000_000
GOOD = {"creator_id": "bob", "thing": "https://example.org/a"}
ANN = Caller("ann")
validator = Validator(new_id=lambda: uuid.UUID(int=7))


def verdict(sent: object) -> Click | Refusal:
    raw = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    return validator.item(raw, 0, ANN, NOW_MS)


def accepted(sent: object) -> Click:
    found = verdict(sent)
    assert isinstance(found, Click), found
    return found


def test_least_click_gets_version_id_action_and_times() -> None:
    click = accepted(GOOD)
    assert (click.v, click.action, click.member_id, click.site_id) == (1, "flattr", "ann", "")
    assert click.click_id == "00000000-0000-0000-0000-000000000007"
    assert click.clicked_at == click.received_at == NOW_MS
    assert click.sent_at is None


def test_clients_id_is_kept_in_lower_case() -> None:
    click_id = "4BE0643F-1D98-573B-97CD-CA98A65347DD"
    assert accepted({**GOOD, "click_id": click_id}).click_id == click_id.lower()


def test_spellings_of_one_thing_have_one_thing_id() -> None:
    other = accepted({**GOOD, "thing": "HTTPS://EXAMPLE.org:443/a?utm_source=x#top"})
    assert other.thing_id == accepted(GOOD).thing_id
    assert other.thing.startswith("HTTPS://EXAMPLE")


@pytest.mark.parametrize("at_ms", [0, 1, 60_000, NOW_MS - 86_400_000, NOW_MS, NOW_MS + 1, TIME_END_MS - 1])
@pytest.mark.parametrize("sent_after_ms", [None, 0, 3_000])
def test_clients_times_stand_as_the_client_said_them(at_ms: int, sent_after_ms: int | None) -> None:
    sent_at = None if sent_after_ms is None else min(at_ms + sent_after_ms, TIME_END_MS - 1)
    click = accepted({**GOOD, "clicked_at": at_ms, "sent_at": sent_at})
    assert (click.clicked_at, click.sent_at, click.received_at) == (at_ms, sent_at, NOW_MS)
    assert b"client_at" not in encode(click)


def test_click_without_its_own_time_is_of_its_receipt_whatever_its_sending_time() -> None:
    click = accepted({**GOOD, "sent_at": 5})
    assert (click.clicked_at, click.sent_at) == (NOW_MS, None)
    assert accepted({**GOOD, "clicked_at": None, "sent_at": None}).clicked_at == NOW_MS


@pytest.mark.parametrize("field", ["clicked_at", "sent_at"])
@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2025-11-22T08:26:40Z", NOW_MS),
        ("2025-11-22T09:26:40.000+01:00", NOW_MS),
        ("2025-11-22T08:26:40.0009Z", NOW_MS),
        ("2025-11-22t08:26:40z", NOW_MS),
        ("2025-11-22 09:26:40,0+0100", NOW_MS),
        ("2016-12-31T23:59:60Z", 1_483_228_799_999),
        ("2017-01-01T00:59:60.7+01:00", 1_483_228_799_999),
        ("1970-01-01T00:00:00Z", 0),
        ("2248-09-26T15:10:22.207Z", TIME_END_MS - 1),
    ],
)
def test_clients_times_may_be_rfc3339(field: str, text: str, at_ms: int) -> None:
    click = accepted({**GOOD, "clicked_at": 1, field: text})
    assert getattr(click, field) == at_ms


NO_TIMES: list[tuple[object, Reason]] = [
    (-1, Reason.FIELD_VALUE),
    (TIME_END_MS, Reason.FIELD_VALUE),
    (10**18, Reason.FIELD_VALUE),
    (2**64, Reason.FIELD_VALUE),
    (10**400, Reason.FIELD_VALUE),
    ("", Reason.FIELD_VALUE),
    ("yesterday", Reason.FIELD_VALUE),
    ("1763800000000", Reason.FIELD_VALUE),
    ("2025-11-22T08:26:40", Reason.FIELD_VALUE),
    ("1969-12-31T23:59:59.9999Z", Reason.FIELD_VALUE),
    ("2248-09-26T15:10:22.208Z", Reason.FIELD_VALUE),
    ("9999-12-31T23:59:59Z", Reason.FIELD_VALUE),
    ("0001-01-01T00:00:00+14:00", Reason.FIELD_VALUE),
    ("2025-W47-6T08:26:40Z", Reason.FIELD_VALUE),
    ("20251122T082640Z", Reason.FIELD_VALUE),
    ("2025-11-22T24:00:00Z", Reason.FIELD_VALUE),
    ("2025-11-22T08:26:40+01:00:30", Reason.FIELD_VALUE),
    ("2025-02-29T00:00:00Z", Reason.FIELD_VALUE),
    (1.5, Reason.FIELD_TYPE),
    (1e12, Reason.FIELD_TYPE),
    (True, Reason.FIELD_TYPE),
    ([], Reason.FIELD_TYPE),
]


@pytest.mark.parametrize("field", ["clicked_at", "sent_at"])
@pytest.mark.parametrize(("sent", "reason"), NO_TIMES)
def test_what_is_no_time_is_refused_in_either_field(field: str, sent: object, reason: Reason) -> None:
    for rest in (GOOD, {**GOOD, "clicked_at": 1}):
        found = verdict({**rest, field: sent})
        assert isinstance(found, Refusal)
        assert (found.reason, found.field) == (reason, field)


BAD: list[tuple[object, Reason, str]] = [
    (b"", Reason.JSON_MALFORMED, ""),
    (b"{", Reason.JSON_MALFORMED, ""),
    (b'{"creator_id": NaN}', Reason.JSON_MALFORMED, ""),
    (b'{"thing": "\xff"}', Reason.JSON_MALFORMED, ""),
    (b'{"thing": "\xc3', Reason.JSON_MALFORMED, ""),
    (b'{"x_a": ' + b"[" * 100_000, Reason.JSON_MALFORMED, ""),
    (b'{"v":1}{"v":1}', Reason.JSON_MALFORMED, ""),
    (7, Reason.NOT_AN_OBJECT, ""),
    (None, Reason.NOT_AN_OBJECT, ""),
    ([], Reason.NOT_AN_OBJECT, ""),
    ({}, Reason.FIELD_MISSING, "thing"),
    ({"thing": "x"}, Reason.FIELD_MISSING, "creator_id"),
    ({**GOOD, "colour": "red"}, Reason.FIELD_UNKNOWN, "colour"),
    ({**GOOD, "v": 0}, Reason.VERSION_UNKNOWN, "v"),
    ({**GOOD, "v": 2}, Reason.VERSION_UNKNOWN, "v"),
    ({**GOOD, "v": "1"}, Reason.FIELD_TYPE, "v"),
    ({**GOOD, "v": True}, Reason.FIELD_TYPE, "v"),
    ({**GOOD, "v": None}, Reason.FIELD_TYPE, "v"),
    ({**GOOD, "creator_id": 7}, Reason.FIELD_TYPE, "creator_id"),
    ({**GOOD, "creator_id": None}, Reason.FIELD_TYPE, "creator_id"),
    ({**GOOD, "creator_id": ""}, Reason.FIELD_VALUE, "creator_id"),
    ({**GOOD, "creator_id": "a b"}, Reason.FIELD_VALUE, "creator_id"),
    ({**GOOD, "creator_id": "a\n"}, Reason.FIELD_VALUE, "creator_id"),
    ({**GOOD, "creator_id": "a" * 65}, Reason.FIELD_TOO_LONG, "creator_id"),
    ({**GOOD, "creator_id": "ann"}, Reason.OWN_THING, "creator_id"),
    ({**GOOD, "member_id": "eve"}, Reason.MEMBER_MISMATCH, "member_id"),
    ({**GOOD, "site_id": ""}, Reason.FIELD_VALUE, "site_id"),
    ({**GOOD, "thing": ""}, Reason.FIELD_VALUE, "thing"),
    ({**GOOD, "thing": "  "}, Reason.FIELD_VALUE, "thing"),
    ({**GOOD, "thing": "a\0b"}, Reason.FIELD_VALUE, "thing"),
    ({**GOOD, "thing": "http://"}, Reason.FIELD_VALUE, "thing"),
    ({**GOOD, "thing": "http://[x/"}, Reason.FIELD_VALUE, "thing"),
    ({**GOOD, "thing": "x" * 2049}, Reason.FIELD_TOO_LONG, "thing"),
    ({**GOOD, "click_id": "17"}, Reason.FIELD_VALUE, "click_id"),
    ({**GOOD, "click_id": 17}, Reason.FIELD_TYPE, "click_id"),
    ({**GOOD, "action": "like"}, Reason.FIELD_VALUE, "action"),
    ({**GOOD, "action": None}, Reason.FIELD_TYPE, "action"),
    (json.dumps(GOOD).encode()[:-1] + b',"clicked_at":' + b"9" * 5000 + b"}", Reason.JSON_MALFORMED, ""),
]


@pytest.mark.parametrize(("sent", "reason", "field"), BAD)
def test_what_is_no_click_is_refused_by_reason_and_field(sent: object, reason: Reason, field: str) -> None:
    found = verdict(sent)
    assert isinstance(found, Refusal)
    assert (found.reason, found.field) == (reason, field)
    assert found.detail


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(1) | ANYTHING,
        "click_id": st.uuids().map(str) | ANYTHING,
        "action": st.sampled_from(["flattr", "undo"]) | ANYTHING,
        "member_id": st.just("ann") | ANYTHING,
        "creator_id": st.sampled_from(["bob", "ann", "a" * 65]) | ANYTHING,
        "thing": st.sampled_from(["https://example.org/", "x" * 2049]) | ANYTHING,
        "site_id": st.just("blog") | ANYTHING,
        "clicked_at": st.integers(0, 2 * NOW_MS) | ANYTHING,
        "sent_at": st.integers(0, 2 * NOW_MS) | ANYTHING,
        "x_more": ANYTHING,
        "more": ANYTHING,
    },
)


@given(NEARLY)
def test_strict_path_takes_nothing_that_the_careful_path_would_refuse(sent: dict[str, object]) -> None:
    raw = json.dumps(sent).encode()
    found = validator.item(raw, 0, ANN, NOW_MS)
    try:
        careful: Click | None = validator._click(validate._diagnosed(raw), ANN, NOW_MS)
    except validate._Bad:
        careful = None
    assert found == careful if isinstance(found, Click) else careful is None


@given(st.binary(max_size=60) | NEARLY.map(lambda sent: json.dumps(sent).encode()))
def test_any_bytes_get_a_verdict_and_what_is_accepted_can_be_read_back(raw: bytes) -> None:
    found = validator.item(raw, 0, ANN, NOW_MS)
    if isinstance(found, Click):
        line = encode(found)
        assert b"\n" not in line
        assert msgspec.json.decode(line, type=Click) == found
    else:
        assert found.reason in Reason
        msgspec.json.encode(found).decode()


def test_unreadable_names_everything_that_decoding_raises() -> None:
    for raw in (b"{", b'"\xff"', b"[" * 100_000, b'{"v": "x"}'):
        with pytest.raises(UNREADABLE):
            msgspec.json.decode(raw, type=dict[str, int])
