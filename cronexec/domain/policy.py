"""Policies: what happens to a slot that comes due. Pure decisions over (job, cursor, until).

Three questions are asked of every due slot, in this order:

0. *Exceptions*: is it in a window, skipped once, or excluded by its schedule? Then nobody wants it, and the
   policies choose among the others.
1. *Misfire*: is it later than its grace, and if so, does the job still want it? All slots of one decision are
   judged against the same instant, the end of the whole range, so that a catch-up that is committed in
   several writes decides as one.
2. *Overlap*: may it run while earlier runs of the job are unsettled? `domain.places` answers, slot by slot.

What is not wanted becomes a skip with its reason, adjacent ones a single range: never silence (I1, I7).

A long stretch of time may hold millions of slots. Those that are skipped alike are not gone through one by
one, and what takes many steps all the same yields a None after each: who decides gives others a turn then.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from cronexec.domain.instants import SECOND, earlier
from cronexec.domain.job import Job, Misfire, MisfirePolicy
from cronexec.domain.job_state import Skip
from cronexec.domain.run import SkipReason
from cronexec.domain.schedule import Schedule
from cronexec.domain.wanted import Search, Stretch, first_wanted, newest_wanted, stretches

_MISFIRE = Skip(reason=SkipReason.MISFIRE)
_OVERLAP = Skip(reason=SkipReason.OVERLAP)


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


Verdicts = Iterator[Verdict | None]  # None: a step was made, and nothing is decided yet


def judge(job: Job, *, first: datetime, after: datetime, until: datetime, judged_at: datetime) -> Verdicts:
    """Decide every slot of `job` in (after, until], ascending; `first` is the first of them.

    A slot is missed when `judged_at` is later than it by more than the job's grace.
    """
    misfire = job.document.misfire
    if until - first < SECOND and judged_at - first <= misfire.grace:
        # Slots are whole seconds: this is the only one. The usual tick ends here, and asks no schedule.
        why = job.passes_over(first) if job.is_selective else None
        yield Verdict(slot=first) if why is None else _skipped(first, why)
        return
    live_after = max(after, _last_before(earlier(judged_at, misfire.grace), until))
    if first <= live_after:
        yield from _judge_missed(job, after, live_after, until, _wanted_after(misfire, after, judged_at))
    for stretch in stretches(job, live_after, until):
        yield from _decide(job.schedule, stretch, runs_after=live_after, catch_up=False)


def _last_before(instant: datetime, until: datetime) -> datetime:
    """Return the last whole second before `instant` (and not after `until`)."""
    whole = instant.replace(microsecond=0)
    return min(until, whole if whole < instant else whole - SECOND)


def _wanted_after(misfire: Misfire, after: datetime, judged_at: datetime) -> datetime:
    """Return after which instant missed slots may be wanted: what is older than the window is not."""
    if misfire.window is None:
        return after
    return max(after, _last_before(earlier(judged_at, misfire.window), judged_at))


def _judge_missed(
    job: Job, after: datetime, live_after: datetime, until: datetime, wanted_after: datetime
) -> Verdicts:
    """Decide the slots in (after, live_after], which were missed; none up to `wanted_after` is wanted."""
    begin = yield from _first_caught_up(job, wanted_after, live_after, until)
    runs_after = live_after if begin is None else begin - SECOND
    for stretch in stretches(job, after, live_after):
        yield from _decide(job.schedule, stretch, runs_after=runs_after, catch_up=True)


def _first_caught_up(job: Job, after: datetime, live_after: datetime, until: datetime) -> Search:
    """Find the first missed slot that the misfire policy wants; it wants every later one that is wanted."""
    policy = job.document.misfire.policy
    match policy:
        case MisfirePolicy.SKIP:
            return None
        case MisfirePolicy.LATEST:
            superseded = yield from first_wanted(job, live_after, until)
            return None if superseded else (yield from newest_wanted(job, after, live_after, 1))
        case MisfirePolicy.ALL:
            return (yield from newest_wanted(job, after, live_after, job.document.misfire.limit))
        case _:
            assert_never(policy)


def _decide(schedule: Schedule, stretch: Stretch, *, runs_after: datetime, catch_up: bool) -> Verdicts:
    """Decide a stretch: all of it is skipped, or what is up to `runs_after` was missed, and the rest runs."""
    if stretch.skip is not None:
        yield from skip_all(schedule, stretch.after, stretch.until, stretch.skip)
        return
    missed_until = min(runs_after, stretch.until)
    yield from skip_all(schedule, stretch.after, missed_until, _MISFIRE)
    for slot in schedule.slots(max(stretch.after, missed_until), stretch.until):
        yield Verdict(slot=slot, catch_up=catch_up)


def skip_all(schedule: Schedule, after: datetime, until: datetime, why: Skip) -> Iterator[Verdict]:
    """Skip every slot in (after, until]; where there are several, in a range from the first to the last."""
    first = schedule.next_after(after) if after < until else None
    if first is not None and first <= until:
        skipped = _skipped(first, why)
        last = schedule.last_slots(first, until, 1)
        yield replace(skipped, until=last[0]) if last else skipped


def find_no_place(job: Job, after: datetime, until: datetime) -> Iterator[Verdict]:
    """Decide the slots in (after, until] of which none finds a place: each is skipped for that, or anyhow."""
    for stretch in stretches(job, after, until):
        yield from skip_all(job.schedule, stretch.after, stretch.until, stretch.skip or _OVERLAP)


def _skipped(slot: datetime, why: Skip) -> Verdict:
    return Verdict(slot=slot, skip=why.reason, note=why.note, issued_by=why.issued_by)


def joined(verdicts: Iterable[Verdict | None]) -> Verdicts:
    """Join adjacent skips with one reason: no slot lies between two verdicts that follow each other."""
    held: Verdict | None = None
    for verdict in verdicts:
        if verdict is None:
            yield None
        elif held is not None and _are_alike(held, verdict):
            held = replace(held, until=verdict.until or verdict.slot)
            yield None
        else:
            if held is not None:
                yield held
            held = verdict
    if held is not None:
        yield held


def _are_alike(one: Verdict, other: Verdict) -> bool:
    return one.skip is not None and (one.skip, one.note, one.issued_by) == (
        other.skip,
        other.note,
        other.issued_by,
    )
