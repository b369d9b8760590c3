"""The cleaner: has jobs with a single instant deleted once they have been done for as long as they say.

It sends `job.delete` to the command queue, as anybody would: the deletion is audited, is refused where the
job was changed meanwhile, and is applied by the next holder if this one is gone by then. The command's id is
derived from the job and its revision, so that two holders delete once. Nothing is kept from one look to the
next but what was sent in this term.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

from cronexec.domain.command import DeleteJob, encode_command
from cronexec.domain.job import Job
from cronexec.domain.one_shot import delete_at, is_over
from cronexec.domain.run import Run, slot_run_id
from cronexec.errors import CronexecError
from cronexec.runtime.context import Context
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.service import Breather

LOOK_INTERVAL = 5.0
ISSUER = "cronexec"
COMMAND_IDS = uuid.UUID("0b2f1a52-5d0f-5c2b-9b0e-6f1d3c5a7e41")


class Cleaner:
    """Belongs to one term. `unsettled` tells the runs of a job that are."""

    def __init__(
        self,
        context: Context,
        *,
        table: JobTable,
        unsettled: Callable[[str], Sequence[Run]],
        interval: float = LOOK_INTERVAL,
    ) -> None:
        self._context = context
        self._table = table
        self._unsettled = unsettled
        self._interval = interval
        self._sent: dict[str, int] = {}  # the jobs' names and revisions, until they are deleted

    async def run(self) -> None:
        """Look every few seconds."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except CronexecError as error:
                self._context.log.warning("cleaner.look_failed", error=str(error))

    async def look(self) -> None:
        """Have deleted what is done."""
        now = self._context.clock.now()
        candidates = await self._candidates(now)
        if not candidates:
            return
        ids = {job.name: slot_run_id(job.name, instant) for job, instant in candidates}
        runs = await self._context.store.runs.get_many(list(ids.values()))
        for job, _ in candidates:
            due_at = delete_at(job, runs.get(ids[job.name]))
            if due_at is not None and due_at <= now:
                await self._delete(job)

    async def _candidates(self, now: datetime) -> Sequence[tuple[Job, datetime]]:
        breather = Breather(self._context.clock.monotonic)
        found: list[tuple[Job, datetime]] = []
        for job in list(self._table.jobs.values()):
            if job.deleted_at is not None:
                self._sent.pop(job.name, None)
            elif job.document.delete_after is not None and self._is_done(job, now):
                found.append((job, job.schedule.instant or now))
            await breather.breathe()
        return found

    def _is_done(self, job: Job, now: datetime) -> bool:
        is_sent = self._sent.get(job.name) == job.revision
        return not is_sent and is_over(job.document, now) and not self._unsettled(job.name)

    async def _delete(self, job: Job) -> None:
        command_id = str(uuid.uuid5(COMMAND_IDS, f"{job.name} {job.revision}"))
        command = DeleteJob(id=command_id, name=job.name, if_version=job.version, issued_by=ISSUER)
        publisher = self._context.publisher
        await publisher.publish_command(encode_command(command), command_id=command_id, reply_to=None)
        self._sent[job.name] = job.revision
        self._context.log.info("job.done", job=job.name, delete_after=str(job.document.delete_after))
