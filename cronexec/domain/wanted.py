"""Wanted slots: which slots of a job nothing skips, whatever the policies make of them then.

Windows and slots skipped once say what is skipped in whole stretches, so they are dealt with stretch by
stretch: a month of blackout costs no more than an hour of it. What a schedule excludes is known slot by slot
only, and is gone through like that, backwards where the newest are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cronexec.domain.job import Job
from cronexec.domain.job_state import Skip
from cronexec.domain.run import SkipReason
from cronexec.domain.schedule import Schedule

SECOND = timedelta(seconds=1)
_BLOCK = 64  # slots, at least, that are looked at together when going backwards
_LOOKED_THROUGH = 20_000  # slots, before it is said that no next one is known


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The slots in (after, until]. `skip`: why somebody wants all of them skipped; None: nobody does."""

    after: datetime
    until: datetime
    skip: Skip | None


def stretches(job: Job, after: datetime, until: datetime) -> list[Stretch]:
    """Cut (after, until] wherever a window, or a slot skipped once, begins or ends; ascending."""
    edges = {after, until}
    for once in job.skip_next:
        edges |= {once.slot - SECOND, once.slot}
    for window in job.blackouts:
        edges |= {window.start_at - SECOND, window.end_at}
    inside = sorted(edge for edge in edges if after <= edge <= until)
    return [
        Stretch(after=begin, until=end, skip=job.controlled(end.replace(microsecond=0)))
        for begin, end in pairwise(inside)
    ]


def excluded(schedule: Schedule, slot: datetime) -> Skip | None:
    """Return what of the schedule itself excludes `slot`."""
    by = schedule.excluded(slot)
    return None if by is None else Skip(reason=SkipReason.EXCLUDED, note=by)


def wanted(job: Job, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the slots in (after, until] that nothing skips, ascending."""
    for stretch in stretches(job, after, until):
        if stretch.skip is None:
            slots = job.schedule.slots(stretch.after, stretch.until)
            yield from (slot for slot in slots if job.schedule.excluded(slot) is None)


def newest_wanted(job: Job, after: datetime, until: datetime, count: int) -> datetime | None:
    """Return the first of the newest `count` wanted slots in (after, until]; None where there are none."""
    first = None
    for stretch in reversed(stretches(job, after, until)):
        if stretch.skip is None and count > 0:
            found = _last_wanted(job.schedule, stretch, count)
            first, count = found[0] if found else first, count - len(found)
    return first


def _last_wanted(schedule: Schedule, stretch: Stretch, count: int) -> list[datetime]:
    if not schedule.has_exclusions:
        return schedule.last_slots(stretch.after, stretch.until, count)
    found: list[datetime] = []
    until = stretch.until
    while len(found) < count:
        block = schedule.last_slots(stretch.after, until, max(_BLOCK, count - len(found)))
        if not block:
            break
        live = [slot for slot in block if schedule.excluded(slot) is None]
        found = [*live, *found]
        until = block[0] - SECOND
    return found[-count:]


def next_run(job: Job, after: datetime) -> datetime | None:
    """Return the first slot after `after` that will run, as far as is known.

    None where the job is paused without an end or has no more, or where none is found in reasonable time.
    """
    from_at = job.planned_from(after)
    if from_at is None:
        return None
    slot = job.schedule.next_after(from_at)
    if not job.is_selective:
        return slot
    for _ in range(_LOOKED_THROUGH):
        if slot is None or job.passes_over(slot) is None:
            return slot
        ends = [window.end_at for window in job.blackouts if window.covers(slot)]
        slot = job.schedule.next_after(max([slot, *ends]))
    return None
