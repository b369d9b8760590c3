"""The job table: every instance's copy of the jobs and of the plan.

Standbys keep theirs warm, so that a takeover reads only what changed.

What it knows is bounded by `revision`, the one it last *queried*: the next query asks for everything above
it, from the primary with a majority. It follows the holder's watermark, never leads it.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from cronexec.domain.job import Job
from cronexec.domain.plan import Plan
from cronexec.ports import JobStore
from cronexec.runtime.service import Breather

COMPUTE_AT_ONCE = 16


class JobTable:
    """Jobs by name (tombstones of deleted ones included), and their plan."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.jobs: dict[str, Job] = {}
        self.plan = Plan()
        self.revision = -1
        self._lock = asyncio.Lock()  # an observer's refresh may be under way when the term begins

    async def refresh(self, store: JobStore, watermark: datetime) -> int:
        """Read what changed since the last query, and follow the watermark. Returns how many jobs changed."""
        async with self._lock:
            changed = await store.changed_since(self.revision)
            breather = Breather(self._monotonic)
            for job in changed:
                self.put(job, after=watermark)
                self.revision = max(self.revision, job.revision)
                await breather.breathe()
            await self._follow(watermark)
        return len(changed)

    async def follow(self, watermark: datetime) -> None:
        """Carry the plan on to the watermark of somebody else's term, in slices."""
        async with self._lock:
            await self._follow(watermark)

    async def _follow(self, watermark: datetime) -> None:
        await self.complete()
        self.plan.advance(watermark)
        await self.complete()

    async def complete(self) -> None:
        """Compute every next slot that is not known, without holding the event loop."""
        breather = Breather(self._monotonic)
        while self.plan.compute(COMPUTE_AT_ONCE):
            await breather.breathe()

    def put(self, job: Job, *, after: datetime) -> None:
        """Take a job as it is now; its slots up to `after` are decided."""
        self.jobs[job.name] = job
        self.plan.put(job, after=after)

    def skip_decided(self, cursors: Iterable[tuple[str, datetime]]) -> None:
        """Continue jobs from where the ledger already reaches beyond the watermark."""
        for name, covered_until in cursors:
            if (job := self.jobs.get(name)) is not None:
                self.plan.put(job, after=covered_until)
