"""The ledger: how due slots become entries, and the changes of entries that a fenced write may carry.

Every slot that comes due gets exactly one entry, or is covered by exactly one range (invariant I1): `claim`
turns the verdicts of the policies into entries. Nothing is written here; the entries go into the tick's one
fenced write.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from cronexec.domain.job import Job
from cronexec.domain.job_state import Skip
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.policy import Verdict, judge
from cronexec.domain.run import Outcome, Run, RunState, SkipReason, slot_run_id

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
) -> Iterator[Run]:
    """Decide every slot of `due` up to `claiming.until`; yields its entries in the order of time.

    `unavailable`: why the holder cannot execute the job's target now; its runs are claimed all the same, and
    say so while they wait. What `occupancy` says is read once, when the first entry is asked for.
    """
    job = due.job
    verdicts = judge(
        job, first=due.first, after=due.after, until=claiming.until, judged_at=claiming.judged_at
    )
    if job.document.overlap.replaces:
        verdicts = _newest(verdicts)
    places = occupancy.places(job.name)
    overlapping: Verdict | None = None
    for verdict in verdicts:
        if verdict.skip is SkipReason.OVERLAP:
            overlapping = _extended(overlapping, verdict)
            continue
        if verdict.skip is None and not places.take(job.document, catch_up=verdict.catch_up):
            overlapping = _extended(overlapping, verdict)
            if verdict.catch_up or job.is_selective:
                continue
            # Nor will any later live slot find a place: they need not be gone through one by one.
            last = job.schedule.last_slots(verdict.slot, claiming.until, 1)
            overlapping = replace(overlapping, until=last[0]) if last else overlapping
            break
        if overlapping is not None:
            yield _entry(job, overlapping, claiming)
            overlapping = None
        yield _entry(job, verdict, claiming, reason=unavailable)
    if overlapping is not None:
        yield _entry(job, overlapping, claiming)


def _newest(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Leave of the wanted slots, under `replace`, the newest live one: it would replace the others at once.

    Missed slots replace nothing; without a live one after them they are all left.
    """
    decided = list(verdicts)
    live = (at for at, verdict in enumerate(decided) if verdict.skip is None and not verdict.catch_up)
    newest = max(live, default=0)
    for at, verdict in enumerate(decided):
        replaced = at < newest and verdict.skip is None
        yield Verdict(slot=verdict.slot, skip=SkipReason.OVERLAP) if replaced else verdict


def _extended(skipped: Verdict | None, verdict: Verdict) -> Verdict:
    """Return the skip of `verdict` for overlap, joined to the skipped slots right before it."""
    if skipped is None:
        return Verdict(slot=verdict.slot, skip=SkipReason.OVERLAP)
    return replace(skipped, until=verdict.slot)


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
