"""What a run prints: the first and the last bytes of it, without secrets.

`BoundedOutput` is bounded whatever a run prints; what is dropped between head and tail is counted. It may be
written to from any thread (a handler's log does), and read while it grows. `RedactingSink` stands before it
where secrets were resolved: it holds back the end of a chunk that could be the beginning of a secret until
the next one tells, so a secret is found across chunks, before head and tail are cut, and before anybody sees
what a run has printed so far.
"""

import re
import threading

from cronexec import ports
from cronexec.domain.run import Output
from cronexec.domain.transcript import (
    EXCERPT_BYTES,
    EXCERPT_HEAD_BYTES,
    EXCERPT_TAIL_BYTES,
    HEAD_BYTES,
    PIECE_BYTES,
    TAIL_BYTES,
    Piece,
    Transcript,
    bounded_output,
)
from cronexec.targets.secrets import REDACTED, length_begun, spellings

_NOTHING = Output()


class BoundedOutput:
    """Keeps head and tail of a run's output. Lengths are bytes of UTF-8."""

    __slots__ = ("_head", "_head_bytes", "_lock", "_tail", "_tail_bytes", "written")

    def __init__(self, *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes
        self._lock = threading.Lock()
        self.written = 0

    def write(self, data: bytes | str) -> None:
        chunk = data.encode(errors="replace") if isinstance(data, str) else data
        with self._lock:
            self.written += len(chunk)
            room = self._head_bytes - len(self._head)
            if room > 0:
                self._head += chunk[:room]
                chunk = chunk[room:]
            self._tail += chunk[-self._tail_bytes :] if len(chunk) > self._tail_bytes else chunk
            del self._tail[: -self._tail_bytes]

    def output(self) -> Output:
        """Return what is kept so far, whole."""
        with self._lock:
            head, tail, written = bytes(self._head), bytes(self._tail), self.written
        return bounded_output(head, tail, written)

    def excerpt(self) -> Output:
        """Return the ends of what was written: all of it where that is little."""
        if not self.written:
            return _NOTHING
        if self.written <= EXCERPT_BYTES:
            return self.output()
        with self._lock:
            written, head = self.written, bytes(self._head[:EXCERPT_HEAD_BYTES])
            end = bytes(self._tail[-EXCERPT_TAIL_BYTES:])
            if missing := EXCERPT_TAIL_BYTES - len(end):
                end = bytes(self._head[-missing:]) + end
        return bounded_output(head, end, written)

    def transcript(self, since: int = 0) -> Transcript:
        """Return what is kept of what was written after a position."""
        with self._lock:
            written, tail_at = self.written, self.written - len(self._tail)
            head, tail = bytes(self._head[since:]), bytes(self._tail[max(0, since - tail_at) :])
        pieces = [*_pieces(since, head), *_pieces(max(since, tail_at), tail)]
        return Transcript(pieces=pieces, written=written)


def _pieces(at: int, data: bytes) -> list[Piece]:
    starts = range(0, len(data), PIECE_BYTES)
    return [Piece(at=at + start, data=data[start : start + PIECE_BYTES]) for start in starts]


class RedactingSink:
    """Writes to `sink` what it is given, with `***` for the secrets.

    To be closed: then it writes what it held back.
    """

    def __init__(self, sink: ports.OutputSink, secrets: set[str]) -> None:
        self._sink = sink
        self._spellings = [spelling.encode(errors="replace") for spelling in spellings(secrets)]
        self._pattern = re.compile(b"|".join(re.escape(spelling) for spelling in self._spellings))
        self._held = b""

    def write(self, data: bytes | str) -> None:
        chunk = data.encode(errors="replace") if isinstance(data, str) else data
        if not self._spellings:
            self._sink.write(chunk)
            return
        self._held = self._pass_on(self._held + chunk)

    def cut(self) -> None:
        """Take note that what follows is dropped: what is held back may be a secret's beginning."""
        if self._held:
            self._held = b""
            self._sink.write(REDACTED)

    def close(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._sink.write(self._pattern.sub(REDACTED.encode(), held))

    def _pass_on(self, text: bytes) -> bytes:
        """Write what is certain, and return the rest: what may begin a secret, or a longer one."""
        certain = len(text) - length_begun(text, self._spellings)
        parts, position = [], 0
        for found in self._pattern.finditer(text):
            if found.start() >= certain:
                break
            parts += [text[position : found.start()], REDACTED.encode()]
            position = found.end()
        kept_from = max(position, certain)
        self._sink.write(b"".join([*parts, text[position:kept_from]]))
        return text[kept_from:]
