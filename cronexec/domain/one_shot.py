"""One-shots: jobs with a single instant that are deleted once they are done.

A job says how long after its run it is to be there (`delete_after`). It is deleted no earlier than so long
after its instant, and while it is there it does not run again. Whoever puts it anew after that, a deploy that
puts all its files, must not have it run once more when the ledger has forgotten its run: such a put does
nothing, and its answer says that the job is over.
"""

from datetime import datetime, timedelta

from cronexec.domain.instants import later
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import Run


def is_over(document: JobDocument, at: datetime) -> bool:
    """Whether the job would have been deleted by `at`, had it been there."""
    instant, delete_after = document.schedule.instant, document.delete_after
    return instant is not None and delete_after is not None and later(instant, delete_after) <= at


def delete_at(job: Job, run: Run | None) -> datetime | None:
    """Return when a job that `is_over` may be deleted; None while its run is unsettled.

    `run`: the entry of its slot; None where a pause covers it, or the ledger has forgotten it.
    """
    delete_after = job.document.delete_after or timedelta()
    if run is None:
        return later(job.updated_at, delete_after)
    if not run.is_settled:
        return None
    return later(run.finished_at or run.claimed_at or run.slot, delete_after)
