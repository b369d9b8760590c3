"""Transcripts: pieces with a place fit together, however they were cut and repeated."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronexec.domain.transcript import Piece, Transcript, beyond, output_of, without_cut_end


def piece(at: int, text: str) -> Piece:
    return Piece(at=at, data=text.encode())


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=8), st.integers(0, 70))
def test_overlapping_pieces_give_every_byte_once_from_any_position(
    data: bytes, cuts: list[int], since: int
) -> None:
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [Piece(at=start, data=data[start : end + 3]) for start, end in pairwise(edges)]
    found = beyond([*pieces, *pieces], since)
    assert b"".join(each.data for each in found) == data[since:]


def test_an_output_has_no_gap_where_nothing_was_dropped() -> None:
    found = output_of(Transcript(pieces=[piece(3, "def"), piece(0, "abc")], written=6))
    assert (found.head, found.tail, found.dropped) == ("abcdef", "", 0)


@pytest.mark.parametrize(
    ("pieces", "written", "shown"),
    [
        ([piece(0, "abc"), piece(7, "hij")], 10, ("abc", "hij", 4)),
        ([piece(0, "ab€"), piece(8, "\u20ac")], 11, ("ab€", "€", 3)),
        ([piece(4, "efg")], 7, ("", "efg", 4)),
        ([piece(0, "abc")], 9, ("abc", "", 6)),
        ([piece(0, "a"), piece(3, "d"), piece(6, "g")], 7, ("a", "g", 5)),
        ([], 5, ("", "", 5)),
    ],
)
def test_what_is_missing_is_counted(pieces: list[Piece], written: int, shown: tuple[str, str, int]) -> None:
    found = output_of(Transcript(pieces=pieces, written=written))
    assert (found.head, found.tail, found.dropped) == shown


@given(st.text(max_size=10), st.integers(0, 40))
def test_only_a_character_that_is_not_complete_is_cut(text: str, end: int) -> None:
    data = text.encode(errors="replace")[:end]
    kept = without_cut_end(data)
    assert kept.decode() == data.decode(errors="ignore")
