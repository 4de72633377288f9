"""What is a click, and why something is none."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import validate
from ingest.click import CLICKED_AT_LAG_MAX_MS, UNREADABLE, Click, Reason, encode
from ingest.refusal import Refusal
from ingest.validate import Caller, Validator

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
    assert click.client_at is None


def test_clients_id_is_kept_in_lower_case() -> None:
    click_id = "4BE0643F-1D98-573B-97CD-CA98A65347DD"
    assert accepted({**GOOD, "click_id": click_id}).click_id == click_id.lower()


def test_spellings_of_one_thing_have_one_thing_id() -> None:
    other = accepted({**GOOD, "thing": "HTTPS://EXAMPLE.org:443/a?utm_source=x#top"})
    assert other.thing_id == accepted(GOOD).thing_id
    assert other.thing.startswith("HTTPS://EXAMPLE")


@pytest.mark.parametrize(
    ("ago_ms", "clicked_ago_ms", "moved"),
    [
        (0, 0, False),
        (1, 1, False),
        (CLICKED_AT_LAG_MAX_MS, CLICKED_AT_LAG_MAX_MS, False),
        (CLICKED_AT_LAG_MAX_MS + 1, CLICKED_AT_LAG_MAX_MS, True),
        (86_400_000, CLICKED_AT_LAG_MAX_MS, True),
        (-1, 0, True),
        (-86_400_000, 0, True),
    ],
)
def test_clients_time_counts_for_five_minutes_and_is_kept_beside(ago_ms: int, clicked_ago_ms: int, moved: bool) -> None:  # noqa: FBT001
    click = accepted({**GOOD, "clicked_at": NOW_MS - ago_ms})
    assert NOW_MS - click.clicked_at == clicked_ago_ms
    assert click.client_at == (NOW_MS - ago_ms if moved else None)
    assert click.ordered_at == NOW_MS - ago_ms


def test_clients_time_may_be_rfc3339() -> None:
    assert accepted({**GOOD, "clicked_at": "2025-11-22T08:26:40Z"}).clicked_at == NOW_MS
    assert accepted({**GOOD, "clicked_at": "2025-11-22T09:26:40.000+01:00"}).clicked_at == NOW_MS


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
    ({**GOOD, "clicked_at": -1}, Reason.FIELD_VALUE, "clicked_at"),
    ({**GOOD, "clicked_at": 10**18}, Reason.FIELD_VALUE, "clicked_at"),
    ({**GOOD, "clicked_at": 1.5}, Reason.FIELD_TYPE, "clicked_at"),
    ({**GOOD, "clicked_at": True}, Reason.FIELD_TYPE, "clicked_at"),
    ({**GOOD, "clicked_at": "yesterday"}, Reason.FIELD_VALUE, "clicked_at"),
    ({**GOOD, "clicked_at": "2025-11-22T08:26:40"}, Reason.FIELD_VALUE, "clicked_at"),
    ({**GOOD, "clicked_at": "9999-12-31T23:59:59Z"}, Reason.FIELD_VALUE, "clicked_at"),
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
