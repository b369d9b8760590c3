"""Adoption: taking in queued runs that somebody else claimed, or that come back.

A run is executed with the version of its job that it was claimed with, whatever the job is by now; one whose
version is not to be found fails, and says so. Some are wanted no more: a command would have cancelled them
had it met them queued. These are cancelled when they are taken in.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cronexec.domain.controls import revoke
from cronexec.domain.job import JobDocument
from cronexec.domain.ledger import Settle
from cronexec.domain.run import Outcome, Run, RunState
from cronexec.log import Log
from cronexec.ports import Clock, JobStore
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.ready import Ready
from cronexec.runtime.service import Breather

Submit = Callable[[Iterable[Settle]], None]


class Adoption:
    """Belongs to one term."""

    def __init__(self, *, table: JobTable, jobs: JobStore, clock: Clock, log: Log) -> None:
        self._table = table
        self._jobs = jobs
        self._clock = clock
        self._log = log

    async def queued(self, unsettled: Iterable[Run], epoch: int) -> list[Run]:
        """Return those that are queued as they are by now, adopted by the term `epoch`."""
        breather = Breather(self._clock.monotonic)
        queued: list[Run] = []
        for run in unsettled:
            if run.state is RunState.QUEUED:
                queued.append(run if run.epoch == epoch else replace(run, epoch=epoch))
            await breather.breathe()
        return queued

    async def ready(self, runs: Sequence[Run], submit: Submit) -> list[Ready]:
        """Pair queued runs with the versions that they were claimed with.

        `submit` takes the ends of those that are not wanted, or have no version.
        """
        documents = await self.documents_of(runs)
        ready: list[Ready] = []
        revoked: list[Settle] = []
        lost: list[Settle] = []
        breather = Breather(self._clock.monotonic)
        for run in runs:
            document = documents.get((run.job, run.version))
            if (settle := self._revoked(run)) is not None:
                revoked.append(settle)
            elif document is None:
                lost.append(self._without_version(run))
            else:
                ready.append(Ready(run=run, document=document))
            await breather.breathe()
        if lost:
            missing = [settle.run_id for settle in lost[:10]]
            self._log.error("run.version_missing", runs=missing, count=len(lost))
        if revoked or lost:
            submit([*revoked, *lost])
        return ready

    async def documents_of(self, runs: Iterable[Run]) -> dict[tuple[str, int], JobDocument]:
        """Return the documents of the versions that `runs` were claimed with, as far as there are any."""
        documents: dict[tuple[str, int], JobDocument] = {}
        former: set[tuple[str, int]] = set()
        for name, version in {(run.job, run.version) for run in runs}:
            if name in self._table.jobs and self._table.jobs[name].version == version:
                documents[name, version] = self._table.jobs[name].document
            else:
                former.add((name, version))
        for each in await self._jobs.versions_of(former) if former else ():
            documents[each.name, each.version] = each.document
        return documents

    def _revoked(self, run: Run) -> Settle | None:
        """Return what cancels a run that a command would have cancelled, None for one that is wanted."""
        jobs = self._table.jobs
        return revoke(run, jobs[run.job], self._clock.now()) if run.job in jobs else None

    def _without_version(self, run: Run) -> Settle:
        problem = f"version {run.version} of the job {run.job} is not in the database"
        outcome = Outcome(state=RunState.FAILED, reason="version_missing", error=problem)
        return Settle(
            run_id=run.id,
            attempt=run.attempt,
            expected=RunState.QUEUED,
            outcome=outcome,
            at=self._clock.now(),
        )
