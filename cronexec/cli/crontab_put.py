"""How `job put` puts the jobs of a crontab: never over a job that is from somewhere else.

What is there is read once; each job is decided by itself, and put at the version that was seen. Where
somebody was faster the job is read and decided again.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from cronexec.cli.records import next_slot
from cronexec.client import Jobs
from cronexec.domain.command import ErrorCode
from cronexec.domain.crontab_origin import Leave, Put, Refuse, judge_origin
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import slot_text
from cronexec.errors import RefusedError

ATTEMPTS = 5


class CrontabJobs:
    """Puts jobs from crontabs. `there`: the namespace's jobs by name, as they were read at `now`."""

    def __init__(self, jobs: Jobs, there: Mapping[str, Job], now: datetime) -> None:
        self._jobs = jobs
        self._there = there
        self._now = now

    def decide(self, document: JobDocument) -> Put | Leave | Refuse:
        return judge_origin(document, self._there.get(document.name))

    async def put(self, document: JobDocument) -> Mapping[str, Any]:
        """Put one job; returns what the holder answers. Raises RefusedError where it is another's."""
        decided = self.decide(document)
        for _ in range(ATTEMPTS):
            match decided:
                case Leave(job=job):
                    return self._left(job)
                case Refuse(message=message):
                    raise RefusedError("another_origin", message, "name")
                case Put(if_version=version):
                    try:
                        return await self._jobs.put(document, if_version=version)
                    except RefusedError as error:
                        if error.code != ErrorCode.VERSION_CONFLICT:
                            raise
                case _:
                    assert_never(decided)
            decided = judge_origin(document, await self._jobs.get(document.name))
        raise RefusedError(
            ErrorCode.VERSION_CONFLICT,
            f"the job {document.name} is being changed by others; try again",
            "name",
        )

    def _left(self, job: Job) -> Mapping[str, Any]:
        following = next_slot(job, self._now)
        return {
            "name": job.name,
            "version": job.version,
            "changed": False,
            "next": slot_text(following) if following else None,
        }
