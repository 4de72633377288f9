"""The scan reads what ingest writes, reads it as msgspec does, and never reads past it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.admission.validate import Caller, Validator
from ingest.contract.click import Click, encode, encode_block
from ingest.contract.names import ID_LENGTH_MAX
from ingest.contract.thing import THING_LENGTH_MAX
from ingest.contract.times import TIME_END_MS
from streams.clicks import decode
from streams.clicks import scan as clicks_scan
from streams.clicks.fields import Fields
from streams.source.chunk import LogRecord, Records
from tests.streams.test_decode import CLICKS
from tests.support.clicks import make_click

CLICK = encode(make_click("ann", creator="bob", thing="1"))


def scan(values: list[bytes]) -> tuple[Fields, np.ndarray] | None:
    """What the scan makes of records with these values."""
    return clicks_scan.scan(Records.of([LogRecord(at, 0, value) for at, value in enumerate(values)]))


def decoded(values: list[bytes]) -> tuple[Fields, np.ndarray] | None:
    """What msgspec makes of the records, with no scan."""
    return decode._read_blocks([LogRecord(at, 0, value) for at, value in enumerate(values)])


def plain(found: tuple[Fields, np.ndarray]) -> dict[str, object]:
    """Every column, to compare."""
    fields, counts = found
    columns: dict[str, object] = {"counts": counts.tolist()}
    for name in Fields.__slots__:
        column = getattr(fields, name)
        if hasattr(column, "ends"):
            columns[name] = [column[index] for index in range(len(column.ends))]
        else:
            columns[name] = None if column is None else column.tolist()
    return columns


@pytest.mark.parametrize("action", ["flattr", "undo", "subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    "more", ["", ',"clicked_at":1795791653000', ',"clicked_at":1795791653000,"sent_at":1795791653001']
)
@pytest.mark.parametrize("thing", ["https://bob.example/a?b=c&d=%C3%A9", "page-7", "Straße", "記事"])
def test_what_ingest_writes_is_scanned(action: str, more: str, thing: str) -> None:
    body = f'{{"creator_id":"bob","action":"{action}","thing":"{thing}"{more}}}'.encode()
    (click,) = Validator().read(body, b"application/json", Caller("ann", "blog"), 1795791653000)
    assert isinstance(click, Click)
    values = [encode(click), encode_block([click, click])]
    scanned, other = scan(values), decoded(values)
    assert scanned is not None
    assert other is not None
    assert plain(scanned) == plain(other)


@given(st.lists(st.lists(CLICKS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_scanned_is_what_msgspec_reads(blocks: list[list[Click]]) -> None:
    values = [encode_block(block) for block in blocks]
    scanned, other = scan(values), decoded(values)
    assert other is not None
    assert scanned is None or plain(scanned) == plain(other)
    if b"client_at" not in b"".join(values) and b"\\" not in b"".join(values) and b"\x7f" not in b"".join(values):
        assert scanned is not None


EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 2), st.binary(min_size=1, max_size=3))


@given(st.lists(EDIT, min_size=1, max_size=3), st.sampled_from([1, 2]), st.sampled_from(["whole", "cut"]))
@example([(0.0, 0, b" ")], 1, "cut")
def test_changed_bytes_are_scanned_only_if_msgspec_reads_the_same(
    edits: list[tuple[float, int, bytes]], lines: int, how: str
) -> None:
    value = b"\n".join([CLICK] * lines)
    for where, removed, put in edits:
        at = int(where * len(value))
        value = value[:at] + put + value[at + removed :]
    values = [value[: len(value) // 2], value[len(value) // 2 :]] if how == "cut" else [value, CLICK]
    scanned = scan(values)
    if scanned is not None:
        other = decoded(values)
        assert other is not None
        assert plain(scanned) == plain(other)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'"member_id":"ann"', b'"member_id":"%s"' % (b"a" * (ID_LENGTH_MAX + 1))),
        (b'"member_id":"ann"', b'"member_id":""'),
        (b'"member_id":"ann"', b'"member_id":"a n"'),
        (b'"member_id":"ann"', b'"member_id":"a\x7f"'),
        (b'"member_id":"ann"', '"member_id":"änn"'.encode()),
        (b'"member_id":"ann"', b'"member_id":"a\\u006e"'),
        (b'"thing":"https://bob.example/1"', b'"thing":"%s"' % (b"x" * (THING_LENGTH_MAX + 1))),
        (b'"thing":"https://bob.example/1"', b'"thing":""'),
        (b'"thing":"https://bob.example/1"', b'"thing":"\xc3"'),
        (b'"thing":"https://bob.example/1"', b'"thing":"\xa4x"'),
        (b'"thing":"https://bob.example/1"', b'"thing":"\xed\xa0\x80"'),
        (b'"thing":"https://bob.example/1"', b'"thing":"a\tb"'),
        (b'"action":"flattr"', b'"action":"like"'),
        (b'{"v":1,', b'{"v":2,'),
        (b'{"v":1,', b'{"v": 1,'),
        (b'"received_at":', b'"received_at":0'),
        (b'"received_at":', b'"received_at":-'),
        (b'"received_at":', b'"received_at":%d' % TIME_END_MS),
        (b"}", b',"until":"2026-11"}'),
        (b"}", b"}\n"),
        (b"}", b"}\n\n"),
        (b"}", b"} "),
    ],
)
def test_what_has_another_form_is_left_to_msgspec(right: bytes, wrong: bytes) -> None:
    assert right in CLICK
    assert scan([CLICK]) is not None
    assert scan([CLICK, CLICK.replace(right, wrong)]) is None


def test_longest_names_and_texts_of_any_language_are_scanned() -> None:
    click = make_click("m" * ID_LENGTH_MAX, creator="c" * ID_LENGTH_MAX, site_id="s" * ID_LENGTH_MAX)
    values = [encode(msgspec.structs.replace(click, thing="ß" * THING_LENGTH_MAX))] * 3
    scanned, other = scan(values), decoded(values)
    assert scanned is not None
    assert other is not None
    assert plain(scanned) == plain(other)


def test_characters_split_between_two_things_are_no_text() -> None:
    first, second = CLICK.replace(b"bob.example/1", b"\xc3"), CLICK.replace(b"https://bob", b"\xa9")
    assert scan([first, second]) is None


CHECKED = """
from streams.clicks import scan as clicks_scan
from streams.source.chunk import LogRecord, Records

def scan(values):
    return clicks_scan.scan(Records.of([LogRecord(at, 0, value) for at, value in enumerate(values)]))

click = {click!r}
for length in range(len(click)):
    assert scan([click[:length]]) is None
    assert scan([click, click[:length]]) is None
    for byte in b'\\0"\\\\}}{{0a\\xff':
        scan([click[:length] + bytes([byte]) + click[length + 1:]])
        scan([click[:length] + bytes([byte])])
        scan([click[:length], click[length:]])
print("checked")
"""


def test_no_step_reads_past_the_records(tmp_path: Path) -> None:
    """Compiled with numba's bounds checks: every cut, and every byte replaced by what ends or begins something."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = CHECKED.format(click=CLICK)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "checked\n", done.stderr
