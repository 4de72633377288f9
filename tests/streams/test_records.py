"""Records in columns are the same records, however they are cut and joined."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.source.chunk import LogRecord, Records, joined

PIECES = st.lists(
    st.lists(
        st.tuples(
            st.integers(1, 3), st.integers(-(1 << 40), 1 << 40), st.binary(max_size=4), st.sampled_from([b"", b"t"])
        ),
        max_size=4,
    ),
    max_size=4,
)


@given(PIECES, st.integers(0, 12), st.integers(0, 12))
def test_joined_and_cut_records_are_those_that_went_in(
    made: list[list[tuple[int, int, bytes, bytes]]], first: int, end: int
) -> None:
    offset = 0
    pieces = [
        [LogRecord(offset := offset + step, at_ms, value, told) for step, at_ms, value, told in piece] for piece in made
    ]
    told = [record for piece in pieces for record in piece]
    for columns in (joined(pieces), joined([Records.of(piece) for piece in pieces]), joined([*pieces, Records.of([])])):
        assert list(columns) == told
        assert [columns[index] for index in range(len(columns))] == told
        assert columns.sizes.tolist() == [len(one.value) for one in told]
        assert all(columns.data[at] == 0 for at in columns.ends.tolist())
        cut = columns[first:end]
        assert list(cut) == told[first:end]
        assert list(joined([cut, columns[end:]])) == [*told[first:end], *told[end:]]
        for since in range(offset + 2):
            assert list(columns.since(since)) == [one for one in told if one.offset >= since]


def test_records_over_the_same_bytes_are_joined_without_a_copy() -> None:
    columns = Records.of([LogRecord(offset, 0, b"abc") for offset in range(5)])
    again = joined([columns[0:2], columns[3:5]])
    assert again.data is columns.data
    assert again.offsets.tolist() == [0, 1, 3, 4]
    assert joined([columns]) is columns


def test_bytes_of_records_that_were_cut_off_are_left_behind_when_others_are_joined() -> None:
    columns = Records.of([LogRecord(offset, 0, b"abc") for offset in range(1000)])
    other = Records.of([LogRecord(1000, 0, b"x")])
    assert joined([columns[998:], other]).data == b"abc\0abc\0x\0"
