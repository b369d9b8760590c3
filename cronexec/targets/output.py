"""What a run prints: the first and the last bytes of it, without secrets.

`BoundedOutput` is bounded whatever a run prints; what is dropped between head and tail is counted. It may be
written to from any thread (a handler's log does). `RedactingSink` stands before it where secrets were
resolved: it holds back the end of a chunk that could be the beginning of a secret until the next one tells,
so a secret is found across chunks and before head and tail are cut.
"""

import codecs
import re
import threading

from cronexec import ports
from cronexec.domain.run import Output
from cronexec.targets.secrets import REDACTED, spellings

HEAD_BYTES = 16 * 1024
TAIL_BYTES = 48 * 1024  # the end of what a failed command printed says most

_CONTINUATION = range(0x80, 0xC0)


class BoundedOutput:
    """Keeps head and tail of a run's output. Lengths are bytes of UTF-8."""

    __slots__ = ("_head", "_head_bytes", "_lock", "_tail", "_tail_bytes", "written")

    def __init__(self, *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES) -> None:
        self._head = b""
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
        """Return what is kept so far.

        A character cut in two at the gap is dropped; other bytes that are no UTF-8 become U+FFFD.
        """
        with self._lock:
            head, tail, written = self._head, bytes(self._tail), self.written
        if len(head) + len(tail) == written:
            return Output(head=(head + tail).decode(errors="replace"))
        head, tail = _without_cut_end(head), _without_cut_beginning(tail)
        return Output(
            head=head.decode(errors="replace"),
            tail=tail.decode(errors="replace"),
            dropped=written - len(head) - len(tail),
        )


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
        text = self._pattern.sub(REDACTED.encode(), self._held + chunk)
        kept = len(text) - self._beginning_of_secret(text)
        self._held = text[kept:]
        self._sink.write(text[:kept])

    def close(self) -> None:
        if self._held:
            self._sink.write(self._held)
            self._held = b""

    def _beginning_of_secret(self, text: bytes) -> int:
        """Return the length of the longest end of `text` that begins a secret."""
        longest = max(len(spelling) for spelling in self._spellings) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[-length:]
            if any(spelling.startswith(end) for spelling in self._spellings):
                return length
        return 0


def _without_cut_end(data: bytes) -> bytes:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data)
    pending, _ = decoder.getstate()
    return data[: len(data) - len(pending)]


def _without_cut_beginning(data: bytes) -> bytes:
    start = 0
    while start < min(3, len(data)) and data[start] in _CONTINUATION:
        start += 1
    return data[start:]
