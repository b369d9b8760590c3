"""Policies: what happens to a slot that comes due. Pure decisions over (job, cursor, until).

Two questions are asked of every due slot, in this order:

1. *Misfire*: is it later than its grace, and if so, does the job still want it? All slots of one decision are
   judged against the same instant, the end of the whole range, so that a catch-up that is committed in
   several writes decides as one.
2. *Overlap*: may it run while earlier runs of the job are unsettled? `domain.places` answers, slot by slot.

What is not wanted becomes a skip with its reason, adjacent ones a single range: never silence (I1, I7).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from cronexec.domain.job import Job, MisfirePolicy
from cronexec.domain.run import SkipReason
from cronexec.domain.schedule import Schedule

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is decided about `slot`, or about all slots from `slot` to `until`, both included.

    Without `skip` it is wanted. `catch_up`: it was missed, and the misfire policy wants it all the same.
    """

    slot: datetime
    until: datetime | None = None
    skip: SkipReason | None = None
    catch_up: bool = False


def judge(
    job: Job, *, first: datetime, after: datetime, until: datetime, judged_at: datetime
) -> Iterator[Verdict]:
    """Decide every slot of `job` in (after, until], ascending; `first` is the first of them.

    A slot is missed when `judged_at` is later than it by more than the job's grace.
    """
    grace = job.document.misfire.grace
    if until - first < SECOND and judged_at - first <= grace:
        # Slots are whole seconds: this is the only one. The usual tick ends here, and asks no schedule.
        yield Verdict(slot=first)
        return
    live_after = _last_missed_second(judged_at - grace, until)
    live = job.schedule.slots(max(after, live_after), until)
    first_live = next(live, None)
    if first <= live_after:
        yield from _missed(job, first, after, live_after, superseded=first_live is not None)
    if first_live is not None:
        yield Verdict(slot=first_live)
        for slot in live:
            yield Verdict(slot=slot)


def _last_missed_second(oldest_in_grace: datetime, until: datetime) -> datetime:
    """Return the last whole second that is later than its grace (and not after `until`)."""
    whole = oldest_in_grace.replace(microsecond=0)
    return min(until, whole if whole < oldest_in_grace else whole - SECOND)


def _missed(
    job: Job, first: datetime, after: datetime, until: datetime, *, superseded: bool
) -> Iterator[Verdict]:
    """Decide the missed slots in (after, until].

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


def skip(schedule: Schedule, first: datetime, last: datetime, reason: SkipReason) -> Verdict:
    """Return the verdict that skips every slot from `first` (a slot) to `last` (any second).

    It is a range only where there are several.
    """
    following = schedule.next_after(first)
    several = following is not None and following <= last
    return Verdict(slot=first, until=last if several else None, skip=reason)
