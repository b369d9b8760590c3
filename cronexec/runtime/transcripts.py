"""Transcripts: what runs of this instance write, kept beside the ledger while they run and when they end.

A run that ends soon and writes little costs nothing here: its excerpt in the ledger is all of it. What a
longer run has written so far is stored every half second, so that anybody can follow it from any instance,
and so that it is there when this one is killed. At its end the rest follows. The outcome does not wait for
that: who reads an entry whose excerpt says that there is more asks again for a moment.

A database that is away delays transcripts, and no run. What waits to be written is bounded; beyond that the
oldest is let go, which is logged: its excerpt is in the ledger.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cronexec.domain.transcript import EXCERPT_BYTES, HEAD_BYTES, TAIL_BYTES
from cronexec.errors import CronexecError, UnwritableError
from cronexec.log import Log
from cronexec.ports import Growth, OutputStore
from cronexec.runtime.attempt import Attempt
from cronexec.runtime.service import Backoff, Wake

INTERVAL = 0.5  # seconds
MOST_BYTES_LIVE = 1024 * 1024  # in one interval, of all runs together
MOST_BYTES_AT_ONCE = 4 * 1024 * 1024
MOST_BYTES_WAITING = 64 * 1024 * 1024


@dataclass(slots=True)
class _Followed:
    """An attempt that runs: up to where it is stored, and when that was, in monotonic seconds.

    `is_begun`: there may be a transcript, even where no answer said so.
    """

    stored_at: float
    position: int = 0
    is_begun: bool = False


class Transcripts:
    """Stores what attempts write. `running`: those that run on this instance, by run id."""

    def __init__(
        self,
        *,
        outputs: OutputStore,
        running: Callable[[], Mapping[str, Attempt]],
        monotonic: Callable[[], float],
        log: Log,
    ) -> None:
        self._outputs = outputs
        self._running = running
        self._monotonic = monotonic
        self._log = log
        self._followed: dict[Attempt, _Followed] = {}
        self._ended: deque[Growth] = deque()
        self._waiting_bytes = 0
        self._wake = Wake()
        self._idle = asyncio.Event()
        self._idle.set()

    def ended(self, attempt: Attempt) -> None:
        """Take note that an attempt has ended: what is not stored of its output will be."""
        followed = self._followed.pop(attempt, None)
        is_begun = followed is not None and followed.is_begun
        if not is_begun and attempt.output.written <= EXCERPT_BYTES:
            return
        growth = _growth(attempt, followed.position if followed else 0, ended=True)
        self._ended.append(growth)
        self._waiting_bytes += _size(growth)
        while self._waiting_bytes > MOST_BYTES_WAITING and len(self._ended) > 1:
            self._let_go([self._ended.popleft()], "too much waits to be written")
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Store what runs write, every half second, and the rest of what has ended at once."""
        backoff = Backoff(first=INTERVAL)
        next_at = self._monotonic() + INTERVAL
        while True:
            was_woken = await self._wake.wait(max(0.0, next_at - self._monotonic()))
            try:
                await self._store_ended()
                if not was_woken or self._monotonic() >= next_at:
                    await self._store_live()
                    next_at = self._monotonic() + INTERVAL
            except CronexecError as error:
                self._log.warning("run.output_delayed", ended=len(self._ended), error=str(error))
                await asyncio.sleep(backoff.next())
                self._wake.set()
            else:
                backoff.reset()

    async def flush(self, timeout: float) -> int:
        """Wait until what has ended is stored, at most `timeout` seconds. Returns how many are not."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            pass
        return len(self._ended)

    async def _store_ended(self) -> None:
        while self._ended:
            group = _as_much_as(MOST_BYTES_AT_ONCE, self._ended)
            try:
                await self._outputs.grow(group)
            except UnwritableError as error:
                self._log.error("run.output_unwritable", runs=[each.run_id for each in group], why=str(error))
            for growth in group:
                if self._ended and self._ended[0] is growth:  # it may have been let go meanwhile
                    self._ended.popleft()
                    self._waiting_bytes -= _size(growth)
        self._idle.set()

    async def _store_live(self) -> None:
        """Store what has grown, the longest unstored first, as much as an interval may take."""
        grown = [attempt for attempt in self._running().values() if self._has_grown(attempt)]
        if not grown:
            return
        grown.sort(key=lambda attempt: self._followed[attempt].stored_at)
        growths = (_growth(attempt, self._followed[attempt].position) for attempt in grown)
        group = _as_much_as(MOST_BYTES_LIVE, growths)
        for attempt in grown[: len(group)]:
            self._followed[attempt].is_begun = True
        try:
            await self._outputs.grow(group)
        except UnwritableError as error:
            self._log.error("run.output_unwritable", runs=[each.run_id for each in group], why=str(error))
        now = self._monotonic()
        for attempt, growth in zip(grown, group, strict=False):
            if followed := self._followed.get(attempt):
                followed.position, followed.stored_at = growth.written, now

    def _has_grown(self, attempt: Attempt) -> bool:
        """Whether it has written something since; one that has just begun is only followed from now on."""
        followed = self._followed.get(attempt)
        if followed is None:
            self._followed[attempt] = _Followed(stored_at=self._monotonic())
            return False
        return attempt.output.written > followed.position

    def _let_go(self, growths: Iterable[Growth], why: str) -> None:
        for growth in growths:
            self._waiting_bytes -= _size(growth)
            self._log.error("run.output_lost", run=growth.run_id, attempt=growth.attempt, why=why)


def _growth(attempt: Attempt, since: int, *, ended: bool = False) -> Growth:
    new = attempt.output.transcript(since)
    tail_at = new.written - TAIL_BYTES
    return Growth(
        run_id=attempt.run.id,
        attempt=attempt.run.attempt,
        pieces=new.pieces,
        written=new.written,
        kept_from=tail_at if tail_at > HEAD_BYTES else 0,
        ended=ended,
    )


def _as_much_as(most_bytes: int, growths: Iterable[Growth]) -> list[Growth]:
    """Return the first growths until they are that much; one at least, if there is any."""
    taken: list[Growth] = []
    for growth in growths:
        taken.append(growth)
        most_bytes -= _size(growth)
        if most_bytes <= 0:
            break
    return taken


def _size(growth: Growth) -> int:
    return sum(len(piece.data) for piece in growth.pieces)
