"""What follows an attempt that has ended: another one, a question to a person, or nothing.

Pure: the policies of the job version that the run executes, the attempt and its outcome decide. Whoever ends
the attempt asks (its executor; the holder, for one whose instance has vanished), and writes the answer with
the outcome.
"""

from datetime import datetime

from cronexec.domain.job import Abandoned, JobDocument
from cronexec.domain.run import Outcome, RunState

MOST_REPEATS = 3  # attempts in all of a run that its instances abandon, where no retry policy says


def next_attempt_at(
    document: JobDocument, *, attempt: int, outcome: Outcome, ended_at: datetime, chance: float
) -> datetime | None:
    """Return when a run whose `attempt` ended with `outcome` may start again, or None; `chance` in [0, 1).

    An abandoned attempt is followed at once by another one where the job says so: as often as `retry` allows,
    or `MOST_REPEATS` attempts in all, because a run may be what kills its instance.
    """
    if outcome.state is RunState.ABANDONED:
        return ended_at if repeats_abandoned(document, attempt) else None
    retry = document.retry
    return retry.next_at(attempt, outcome, ended_at, chance) if retry is not None else None


def repeats_abandoned(document: JobDocument, attempt: int) -> bool:
    """Whether a run whose `attempt` was abandoned is tried again."""
    most = document.retry.max_attempts if document.retry is not None else MOST_REPEATS
    return document.abandoned is Abandoned.RETRY and attempt < most


def stays_undecided(document: JobDocument, outcome: Outcome) -> bool:
    """Whether a person has to say what becomes of a run that ended with `outcome`."""
    return outcome.state is RunState.ABANDONED and document.abandoned is Abandoned.ASK
