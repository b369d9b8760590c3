"""Parking: taking a job out of the schedule whose entries the database refuses for good.

One job's claims must not stop the others', whatever is wrong with them. A parked job is paused, by cronexec
itself and with the reason; an open range accounts for its slots from the first one that could not be claimed
(I1), and somebody resumes it once the cause is mended.
"""

from dataclasses import replace
from datetime import datetime

from cronexec.domain.job import Job, Pause
from cronexec.domain.ledger import pause_entry
from cronexec.domain.run import Run

PARKED_BY = "cronexec"


def park(job: Job, first: datetime, *, why: str, revision: int, epoch: int, at: datetime) -> tuple[Job, Run]:
    """Return the job paused, and the open range that covers its slots from `first` (a slot) on."""
    job = replace(job, revision=revision, updated_at=at)
    pause = Pause(since_at=at, issued_by=PARKED_BY, range_id="", reason=why)
    entry = pause_entry(job, first, epoch=epoch, at=at, why=pause.skip())
    return replace(job, paused=replace(pause, range_id=entry.id)), entry


def without_range(job: Job) -> Job:
    """Return a parked job whose range the database refused too: its slots are missing in the ledger."""
    return replace(job, paused=replace(job.paused, range_id="")) if job.paused else job
