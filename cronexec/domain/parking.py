"""Parking: taking a job out of the schedule that cannot be decided, or whose entries cannot be stored.

One job's claims must not stop the others', whatever is wrong with them: that the database refuses them for
good, or that a defect shows in no other job. A parked job is paused, by cronexec itself and with the reason;
an open range accounts for its slots from the first one that could not be claimed (I1), and somebody resumes
it once the cause is mended.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from cronexec.domain.job import Job, Pause
from cronexec.domain.ledger import pause_entry
from cronexec.domain.run import Run

PARKED_BY = "cronexec"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parked:
    """The job as it is paused, and the range that accounts for its slots, where the ledger takes that."""

    job: Job
    entry: Run | None
    why: str

    def without_range(self) -> "Parked":
        """Return the same where the database refused the range too: the slots are missing in the ledger."""
        paused = replace(self.job.paused, range_id="") if self.job.paused else None
        return replace(self, job=replace(self.job, paused=paused), entry=None)


def park(job: Job, first: datetime, *, why: str, revision: int, epoch: int, at: datetime) -> Parked:
    """Return the job paused, with the open range that covers its slots from `first` on."""
    job = replace(job, revision=revision, updated_at=at)
    pause = Pause(since_at=at, issued_by=PARKED_BY, range_id="", reason=why)
    entry = pause_entry(job, first, epoch=epoch, at=at, why=pause.skip())
    return Parked(job=replace(job, paused=replace(pause, range_id=entry.id)), entry=entry, why=why)
