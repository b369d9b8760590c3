"""Wanted slots: which slots of a job nothing skips, whatever the policies make of them then.

What skips slots is known by the stretch: windows and slots skipped once say where they begin and end, and so
does what a schedule excludes. So a month that is skipped costs no more than an hour of it. Where stretches
are short there may be very many all the same; a search therefore stops after each step, and whoever goes
through with it gives others a turn.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cronexec.domain.instants import SECOND
from cronexec.domain.job import Job
from cronexec.domain.job_state import Skip
from cronexec.domain.run import SkipReason
from cronexec.domain.schedule import Schedule

_BLOCK = 256  # slots that are looked at in one step
_FIRST_LOOK = timedelta(minutes=10)  # doubled until enough slots are found
_MOST_STRETCHES = 1_000  # skipped ones, before it is said that no next run is known

Search = Generator[None, None, datetime | None]  # it stops after each step, and returns what it finds


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """The slots in (after, until]. `skip`: why all of them are skipped; None: nothing skips them."""

    after: datetime
    until: datetime
    skip: Skip | None


def stretches(job: Job, after: datetime, until: datetime) -> Iterator[Stretch]:
    """Cut (after, until] wherever what skips slots changes; ascending. The last ones may have no slots."""
    if not job.is_selective:
        yield Stretch(after=after, until=until, skip=None)
        return
    for begin, end in pairwise(_edges(job, after, until)):
        why = job.controlled(end.replace(microsecond=0))
        if why is None and job.schedule.has_exclusions:
            yield from _excluded_stretches(job.schedule, begin, end)
        else:
            yield Stretch(after=begin, until=end, skip=why)


def _edges(job: Job, after: datetime, until: datetime) -> list[datetime]:
    """Return where a window, or a slot skipped once, begins or ends, and both ends."""
    edges = {after, until}
    for once in job.skip_next:
        edges |= {once.slot - SECOND, once.slot}
    for window in job.blackouts:
        edges |= {window.start_at - SECOND, window.end_at}
    return sorted(edge for edge in edges if after <= edge <= until)


def _excluded_stretches(schedule: Schedule, after: datetime, until: datetime) -> Iterator[Stretch]:
    """Cut (after, until] wherever what the schedule excludes changes, as far as it has slots."""
    slot = schedule.next_after(after)
    while slot is not None and slot <= until:
        by, end = schedule.excluded_until(slot)
        yield Stretch(after=after, until=min(end, until), skip=_excluded_by(by))
        after, slot = end, schedule.next_after(end)


def excluded(schedule: Schedule, slot: datetime) -> Skip | None:
    """Return what of the schedule itself excludes `slot`."""
    return _excluded_by(schedule.excluded(slot))


def _excluded_by(by: str | None) -> Skip | None:
    return None if by is None else Skip(reason=SkipReason.EXCLUDED, note=by)


def first_wanted(job: Job, after: datetime, until: datetime) -> Search:
    """Find the first slot in (after, until] that nothing skips."""
    for stretch in stretches(job, after, until):
        slot = job.schedule.next_after(stretch.after) if stretch.skip is None else None
        if slot is not None and slot <= stretch.until:
            return slot
        yield
    return None


def newest_wanted(job: Job, after: datetime, until: datetime, count: int) -> Search:
    """Find the first of the newest `count` slots in (after, until] that nothing skips."""
    first: datetime | None = None
    for slot in _wanted_backwards(job, after, until):
        if slot is None:
            yield
            continue
        first, count = slot, count - 1
        if not count:
            break
    return first


def _wanted_backwards(job: Job, after: datetime, until: datetime) -> Iterator[datetime | None]:
    """Yield the slots in (after, until] that nothing skips, newest first, and a None after each step."""
    for stretch in _backwards(job, after, until):
        if stretch is not None and stretch.skip is None:
            yield from _slots_backwards(job.schedule, stretch.after, stretch.until)
        yield None


def _slots_backwards(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime | None]:
    size = 1
    while block := schedule.last_slots(after, until, size):
        yield from reversed(block)
        yield None
        until, size = block[0] - SECOND, min(2 * size, _BLOCK)


def _backwards(job: Job, after: datetime, until: datetime) -> Iterator[Stretch | None]:
    """Yield the stretches of (after, until], newest first, and a None for each that is met on the way."""
    length = _FIRST_LOOK if job.schedule.has_exclusions else until - after
    while after < until:
        begin = until - length if until - after > length else after
        met: list[Stretch] = []
        for stretch in stretches(job, begin, until):
            met.append(stretch)
            yield None
        yield from reversed(met)
        until, length = begin, 2 * length


def next_run(job: Job, after: datetime) -> datetime | None:
    """Return the first slot after `after` that will run, as far as is known.

    None where the job is paused without an end or has no more, or where none is found in reasonable time.
    """
    return next(next_runs(job, after), None)


def next_runs(job: Job, after: datetime) -> Iterator[datetime]:
    """Yield the slots after `after` that will run, as far as is known and found in reasonable time."""
    from_at = job.planned_from(after)
    slot = None if from_at is None else job.schedule.next_after(from_at)
    skipped = 0
    while slot is not None and skipped < _MOST_STRETCHES:
        until = _skipped_until(job, slot) if job.is_selective else None
        if until is None:
            yield slot
        else:
            skipped += 1
        slot = job.schedule.next_after(until or slot)


def _skipped_until(job: Job, slot: datetime) -> datetime | None:
    """Return an instant up to which slots are skipped from `slot` on; None where it will run."""
    by, end = job.schedule.excluded_until(slot)
    ends = [] if by is None else [end]
    ends += [once.slot for once in job.skip_next if once.slot == slot]
    ends += [window.end_at for window in job.blackouts if window.covers(slot)]
    return max(ends, default=None)
