"""The ledger: how due slots become entries, and the changes of entries that a fenced write may carry.

Every slot that comes due gets exactly one entry, or is covered by exactly one range (invariant I1): `claim`
turns the verdicts of the policies into entries. Nothing is written here; the entries go into the tick's one
fenced write.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from cronexec.domain.instants import SECOND
from cronexec.domain.job import Job
from cronexec.domain.job_state import Skip
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.places import Places
from cronexec.domain.plan import Due
from cronexec.domain.policy import Verdict, Verdicts, find_no_place, joined, judge
from cronexec.domain.run import Outcome, Run, RunState, SkipReason, slot_run_id
from cronexec.domain.wanted import newest_wanted

_PAUSED = Skip(reason=SkipReason.PAUSED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settle:
    """Move a run out of `expected`: abandonment, a cancelled run that was queued.

    `undecided`: it stays unsettled until a person decides. No match (state, attempt, token): no effect.
    """

    run_id: str
    attempt: int
    expected: RunState
    outcome: Outcome
    at: datetime
    token: str | None = None
    undecided: bool = False


def settle_cancelled(run: Run, reason: str, at: datetime) -> Settle:
    """Return what cancels a queued run."""
    outcome = Outcome(state=RunState.CANCELLED, reason=reason)
    return Settle(run_id=run.id, attempt=run.attempt, expected=RunState.QUEUED, outcome=outcome, at=at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Requeue:
    """Queue a run for its next attempt: by hand, or because its instance vanished and the job says so.

    The former attempt is kept, with `outcome` where the entry has none yet. No match (state, attempt, token):
    no effect.
    """

    run_id: str
    attempt: int
    expected: RunState
    at: datetime
    reason: str
    outcome: Outcome | None = None
    token: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseRange:
    """End a range entry at `until` (included); it is removed where that is before its first slot.

    The range is open, or its end is the `foreseen` one. No match: no effect.
    """

    run_id: str
    until: datetime
    foreseen: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claiming:
    """What all entries of one decision share.

    `until` ends the range, misfires are judged against `judged_at`.
    """

    epoch: int
    until: datetime
    judged_at: datetime


def claim(
    due: Due, claiming: Claiming, occupancy: Occupancy, *, unavailable: str | None = None
) -> Iterator[Run | None]:
    """Decide every slot of `due` up to `claiming.until`; yields its entries in the order of time.

    A None in between says that it takes many steps: give others a turn. `unavailable`: why the holder cannot
    execute the job's target now; its runs are claimed all the same, and say so while they wait. What
    `occupancy` says is read once, when the first entry is asked for.
    """
    job = due.job
    verdicts = judge(
        job, first=due.first, after=due.after, until=claiming.until, judged_at=claiming.judged_at
    )
    several = claiming.until - due.first >= SECOND
    if several and job.document.overlap.replaces:
        verdicts = _only_the_newest(verdicts, due, claiming)
    placed = _placed(verdicts, job, occupancy.places(job.name), claiming.until)
    for verdict in joined(placed) if several else placed:
        yield _entry(job, verdict, claiming, reason=unavailable) if verdict is not None else None


def _only_the_newest(verdicts: Verdicts, due: Due, claiming: Claiming) -> Verdicts:
    """Leave of the wanted slots, under `replace`, the newest live one: it would replace the others at once.

    Missed slots replace nothing; without a live one after them they are all left.
    """
    job, until = due.job, claiming.until
    newest = yield from newest_wanted(job, due.after, until, 1)
    is_live = newest is not None and claiming.judged_at - newest <= job.document.misfire.grace
    for verdict in verdicts:
        if verdict is None or verdict.skip is not None or newest is None or not is_live:
            yield verdict
        elif verdict.catch_up:
            yield Verdict(slot=verdict.slot, skip=SkipReason.OVERLAP)
        else:
            yield from find_no_place(job, verdict.slot - SECOND, newest - SECOND)
            yield Verdict(slot=newest)
            yield from find_no_place(job, newest, until)
            return


def _placed(verdicts: Verdicts, job: Job, places: Places, until: datetime) -> Verdicts:
    """Skip what finds no place."""
    for verdict in verdicts:
        if (
            verdict is None
            or verdict.skip is not None
            or places.take(job.document, catch_up=verdict.catch_up)
        ):
            yield verdict
        elif verdict.catch_up:
            yield Verdict(slot=verdict.slot, skip=SkipReason.OVERLAP)
        else:
            # Nor will any later live slot find a place: they need not be gone through one by one.
            yield from find_no_place(job, verdict.slot - SECOND, until)
            return


def _entry(job: Job, verdict: Verdict, claiming: Claiming, *, reason: str | None = None) -> Run:
    not_before = job.schedule.starts_at(verdict.slot, job=job.name) if verdict.skip is None else None
    return Run(
        id=slot_run_id(job.name, verdict.slot),
        job=job.name,
        version=job.version,
        slot=verdict.slot,
        until=verdict.until,
        state=RunState.QUEUED if verdict.skip is None else RunState.SKIPPED,
        reason=reason if verdict.skip is None else verdict.skip.value,
        note=verdict.note,
        issued_by=verdict.issued_by,
        epoch=claiming.epoch,
        catch_up=verdict.catch_up,
        claimed_at=claiming.judged_at,
        not_before=not_before if not_before is not None and not_before > claiming.until else None,
    )


def pause_entry(
    job: Job,
    first: datetime,
    *,
    epoch: int,
    at: datetime,
    why: Skip = _PAUSED,
    until: datetime | None = None,
) -> Run:
    """Return the range that accounts for the slots of a paused job from `first` to `until`.

    Without `until` it is open, and a `CloseRange` ends it; which may shorten the other kind, too.
    Its id carries the job's revision: a job may be paused, resumed and paused again before the same slot.
    """
    return Run(
        id=f"{slot_run_id(job.name, first)}..{job.revision}",
        job=job.name,
        version=job.version,
        slot=first,
        until=until,
        open_ended=until is None,
        state=RunState.SKIPPED,
        reason=why.reason.value,
        note=why.note,
        issued_by=why.issued_by,
        epoch=epoch,
        claimed_at=at,
    )
