"""More mutations: safeguards of the runtime that are less famous, and are needed as much."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from mutation import Mutation
from simulated_clock import SimulatedClock

from cronexec.adapters.memory_runs import MemoryRunStore
from cronexec.domain import apply as applying
from cronexec.domain import controls
from cronexec.domain.controls import closes
from cronexec.domain.exclusion import Exclusions
from cronexec.domain.job import Job
from cronexec.domain.ledger import CloseRange
from cronexec.domain.run import Run
from cronexec.ports import BatonArrived, CommandArrived, JobStore, Start
from cronexec.runtime import holder, scheduler
from cronexec.runtime import instance as instances
from cronexec.runtime.baton import BatonKeeper
from cronexec.runtime.candidate import Candidate
from cronexec.runtime.delayed import Delayed
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.heartbeats import Heartbeats
from cronexec.runtime.inbox import Inbox
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.ready import Ready

LONG = 1e6


class EndlessLease(TermGuard):
    """Believes in the term until somebody says that it is over."""

    def holds(self) -> bool:
        return self.reason is None

    def remaining(self) -> float:
        return LONG


class BeginsUnchecked(Dispatcher):
    """Does not look again at the term, between the start's commit and the target."""

    async def _begin(self, group: deque[Any], token: str, guard: TermGuard) -> None:
        trusting = TermGuard(lease=guard._lease.length, monotonic=lambda: 0.0, renewed_at=0.0)
        await super()._begin(group, token, trusting)


def from_the_watermark_on(job: Job, after: datetime) -> datetime | None:
    """Let slots be planned that the range of a pause covers."""
    paused = job.paused is not None and job.paused.until_at is None
    return None if paused or job.deleted_at is not None else max(after, job.from_at)


def only_open_ones(job: Job, at: datetime) -> tuple[CloseRange, ...]:
    """Leave ranges alone that have an end."""
    return tuple(close for close in closes(job, at) if close.foreseen is None)


class AcksOnArrival(Inbox):
    """Acks a command when it comes."""

    def arrive(self, arrived: CommandArrived) -> None:
        self._link.ack_commands([arrived.tag])
        super().arrive(arrived)


class AcksEveryBaton(BatonKeeper):
    """Acks the baton that it keeps, too."""

    def arrived(self, baton: BatonArrived) -> None:
        super().arrived(baton)
        self._link.ack_baton(baton.tag)


class NeverInserts(Candidate):
    """Waits for a baton, however silent the schedule is."""

    async def _insert_baton(self, why: str) -> None:
        """Leave it to others."""


class CountsOutages(Heartbeats):
    """Takes heartbeats that could not be read for missing."""

    def interrupted(self) -> None:
        """Nothing to be seen."""


class NeverDelays(Delayed):
    """Lets runs start whatever their instant is."""

    def keep(self, item: Ready, now: datetime) -> bool:  # noqa: ARG002  that is the mutation
        return False


def only_the_first_entry(self: Exclusions, instant: int) -> tuple[str | None, int]:
    """Look at one entry of `exclude`, where a stretch is decided."""
    return _find_until(replace(self, entries=self.entries[:1]), instant)


class TrustsItsTable(JobTable):
    """Takes over with the jobs that it happens to know."""

    async def refresh(self, store: JobStore, watermark: datetime, *, taking_over: bool = True) -> int:
        if taking_over and self.jobs:
            await asyncio.sleep(0)
            await self.follow(watermark)
            return 0
        return await super().refresh(store, watermark, taking_over=taking_over)


_find_until = Exclusions.find_until
_start, _give_back = MemoryRunStore._start, MemoryRunStore.give_back


def start_of_any_epoch(self: MemoryRunStore, run: Run, start: Start) -> bool:
    found = self._runs.get(run.id)
    return _start(self, replace(run, epoch=found.epoch) if found else run, start)


async def give_back_the_token(self: MemoryRunStore, run_ids: Sequence[str], token: str) -> None:
    await _give_back(self, run_ids, token)
    self._returned.clear()


async def nothing_beyond(self: MemoryRunStore, _: datetime) -> list[Any]:
    await self._database.reach()
    return []


MORE = (
    Mutation(
        name="endless_lease",
        what="a term lasts until somebody ends it",
        patches=((holder, "TermGuard", EndlessLease),),
    ),
    Mutation(
        name="begins_unchecked",
        what="a start that is committed is not looked at again",
        patches=((instances, "Dispatcher", BeginsUnchecked),),
    ),
    Mutation(
        name="starts_any_epoch",
        what="a start does not name its epoch",
        patches=((MemoryRunStore, "_start", start_of_any_epoch),),
        is_rare=True,
    ),
    Mutation(
        name="token_not_burned",
        what="a start may arrive after its runs were given back",
        patches=((MemoryRunStore, "give_back", give_back_the_token),),
        is_rare=True,
    ),
    Mutation(
        name="beyond_ignored",
        what="a takeover begins at the watermark, whatever was written beyond it",
        patches=((MemoryRunStore, "beyond", nothing_beyond),),
    ),
    Mutation(
        name="acked_on_arrival",
        what="commands are acked before they are applied",
        patches=((holder, "Inbox", AcksOnArrival),),
    ),
    Mutation(
        name="baton_acked",
        what="the baton in hand is acked",
        patches=((holder, "BatonKeeper", AcksEveryBaton),),
    ),
    Mutation(
        name="pause_end_ignored",
        what="the slots of a pause with an end are planned as if there were none",
        patches=((Job, "planned_from", from_the_watermark_on),),
    ),
    Mutation(
        name="range_kept",
        what="what a pause has written ahead stays when it ends before its time",
        patches=((controls, "closes", only_open_ones), (applying, "closes", only_open_ones)),
    ),
    Mutation(
        name="delays_ignored",
        what="runs start before the instant that jitter or a retry gives them",
        patches=((scheduler, "Delayed", NeverDelays),),
    ),
    Mutation(
        name="exclusions_missed",
        what="where a stretch is decided, only the first entry of exclude is looked at",
        patches=((Exclusions, "find_until", only_the_first_entry),),
    ),
    Mutation(
        name="never_inserts",
        what="nobody inserts a baton when all is silent",
        patches=((instances, "Candidate", NeverInserts),),
    ),
    Mutation(
        name="outages_count",
        what="an outage of the database counts as silence of the instances",
        patches=((instances, "Heartbeats", CountsOutages),),
        is_rare=True,
    ),
    Mutation(
        name="table_trusted",
        what="a takeover does not read what changed",
        patches=((instances, "JobTable", TrustsItsTable),),
    ),
    Mutation(
        name="wall_clock",
        what="time is the machine's",
        patches=((SimulatedClock, "now", SimulatedClock.wall),),
    ),
)
