"""What an overlap policy promises of a job's line, judged by the ledger after a write that claimed for it."""

from collections.abc import Sequence

from cronexec.domain.job import JobDocument, OverlapPolicy
from cronexec.domain.run import Cause, Run, RunState


def wrong_line(document: JobDocument, entry: Run, unsettled: Sequence[Run]) -> str | None:
    """Return what is wrong with the unsettled runs of a job for which `entry` was claimed; None: nothing.

    What catches up, and what somebody triggered, backfilled or retried, is not bounded by the line of live
    slots; a backfill gives way to no run.
    """
    unsettled = [run for run in unsettled if run.attempt == 1 or run.state is not RunState.QUEUED]
    if entry.catch_up or entry.id not in {run.id for run in unsettled}:
        return None
    overlap = document.overlap
    if overlap.policy is OverlapPolicy.REPLACE:
        with_it = (run.id for run in unsettled if run.catch_up and run.claimed_at == entry.claimed_at)
        asked = {entry.id, *with_it, *(run.id for run in unsettled if run.cancel_requested_by is not None)}
        left = [run.id for run in unsettled if run.id not in asked and run.cause is not Cause.BACKFILL]
        return f"{entry.id} replaces, and nobody asked {left} to end" if left else None
    if overlap.most_active is None or entry.cause is not Cause.SCHEDULE:
        return None
    most = overlap.most_active + (overlap.queue_limit if overlap.policy is not OverlapPolicy.SKIP else 0)
    live = [run.id for run in unsettled if run.cause is Cause.SCHEDULE and not run.catch_up]
    return f"{live} are unsettled, which are more than {most}" if len(live) > most else None
