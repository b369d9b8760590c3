"""What the live view shows, read from the database in bulk.

One reading takes four queries, whatever the number of jobs: the term, the instances, the runs of the last
minute, and what runs now. Jobs are read once and then only those that changed since; each job's next slot is
computed once and again when it has passed.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronexec.domain.job import Job
from cronexec.domain.run import Cause, Run, RunState
from cronexec.domain.schedule import Schedule
from cronexec.domain.term import TermRecord
from cronexec.domain.wanted import next_run
from cronexec.ports import InstanceRecord, RunFilter, Store

WINDOW = timedelta(seconds=60)
MOST_RUNS = 4000  # of the window: beyond that the totals are those of the newest ones
MOST_RUNNING = 200
MOST_LATEST = 100
MOST_UPCOMING = 50
FAILURES = frozenset({RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELLED})


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Of the slots of the last minute (`of`: as far back as was read).

    Lateness in seconds, None where nothing ran.
    """

    due: int = 0
    run: int = 0
    waiting: int = 0
    skipped: int = 0
    failed: int = 0
    abandoned: int = 0
    late_p50: float | None = None
    late_p99: float | None = None
    of: timedelta = WINDOW


@dataclass(frozen=True, kw_only=True, slots=True)
class Failover:
    """A handover: to whom, when it was seen, how long after the kill (None: we killed nobody)."""

    at: datetime
    holder: str | None
    epoch: int
    killed: str | None = None
    took: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Upcoming:
    """The next slot of a job."""

    slot: datetime
    job: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What was read at one instant.

    `latest`: runs that ended, and skips, newest first; `kinds`: target types by job.
    """

    term: TermRecord
    instances: Sequence[InstanceRecord] = ()
    running: Sequence[Run] = ()
    latest: Sequence[Run] = ()
    upcoming: Sequence[Upcoming] = ()
    totals: Totals = Totals()
    jobs: int = 0
    kinds: Mapping[str, str] | None = None


class SnapshotReader:
    """Reads snapshots; keeps the jobs between them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._timetable = Timetable()

    async def read(self) -> Snapshot:
        """Read a snapshot. Raises UnreachableError."""
        term = await self._store.terms.read()
        now = term.read_at
        recent = RunFilter(since=now - WINDOW, limit=MOST_RUNS)
        active = RunFilter(states=(RunState.RUNNING,), limit=MOST_RUNNING)
        instances, runs, running, _ = await asyncio.gather(
            self._store.instances.list(),
            self._store.runs.list(recent),
            self._store.runs.list(active),
            self._update_jobs(term.revision),
        )
        jobs = self._timetable.jobs
        return Snapshot(
            term=term,
            instances=_of_now(instances, now),
            running=sorted(running, key=lambda run: (run.progress is None, run.started_at or now, run.id)),
            latest=latest(runs, MOST_LATEST),
            upcoming=self._timetable.next_slots(now, MOST_UPCOMING),
            totals=total(runs, now, {name: job.schedule for name, job in jobs.items()}),
            jobs=len(jobs),
            kinds={name: job.document.target.type for name, job in jobs.items()},
        )

    async def _update_jobs(self, revision: int) -> None:
        if revision > self._timetable.revision:
            self._timetable.update(await self._store.jobs.changed_since(self._timetable.revision))


class Timetable:
    """The jobs, and the next slot of each."""

    def __init__(self) -> None:
        self.revision = 0
        self.jobs: dict[str, Job] = {}
        self._next: dict[str, datetime | None] = {}

    def update(self, changed: Iterable[Job]) -> None:
        for job in changed:
            self.revision = max(self.revision, job.revision)
            self._next.pop(job.name, None)
            self.jobs.pop(job.name, None)
            if job.deleted_at is None:
                self.jobs[job.name] = job

    def next_slots(self, now: datetime, most: int) -> list[Upcoming]:
        """Return the next slots after `now`, soonest first; paused jobs have none."""
        due = [
            (slot, name) for name, job in self.jobs.items() if (slot := self._next_slot(job, now)) is not None
        ]
        return [Upcoming(slot=slot, job=name) for slot, name in sorted(due)[:most]]

    def _next_slot(self, job: Job, now: datetime) -> datetime | None:
        known = self._next.get(job.name, now)
        if known is not None and known <= now:
            known = next_run(job, now)
            self._next[job.name] = known
        return known


def latest(runs: Iterable[Run], most: int) -> list[Run]:
    """Return the entries that ended last, newest first: finished runs by their end, skips by their slot."""
    ended = [run for run in runs if run.state.is_final]
    return sorted(ended, key=lambda run: (run.finished_at or run.slot, run.id), reverse=True)[:most]


def total(runs: Sequence[Run], now: datetime, schedules: Mapping[str, Schedule]) -> Totals:
    """Count the slots of `runs`, newest first; a range entry counts for each slot in it."""
    due = [run for run in runs if run.cause is Cause.SCHEDULE]
    skipped = sum(_slots_in(run, now, schedules.get(run.job)) for run in due if run.state is RunState.SKIPPED)
    lateness = sorted(run.lateness_s for run in due if run.lateness_s is not None)
    states = [run.state for run in due if run.state is not RunState.SKIPPED]
    waiting = states.count(RunState.QUEUED)
    return Totals(
        due=len(states) + skipped,
        run=len(states) - waiting,
        waiting=waiting,
        skipped=skipped,
        failed=sum(state in FAILURES for state in states),
        abandoned=states.count(RunState.ABANDONED),
        late_p50=_quantile(lateness, 0.50),
        late_p99=_quantile(lateness, 0.99),
        of=now - runs[-1].slot if len(runs) >= MOST_RUNS else WINDOW,
    )


def _slots_in(run: Run, now: datetime, schedule: Schedule | None) -> int:
    until = now if run.open_ended else run.until and min(run.until, now)
    if until is None or schedule is None:
        return 1
    return sum(1 for _ in schedule.slots(run.slot - timedelta(seconds=1), until))


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def _of_now(instances: Iterable[InstanceRecord], now: datetime) -> list[InstanceRecord]:
    """Return the newest record of each name: a killed instance leaves its record behind."""
    newest: dict[str, InstanceRecord] = {}
    for record in sorted(instances, key=lambda each: each.started_at):
        if now - record.beat_at < timedelta(minutes=5):
            newest[record.executor.name] = record
    return [newest[name] for name in sorted(newest)]
