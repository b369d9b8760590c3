"""Policies: what happens to a slot that comes due. Pure decisions over (job, cursor, until).

Three questions are asked of every due slot, in this order:

0. *Exceptions*: is it in a window, skipped once, or excluded by its schedule? Then nobody wants it, and the
   policies choose among the others.
1. *Misfire*: is it later than its grace, and if so, does the job still want it? All slots of one decision are
   judged against the same instant, the end of the whole range, so that a catch-up that is committed in
   several writes decides as one.
2. *Overlap*: may it run while earlier runs of the job are unsettled? `domain.places` answers, slot by slot.

Jobs without exceptions are spared the first one. What is not wanted becomes a skip with its reason, adjacent
ones a single range: never silence (I1, I7).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import assert_never

from cronexec.domain.job import Job, Misfire, MisfirePolicy
from cronexec.domain.job_state import Skip
from cronexec.domain.run import SkipReason
from cronexec.domain.schedule import Schedule
from cronexec.domain.wanted import Stretch, excluded, newest_wanted, stretches, wanted

SECOND = timedelta(seconds=1)
MOST_JOINED = 1_000  # skips in one range: who goes through slots one by one has to come up for air
_MISFIRE = Skip(reason=SkipReason.MISFIRE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is decided about `slot`, or about all slots from `slot` to `until`, both included.

    Without `skip` it is wanted; `note` and `issued_by` belong to it. `catch_up`: it was missed, and the
    misfire policy wants it all the same.
    """

    slot: datetime
    until: datetime | None = None
    skip: SkipReason | None = None
    catch_up: bool = False
    note: str | None = None
    issued_by: str | None = None


def judge(
    job: Job, *, first: datetime, after: datetime, until: datetime, judged_at: datetime
) -> Iterator[Verdict]:
    """Decide every slot of `job` in (after, until], ascending; `first` is the first of them.

    A slot is missed when `judged_at` is later than it by more than the job's grace.
    """
    grace = job.document.misfire.grace
    if until - first < SECOND and judged_at - first <= grace:
        # Slots are whole seconds: this is the only one. The usual tick ends here, and asks no schedule.
        why = job.passes_over(first) if job.is_selective else None
        yield Verdict(slot=first) if why is None else _skipped(first, why)
        return
    live_after = _last_before(judged_at - grace, until)
    wanted_after = _wanted_after(job.document.misfire, after, judged_at)
    if job.is_selective:
        yield from _joined(_judge_selectively(job, after, wanted_after, live_after, until))
        return
    live = job.schedule.slots(max(after, live_after), until)
    first_live = next(live, None)
    if first <= live_after:
        yield from _missed(job, first, wanted_after, live_after, superseded=first_live is not None)
    if first_live is not None:
        yield Verdict(slot=first_live)
        for slot in live:
            yield Verdict(slot=slot)


def _last_before(instant: datetime, until: datetime) -> datetime:
    """Return the last whole second before `instant` (and not after `until`)."""
    whole = instant.replace(microsecond=0)
    return min(until, whole if whole < instant else whole - SECOND)


def _wanted_after(misfire: Misfire, after: datetime, judged_at: datetime) -> datetime:
    """Return after which instant missed slots may be wanted: what is older than the window is not."""
    if misfire.window is None:
        return after
    return max(after, _last_before(judged_at - misfire.window, judged_at))


def _missed(
    job: Job, first: datetime, after: datetime, until: datetime, *, superseded: bool
) -> Iterator[Verdict]:
    """Decide the missed slots from `first` to `until`; none up to `after` is wanted.

    `superseded`: a live slot follows, which is all that `latest` wants.
    """
    policy = job.document.misfire.policy
    match policy:
        case MisfirePolicy.SKIP:
            wanted: list[datetime] = []
        case MisfirePolicy.LATEST:
            wanted = [] if superseded else job.schedule.last_slots(after, until, 1)
        case MisfirePolicy.ALL:
            wanted = job.schedule.last_slots(after, until, job.document.misfire.limit)
        case _:
            assert_never(policy)
    last_skipped = wanted[0] - SECOND if wanted else until
    if first <= last_skipped:
        yield skip(job.schedule, first, last_skipped, SkipReason.MISFIRE)
    for slot in wanted:
        yield Verdict(slot=slot, catch_up=True)


def _judge_selectively(
    job: Job, after: datetime, wanted_after: datetime, live_after: datetime, until: datetime
) -> Iterator[Verdict]:
    """Decide the slots in (after, until] of a job with exceptions; what is up to `live_after` was missed.

    Of these, none up to `wanted_after` is wanted.
    """
    live_after = max(after, live_after)
    begin = _first_caught_up(job, wanted_after, live_after, until)
    missed = (
        verdict
        for stretch in stretches(job, after, live_after)
        for verdict in _stretch(job.schedule, stretch, begin, catch_up=True)
    )
    live = (
        verdict
        for stretch in stretches(job, live_after, until)
        for verdict in _stretch(job.schedule, stretch, live_after, catch_up=False)
    )
    return chain(missed, live)


def _first_caught_up(job: Job, after: datetime, live_after: datetime, until: datetime) -> datetime | None:
    """Return the first missed slot that the misfire policy wants; it wants every later one that is wanted."""
    policy = job.document.misfire.policy
    match policy:
        case MisfirePolicy.SKIP:
            return None
        case MisfirePolicy.LATEST:
            superseded = next(wanted(job, live_after, until), None) is not None
            return None if superseded else newest_wanted(job, after, live_after, 1)
        case MisfirePolicy.ALL:
            return newest_wanted(job, after, live_after, job.document.misfire.limit)
        case _:
            assert_never(policy)


def _stretch(
    schedule: Schedule, stretch: Stretch, begin: datetime | None, *, catch_up: bool
) -> Iterator[Verdict]:
    """Decide a stretch: all of it is skipped, or what is before `begin` is a misfire, and the rest runs."""
    if stretch.skip is not None:
        yield from _whole(schedule, stretch.after, stretch.until, stretch.skip)
        return
    runs_after = stretch.until if begin is None else min(begin - SECOND, stretch.until)
    if schedule.has_exclusions:
        for slot in schedule.slots(stretch.after, stretch.until):
            why = excluded(schedule, slot) or (None if slot > runs_after else _MISFIRE)
            yield Verdict(slot=slot, catch_up=catch_up) if why is None else _skipped(slot, why)
        return
    yield from _whole(schedule, stretch.after, runs_after, _MISFIRE)
    for slot in schedule.slots(max(stretch.after, runs_after), stretch.until):
        yield Verdict(slot=slot, catch_up=catch_up)


def _whole(schedule: Schedule, after: datetime, until: datetime, why: Skip) -> Iterator[Verdict]:
    """Skip every slot in (after, until], if there is one."""
    first = schedule.next_after(after)
    if first is not None and first <= until:
        found = skip(schedule, first, until, why.reason)
        yield replace(found, note=why.note, issued_by=why.issued_by)


def _skipped(slot: datetime, why: Skip) -> Verdict:
    return Verdict(slot=slot, skip=why.reason, note=why.note, issued_by=why.issued_by)


def _joined(verdicts: Iterator[Verdict]) -> Iterator[Verdict]:
    """Join adjacent skips with one reason: no slot lies between two verdicts that follow each other."""
    held, joined = next(verdicts, None), 1
    for verdict in verdicts:
        if held is not None and joined < MOST_JOINED and _are_alike(held, verdict):
            held, joined = replace(held, until=verdict.until or verdict.slot), joined + 1
            continue
        if held is not None:
            yield held
        held, joined = verdict, 1
    if held is not None:
        yield held


def _are_alike(one: Verdict, other: Verdict) -> bool:
    whys = ((each.skip, each.note, each.issued_by) for each in (one, other))
    return one.skip is not None and len(set(whys)) == 1


def skip(schedule: Schedule, first: datetime, last: datetime, reason: SkipReason) -> Verdict:
    """Return the verdict that skips every slot from `first` (a slot) to `last` (any second).

    It is a range only where there are several.
    """
    following = schedule.next_after(first)
    several = following is not None and following <= last
    return Verdict(slot=first, until=last if several else None, skip=reason)
