"""The observer: every instance's view of the term, once a second.

It keeps the job table warm, and notices a silent schedule.

*Liveness* is the term document's `seq` changing, timed by the observer's own monotonic clock; an idle holder
still commits once a second. A seq that stands still for `baton_lost_after` means that no one holds: the baton
may be lost. A seq that moves while the watermark falls behind means a holder that lives and decides nothing:
it is deposed by compare-and-set on what was seen. One that says that it is catching up decides all the time.
"""

import asyncio
from datetime import timedelta

from cronexec.domain.term import TermRecord
from cronexec.errors import CronexecError, InvalidDocumentError
from cronexec.runtime.context import Context
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.service import Wake

OBSERVE_INTERVAL = 1.0
FORGET_MARGIN = timedelta(hours=1)  # beyond the retention, for TTL to have removed a tombstone's versions


class Observer:
    """`record` is the last reading, None before the first.

    `silence` wakes whoever waits for the schedule to be silent.
    """

    def __init__(self, context: Context, table: JobTable) -> None:
        self._context = context
        self._table = table
        self._changed_at = context.clock.monotonic()
        self._behind_since: float | None = None
        self.record: TermRecord | None = None
        self.silence = Wake()
        self.holding = False
        self.failing_since: float | None = None
        self._unreadable: str | None = None

    async def run(self) -> None:
        """Observe once a second; while this instance holds there is nothing to observe."""
        while True:
            if not self.holding:
                try:
                    await self._observe()
                    self.failing_since = None
                except CronexecError as error:
                    self._failed(str(error))
            self._forget()
            await asyncio.sleep(OBSERVE_INTERVAL)

    def reset(self) -> None:
        """Start timing the silence afresh (after holding, after inserting a baton)."""
        self._changed_at = self._context.clock.monotonic()
        self._behind_since = None
        self.silence.clear()

    async def _observe(self) -> None:
        record = await self._context.store.terms.read()
        now = self._context.clock.monotonic()
        if self.record is None or record.seq != self.record.seq:
            self._changed_at = now
        if self.record is None or record.epoch != self.record.epoch:
            self._behind_since = None  # whoever has begun meanwhile is given as long as anybody
        self.record = record
        if not self.holding:
            await self._keep_warm(record)
        if now - self._changed_at > self._context.settings.baton_lost_after.total_seconds():
            self.silence.set()
        else:
            await self._check_lag(record, now)

    async def _keep_warm(self, record: TermRecord) -> None:
        """Bring the job table up to date. What cannot be read in it says nothing about the database."""
        try:
            if record.revision > self._table.revision:
                await self._table.refresh(self._context.store.jobs, record.watermark, taking_over=False)
            else:
                await self._table.follow(record.watermark)
        except InvalidDocumentError as error:
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                self._context.log.error("observer.unreadable", why=str(error))  # noqa: TRY400  `why` says it

    def _forget(self) -> None:
        """Drop what the database does not keep any more; also while this instance holds."""
        kept = self._context.settings.retention + FORGET_MARGIN
        self._table.forget(self._context.clock.now() - kept)

    async def _check_lag(self, record: TermRecord, now: float) -> None:
        limit = self._context.settings.instance_lost_after
        if record.lag <= limit or record.catching_up:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif timedelta(seconds=now - self._behind_since) > limit:
            self._behind_since = None
            deposed = await self._context.store.terms.depose(record.epoch, record.seq)
            self._context.log.error(
                "baton.silent", epoch=record.epoch, lag_s=record.lag.total_seconds(), deposed=deposed
            )

    def _failed(self, error: str) -> None:
        now = self._context.clock.monotonic()
        self._changed_at = now  # what cannot be read is not silent
        if self.failing_since is None:
            self.failing_since = now
            self._context.log.warning("database.unreachable", error=error)
