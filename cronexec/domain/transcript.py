"""Transcripts: what one attempt of a run wrote, as it is kept beside the ledger.

A transcript is a sequence of pieces, each with its place: the bytes from `at` on of all that the attempt
wrote. So what is written while the run lasts and what is written at its end fit together, however often
either is repeated, and a reader asks for what comes after what it has seen. Kept are the first `HEAD_BYTES`
and the last `TAIL_BYTES`; between them there may be a gap, which is counted.

The run's entry in the ledger has only an excerpt. Most runs write less than that, and then there is no
transcript at all: ten thousand quiet runs cost nothing here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cronexec.domain.run import Output

HEAD_BYTES = 512 * 1024
TAIL_BYTES = 512 * 1024  # the end of what a failed command printed says most
EXCERPT_HEAD_BYTES = 1024
EXCERPT_TAIL_BYTES = 3 * 1024
EXCERPT_BYTES = EXCERPT_HEAD_BYTES + EXCERPT_TAIL_BYTES
PIECE_BYTES = 64 * 1024  # at most

_CONTINUATION = range(0x80, 0xC0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Bytes of UTF-8, or what a run wrote instead; `at`: how many came before them."""

    at: int
    data: bytes

    @property
    def end(self) -> int:
        return self.at + len(self.data)

    def beyond(self, position: int) -> "Piece":
        """Return the part of it from `position` on."""
        if position <= self.at:
            return self
        return Piece(at=min(position, self.end), data=self.data[position - self.at :])


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What is kept of an attempt's output, or what came after a position of it.

    `written`: the bytes that it wrote in all. `ended`: nothing comes after that.
    """

    pieces: Sequence[Piece]
    written: int
    ended: bool = False


def beyond(pieces: Iterable[Piece], position: int) -> list[Piece]:
    """Return what there is from `position` on, in order and without overlaps."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda each: each.at):
        rest = piece.beyond(position)
        if rest.data:
            found.append(rest)
            position = rest.end
    return found


def output_of(transcript: Transcript) -> Output:
    """Return a whole transcript as head and tail: up to its first gap, and from its last one on."""
    pieces = beyond(transcript.pieces, 0)
    places = [0, *(piece.end for piece in pieces)]
    gaps = [number for number, piece in enumerate(pieces) if piece.at != places[number]]
    if not gaps and places[-1] == transcript.written:
        return Output(head=_joined(pieces).decode(errors="replace"))
    first, last = (gaps[0], gaps[-1]) if gaps else (len(pieces), len(pieces))
    return bounded_output(_joined(pieces[:first]), _joined(pieces[last:]), transcript.written)


def bounded_output(head: bytes, tail: bytes, written: int) -> Output:
    """Return the ends of what was written, `written` bytes in all.

    A character cut in two at the gap is dropped; other bytes that are no UTF-8 become U+FFFD.
    """
    if len(head) + len(tail) == written:
        return Output(head=(head + tail).decode(errors="replace"))
    head, tail = without_cut_end(head), _without_cut_beginning(tail)
    return Output(
        head=head.decode(errors="replace"),
        tail=tail.decode(errors="replace"),
        dropped=written - len(head) - len(tail),
    )


def without_cut_end(data: bytes) -> bytes:
    """Return `data` without the first bytes of a character that is not complete."""
    for length in range(1, min(3, len(data)) + 1):
        last = data[-length]
        if last >= 0xC0:  # noqa: PLR2004  the first byte of a character of two to four
            complete = length >= 2 + (last >= 0xE0) + (last >= 0xF0)  # noqa: PLR2004  likewise
            return data if complete else data[:-length]
        if last not in _CONTINUATION:
            return data
    return data


def _without_cut_beginning(data: bytes) -> bytes:
    start = 0
    while start < min(3, len(data)) and data[start] in _CONTINUATION:
        start += 1
    return data[start:]


def _joined(pieces: Iterable[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces)
