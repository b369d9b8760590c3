"""The job table: every instance's copy of the jobs and of the plan.

Standbys keep theirs warm, so that a takeover reads only what changed.

What it knows is bounded by `revision`, the one it last *queried*: the next query asks for everything above
it, from the primary with a majority. It follows the holder's watermark, never leads it.

A job that this release cannot read (a field of a newer release after a rollback, a time zone that is missing
here) must not stop the others. It is *not carried out*: while an instance that cannot read it holds, the
watermark passes its slots without an entry, and `ledger verify` of a release that can read it finds them
missing. **I1 is suspended for that job**, and visibly: `job.unreadable` is logged as an error when it is met
and at every takeover, and `doctor` fails. Commands that name it are refused (`unreadable_job`): applied to a
job that seems not to be there, a put would begin its history anew. It comes back with a release that reads
it; whoever corrects its document by hand starts the instances again. A holder that cannot read a job yields
to an instance that can (`runtime.yielder`). Fields that a newer release marked as ignorable are no reason not
to carry a job out; they are kept, and `job.fields_unknown` is logged.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from cronexec.domain.command import ErrorCode
from cronexec.domain.job import Job
from cronexec.domain.plan import Due, Plan
from cronexec.errors import RefusedError
from cronexec.log import Log, get_logger
from cronexec.ports import JobStore, UnreadableJob
from cronexec.runtime.service import Breather

COMPUTE_AT_ONCE = 16
TAKE_AT_ONCE = 256


class JobTable:
    """Jobs by name (tombstones of deleted ones included, until they are forgotten), and their plan.

    `unreadable`: why jobs, by name, are in neither.
    """

    def __init__(self, monotonic: Callable[[], float], log: Log | None = None) -> None:
        self._monotonic = monotonic
        self._log = log
        self.unreadable: dict[str, str] = {}
        self.jobs: dict[str, Job] = _Jobs(self.unreadable)
        self.plan = Plan()
        self.revision = -1
        self.changes = 0  # rises with every job that is put or left out
        self.is_known = False
        self._told_unknown: dict[str, int] = {}
        self._tombstones: deque[tuple[datetime, str]] = deque()
        self._lock = asyncio.Lock()  # an observer's refresh may be under way when the term begins

    async def refresh(self, store: JobStore, watermark: datetime, *, taking_over: bool = True) -> int:
        """Read what changed since the last query, and follow the watermark. Returns how many jobs changed.

        `taking_over`: say again which jobs cannot be read, not only those met now.
        """
        async with self._lock:
            met: list[UnreadableJob] = []
            changed = await store.changed_since(self.revision, report=met.append)
            breather = Breather(self._monotonic)
            for job in changed:
                self.put(job, after=watermark)
                self.revision = max(self.revision, job.revision)
                await breather.breathe()
            for unreadable in met:
                self._leave_out(unreadable)
            self.is_known = True
            self._report(self.unreadable if taking_over else [each.name for each in met])
            await self._follow(watermark)
        return len(changed)

    def _leave_out(self, unreadable: UnreadableJob) -> None:
        self.changes += 1
        self.jobs.pop(unreadable.name, None)
        self.plan.remove(unreadable.name)
        self.unreadable[unreadable.name] = unreadable.why
        self.revision = max(self.revision, unreadable.revision)

    def _report(self, names: Iterable[str]) -> None:
        for name in names:
            (self._log or get_logger()).error("job.unreadable", job=name, why=self.unreadable[name])

    async def follow(self, watermark: datetime) -> None:
        """Carry the plan on to the watermark of somebody else's term, in slices."""
        async with self._lock:
            await self._follow(watermark)

    async def _follow(self, watermark: datetime) -> None:
        await self.complete()
        self.plan.resume(await self.due(watermark), after=watermark)
        await self.complete()

    async def due(self, until: datetime) -> list[Due]:
        """Take what is due up to `until` out of the plan, which is complete: `Plan.due`, in slices."""
        breather = Breather(self._monotonic)
        taken: list[Due] = []
        while some := self.plan.due(until, TAKE_AT_ONCE):
            taken += some
            await breather.breathe()
        return taken

    async def complete(self) -> None:
        """Compute every next slot that is not known, without holding the event loop."""
        breather = Breather(self._monotonic)
        while self.plan.compute(COMPUTE_AT_ONCE):
            await breather.breathe()

    def put(self, job: Job, *, after: datetime) -> None:
        """Take a job as it is now; its slots up to `after` are decided."""
        self.changes += 1
        self.unreadable.pop(job.name, None)
        if job.document.unknown_fields:
            self._tell_unknown(job)
        self.jobs[job.name] = job
        self.plan.put(job, after=after)
        if job.deleted_at is not None:
            self._tombstones.append((job.deleted_at, job.name))

    def _tell_unknown(self, job: Job) -> None:
        if self._told_unknown.get(job.name) != job.version:
            self._told_unknown[job.name] = job.version
            fields = list(job.document.unknown_fields)
            (self._log or get_logger()).warning("job.fields_unknown", job=job.name, fields=fields)

    def forget(self, before: datetime) -> None:
        """Drop the tombstones of jobs that were deleted before then: the database has dropped them too."""
        while self._tombstones and self._tombstones[0][0] < before:
            deleted_at, name = self._tombstones.popleft()
            if name in self.jobs and self.jobs[name].deleted_at == deleted_at:
                del self.jobs[name]
                self._told_unknown.pop(name, None)

    async def skip_decided(self, cursors: Iterable[tuple[str, datetime]]) -> None:
        """Continue jobs from where the ledger already reaches beyond the watermark: the last cursor of each.

        There are as many as a catch-up had written when its term ended.
        """
        breather = Breather(self._monotonic)
        covered: dict[str, datetime] = {}
        for name, covered_until in cursors:
            covered[name] = covered_until
            await breather.breathe()
        for name, covered_until in covered.items():
            if name in self.jobs:
                self.plan.put(self.jobs[name], after=covered_until)
            await breather.breathe()


class _Jobs(dict[str, Job]):
    """Jobs by name. To look up one that cannot be read is refused: it is there, and must not seem absent."""

    def __init__(self, unreadable: dict[str, str]) -> None:
        super().__init__()
        self._unreadable = unreadable

    def get(self, name: str, default: Any = None) -> Any:
        if name in self._unreadable:
            raise RefusedError(
                ErrorCode.UNREADABLE_JOB,
                f"this release cannot read the job {name} that is in the database: {self._unreadable[name]}. "
                "Update the instances to the release that wrote it, or correct its document in the database "
                "and start them again; then send the command anew, with a new id",
            )
        return super().get(name, default)
