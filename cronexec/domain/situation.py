"""What commands are applied to, and what comes of one.

The write that carries a command carries other entries already: slots that came due with it, and what earlier
commands did. They are neither in the ledger nor in the occupancy yet; the situation has them as `claimed`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from cronexec.domain.backfill import past_slots
from cronexec.domain.command import (
    BackfillJob,
    CancelRun,
    Command,
    ErrorCode,
    PutJob,
    ResolveRun,
    RetryRun,
    TriggerJob,
)
from cronexec.domain.job import Job, JobVersion
from cronexec.domain.ledger import CloseRange, Requeue, Settle
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.run import Run, RunState, slot_run_id, trigger_run_id
from cronexec.errors import RefusedError


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What commands are applied to.

    `runs`: the entries that the commands name (`named_runs`), as the ledger has them. `claimed`: the entries
    of the same write, by job. `revision`: the last one given to any job. `kept`: the schemas of the commands
    that wait for a newer holder and are in this one's hands, by their ids. `asked`: the ids of the runs that
    earlier writes were to end for the next command (`domain.ending`).
    """

    at: datetime
    epoch: int
    revision: int
    jobs: Mapping[str, Job]
    occupancy: Occupancy
    runs: Mapping[str, Run]
    claimed: Mapping[str, Sequence[Run]] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)
    asked: Collection[str] = ()

    def entry(self, job: str, run_id: str) -> Run | None:
        """Return the job's entry with this id, written or about to be."""
        about_to_be = (entry for entry in self.claimed.get(job, ()) if entry.id == run_id)
        return self.runs.get(run_id) or next(about_to_be, None)

    def existing(self, name: str) -> Job:
        """Return the job; raises RefusedError where there is none."""
        job = self.jobs.get(name)
        if job is None or job.deleted_at is not None:
            raise RefusedError(ErrorCode.NOT_FOUND, f"there is no job {name}", "name")
        return job

    def unsettled(self, job: str) -> tuple[Run, ...]:
        return tuple(self.each_unsettled(job))

    def each_unsettled(self, job: str) -> Iterator[Run]:
        queued = (entry for entry in self.claimed.get(job, ()) if entry.state is RunState.QUEUED)
        return chain(self.occupancy.each(job), queued)


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What one command does. `reply` is sent once all of it is committed. `discards`: a kept command's id.

    With `ahead` it does nothing yet: so many runs are to end before it is applied.
    """

    reply: dict[str, Any]
    ahead: tuple[Settle, ...] = ()
    job: Job | None = None
    versions: tuple[JobVersion, ...] = ()
    entries: tuple[Run, ...] = ()
    settles: tuple[Settle, ...] = ()
    requeues: tuple[Requeue, ...] = ()
    closes: tuple[CloseRange, ...] = ()
    cancels: Mapping[str, str] = field(default_factory=dict)
    release: bool = False
    discards: str | None = None


def named_runs(command: Command) -> tuple[str, ...]:
    """Return the ids of ledger entries that must be looked up before `command` can be applied."""
    match command:
        case CancelRun(run=run) | RetryRun(run=run) | ResolveRun(run=run):
            return (run,)
        case TriggerJob(name=name, key=key, id=command_id):
            return (trigger_run_id(name, key or command_id),)
        case PutJob(job=document) if (slot := document.schedule.instant) is not None:
            return (slot_run_id(document.name, slot),)
    return ()


def named_slots(command: Command, jobs: Mapping[str, Job]) -> tuple[str, Sequence[datetime]] | None:
    """Return the job and the slots whose runs must be looked up before `command` can be applied, if any."""
    if not isinstance(command, BackfillJob) or command.name not in jobs:
        return None
    schedule = jobs[command.name].schedule
    return command.name, past_slots(schedule, command.since, command.until, command.limit).slots
