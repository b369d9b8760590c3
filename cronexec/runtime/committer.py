"""The committer: performs the fenced writes of one term, one at a time, and keeps its guard's lease.

An answer that is lost means *maybe*: the term document is read again, and its sequence number says whether
the write happened; only if it did not is the same decision written once more, with the same epoch and seq.
Nothing is ever decided anew because an answer was lost.

A write that takes a good part of the lease is told of: beyond the lease the term ends, and the holder changes
where the database is slow for everyone. `SLOW` of the lease is much more than any write takes by itself.
"""

import asyncio
from dataclasses import replace

from cronexec.domain.term import Term
from cronexec.errors import DuplicateEntryError, TermLostError, UnclearCommitError, UnreachableError
from cronexec.log import Log
from cronexec.ports import Batch, Clock, TermStore
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.service import Backoff

SLOW = 1 / 3  # of the lease
SLOW_TOLD_INTERVAL = 60.0  # seconds


class Committer:
    """The only writer of a term. Not reentrant: the scheduler's loop is its only caller."""

    def __init__(self, *, terms: TermStore, term: Term, guard: TermGuard, clock: Clock, log: Log) -> None:
        self._terms = terms
        self._guard = guard
        self._clock = clock
        self._log = log
        self._slow_since_told = 0
        self._slow_told_at: float | None = None
        self.term = term

    async def commit(self, batch: Batch) -> None:
        """Write `batch`; afterwards `term` has the new seq, watermark and revision.

        Raises:
            TermLostError: the term is over (the guard knows), and nothing of the batch was written or it does
            not matter any more.
            DuplicateEntryError: some entries are in the ledger already; nothing was written.
            UnwritableError: the database refuses the content for good; nothing was written.
        """
        begun_at = self._clock.monotonic()
        started_at = await self._write(batch)
        self._guard.renew(started_at)
        self._tell_slow(self._clock.monotonic() - begun_at, batch)

    async def _write(self, batch: Batch) -> float:
        """Write until it is known that it is written; returns when the attempt that was began (monotonic)."""
        backoff = Backoff(first=0.02, most=0.5)
        asked_before = False
        while True:
            if not self._guard.holds():
                raise TermLostError(f"the term is over: {self._guard.reason}", maybe_written=asked_before)
            started_at = self._clock.monotonic()
            try:
                self.term = await self._terms.commit(self.term, batch)
            except (UnclearCommitError, UnreachableError) as error:
                self._log.warning(
                    "term.commit_unclear", epoch=self.term.epoch, seq=self.term.seq, error=str(error)
                )
                if await self._was_applied(batch):
                    return started_at
                asked_before = True
                await asyncio.sleep(backoff.next())
            except (TermLostError, DuplicateEntryError) as error:
                # What was asked before may have arrived after we looked: then this write met itself.
                applied = await self._was_applied(batch) if asked_before else False
                if applied:
                    return started_at
                if applied is None:
                    await asyncio.sleep(backoff.next())
                    continue
                if isinstance(error, TermLostError):
                    error.maybe_written = asked_before
                    self._guard.end(f"fenced: {error}")
                raise
            else:
                return started_at

    def _tell_slow(self, took: float, batch: Batch) -> None:
        """Tell of a slow write; at most once in `SLOW_TOLD_INTERVAL`, with how many there were since."""
        lease = self._guard.lease.total_seconds()
        if took < SLOW * lease:
            return
        self._slow_since_told += 1
        now = self._clock.monotonic()
        if self._slow_told_at is None or now - self._slow_told_at >= SLOW_TOLD_INTERVAL:
            self._log.warning(
                "term.slow_commit",
                epoch=self.term.epoch,
                seconds=round(took, 2),
                lease_s=lease,
                entries=len(batch.entries),
                times=self._slow_since_told,
            )
            self._slow_told_at, self._slow_since_told = now, 0

    async def shut_out(self) -> None:
        """Make sure that no write of this term, which is over, is applied from now on: raise the epoch.

        A write whose answer was lost may arrive as long as no one has begun another term. Does nothing where
        (epoch, seq) has moved on: then either it has arrived, or it never will. Raises UnreachableError.
        """
        await self._terms.depose(self.term.epoch, self.term.seq)

    async def _was_applied(self, batch: Batch) -> bool | None:
        """Read whether the write whose answer was lost has happened.

        Raises TermLostError when the term has moved on.
        """
        try:
            record = await self._terms.read()
        except UnreachableError:
            return None  # still unknown: the same write again, with the same seq, cannot happen twice
        if record.epoch == self.term.epoch and record.seq == self.term.seq:
            return False
        if record.epoch == self.term.epoch and record.seq == self.term.seq + 1:
            self.term = replace(
                self.term, seq=record.seq, watermark=record.watermark, revision=batch.revision
            )
            return True
        self._guard.end("fenced: another epoch")
        raise TermLostError("another instance has begun a term", maybe_written=True)
