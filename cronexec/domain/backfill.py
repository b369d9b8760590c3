"""Backfill: the past slots of a job that somebody wants run, and which of them ran already.

The slots are those of the job's *current* schedule, whatever it was at the time, excluded ones left out. A
slot ran where there is a run for it, by the schedule or by a backfill, that was started or is still to be: a
skip, and a run that was cancelled before its start, leave the slot to be run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal

from cronexec.domain.instants import SECOND
from cronexec.domain.run import Cause, Run, RunState
from cronexec.domain.schedule import Schedule
from cronexec.domain.zone import EPOCH

Ran = Literal["refuse", "skip", "again"]  # what becomes of a backfill's slots that ran already
MOST_SLOTS = 1_000  # in a range, unless somebody asks for more


@dataclass(frozen=True, kw_only=True, slots=True)
class PastSlots:
    """The first slots of a range; `next` is the one after. `excluded`: how many of them do not run."""

    slots: tuple[datetime, ...]
    excluded: int = 0
    next: datetime | None = None


def past_slots(schedule: Schedule, since: datetime, until: datetime, limit: int) -> PastSlots:
    """Return the slots in [since, until], looking at no more than `limit` of them."""
    found = list(islice(schedule.slots(_before(since), until), limit + 1))
    following = found.pop() if len(found) > limit else None
    slots = tuple(slot for slot in found if schedule.excluded(slot) is None)
    return PastSlots(slots=slots, excluded=len(found) - len(slots), next=following)


def _before(since: datetime) -> datetime:
    """Return the instant after which the slots from `since` on come: whole seconds, none before 1970."""
    since = max(since, EPOCH)
    return since.replace(microsecond=0) - (timedelta() if since.microsecond else SECOND)


def ran(runs: Iterable[Run]) -> dict[datetime, str]:
    """Return the slots that ran already, or will, with the run of each."""
    return {run.slot: run.id for run in runs if run.cause is not Cause.TRIGGER and _has_run(run)}


def _has_run(run: Run) -> bool:
    never_started = run.started_at is None and not run.attempts
    return run.state is not RunState.SKIPPED and not (run.state.is_final and never_started)
