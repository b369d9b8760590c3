"""Applying commands: a pure function from (command, jobs, instant) to what is written, and the reply.

The scheduler has decided every slot up to `at` by the old version of a job before it asks; a new version
counts from exactly `at`, so every slot belongs to one version (invariant I1). A command that cannot be
applied is refused with a code, a sentence and the field; nothing else changes.
"""

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from cronexec.domain.command import (
    BackfillJob,
    BlackoutJob,
    CancelRun,
    Command,
    DeleteJob,
    ErrorCode,
    KeptCommands,
    PauseJob,
    PutJob,
    ReleaseBaton,
    ResolveRun,
    ResumeJob,
    RetryRun,
    SkipSlots,
    TriggerJob,
    UnblackoutJob,
    error_reply,
    ok_reply,
)
from cronexec.domain.controls import (
    cancellations,
    cancelled_ahead,
    closes,
    control,
    exceptions_to_come,
    job_reply,
    with_pause,
)
from cronexec.domain.instants import SECOND
from cronexec.domain.job import Job, JobVersion
from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.one_shot import is_over
from cronexec.domain.plan import Due
from cronexec.domain.replacement import replaced_by
from cronexec.domain.run import Run, RunState, slot_run_id
from cronexec.domain.run_commands import cancel, resolve, retry
from cronexec.domain.situation import Effects, Situation
from cronexec.domain.triggers import backfill, trigger
from cronexec.errors import RefusedError

FIRST_VERSION = 1
_OVER = {"version": 0, "changed": False, "created": False, "paused": False, "next": None, "over": True}


def apply(command: Command, situation: Situation) -> Effects:
    """Decide what `command` does. A refusal is an effect too: its reply says why, and it is recorded."""
    try:
        return _apply(command, situation)
    except RefusedError as refused:
        return Effects(reply=error_reply(command.id, refused.code, str(refused), refused.field))


def _apply(command: Command, situation: Situation) -> Effects:  # noqa: C901, PLR0911  one for each type
    match command:
        case PutJob():
            return _put(command, situation)
        case DeleteJob():
            return _delete(command, situation)
        case PauseJob() | ResumeJob() | SkipSlots() | BlackoutJob() | UnblackoutJob():
            return control(command, situation)
        case TriggerJob():
            return trigger(command, situation)
        case BackfillJob():
            return backfill(command, situation)
        case CancelRun():
            return cancel(command, situation)
        case RetryRun():
            return retry(command, situation)
        case ResolveRun():
            return resolve(command, situation)
        case KeptCommands():
            return _kept(command, situation)
        case ReleaseBaton():
            return Effects(reply=ok_reply(command.id, {"epoch": situation.epoch}), release=True)
        case _:
            assert_never(command)


def _kept(command: KeptCommands, situation: Situation) -> Effects:
    """Tell what waits for a newer holder, or have one of it moved to the rejected queue."""
    known = [{"id": kept, "schema": schema} for kept, schema in situation.kept.items()]
    if command.discard is not None and command.discard not in situation.kept:
        why = f"no command with the id {command.discard} is kept for a newer holder"
        raise RefusedError(ErrorCode.NOT_FOUND, why, "discard")
    left = [each for each in known if each["id"] != command.discard]
    return Effects(reply=ok_reply(command.id, {"kept": left}), discards=command.discard)


def _put(command: PutJob, situation: Situation) -> Effects:
    document = command.job
    known = situation.jobs.get(document.name)
    old = known if known is not None and known.deleted_at is None else None
    _check_version(command.if_version, old, document.name)
    if old is not None and old.document.to_json() == document.to_json():
        return _put_again(command, old, situation)
    if old is None and is_over(document, situation.at):
        return Effects(reply=ok_reply(command.id, _OVER | {"name": document.name}))
    lasting = old.paused_at(situation.at) if old is not None else None
    job = Job(
        document=document,
        version=known.version + 1 if known else FIRST_VERSION,
        revision=situation.revision + 1,
        from_at=_from_at(document.schedule.instant, document.name, situation),
        updated_at=situation.at,
        issued_by=command.issued_by,
        declared=command.declared,
        **(exceptions_to_come(old, situation.at) if old is not None else {}),
    )
    opened = _version(job)
    closed = (_version(old, to_at=situation.at),) if old else ()
    if lasting is not None:  # pausing is state, not definition
        job, entries = with_pause(job, lasting, situation, after=job.from_at)
    else:
        entries = _decided_now(job, situation)
    replaced = replaced_by(entries, document, situation)
    if replaced.ahead:
        return Effects(reply={}, ahead=replaced.ahead)
    return Effects(
        reply=job_reply(command, job, situation, changed=True, told={"created": old is None}),
        job=job,
        versions=(*closed, opened),
        entries=entries,
        settles=replaced.settles,
        cancels=replaced.cancels,
        closes=closes(old, situation.at) if old else (),
    )


def _put_again(command: PutJob, old: Job, situation: Situation) -> Effects:
    """Leave the job as it is: an equal document is no new version, only known to be declared in code now."""
    reply = job_reply(command, old, situation, changed=False, told={"created": False})
    if old.declared or not command.declared:
        return Effects(reply=reply)
    return Effects(reply=reply, job=replace(old, declared=True, revision=situation.revision + 1))


def _from_at(instant: datetime | None, name: str, situation: Situation) -> datetime:
    """Return from when a new version counts.

    A single instant that is past already is decided now, unless it has its entry.
    """
    if instant is None or instant > situation.at or situation.entry(name, slot_run_id(name, instant)):
        return situation.at
    return instant - SECOND


def _decided_now(job: Job, situation: Situation) -> tuple[Run, ...]:
    """Decide what is due by the new version at once: the watermark is about to pass it."""
    if job.from_at >= situation.at:
        return ()
    due = Due(job=job, first=job.from_at + SECOND, after=job.from_at)
    claiming = Claiming(epoch=situation.epoch, until=situation.at, judged_at=situation.at)
    return tuple(entry for entry in claim(due, claiming, _with_claimed(job, situation)) if entry is not None)


def _with_claimed(job: Job, situation: Situation) -> Occupancy:
    """Return the job's line with what the same write claims already."""
    occupancy = Occupancy()
    for run in situation.unsettled(job.name):
        if run.state is RunState.QUEUED:
            occupancy.enter(run, job.document.overlap)
        else:
            occupancy.occupy(run)
    return occupancy


def _delete(command: DeleteJob, situation: Situation) -> Effects:
    old = situation.existing(command.name)
    _check_version(command.if_version, old, command.name)
    if ahead := cancelled_ahead(old.name, "job_deleted", situation):
        return Effects(reply={}, ahead=ahead)
    job = replace(
        old,
        revision=situation.revision + 1,
        paused=None,
        skip_next=(),
        blackouts=(),
        deleted_at=situation.at,
        updated_at=situation.at,
        issued_by=command.issued_by,
    )
    return Effects(
        reply=ok_reply(command.id, {"name": job.name, "version": job.version, "deleted": True}),
        job=job,
        versions=(_version(old, to_at=situation.at),),
        settles=cancellations(old.name, "job_deleted", situation),
        closes=closes(old, situation.at),
    )


def _check_version(expected: int | None, job: Job | None, name: str) -> None:
    """Compare-and-set: `if_version` must be the job's version; 0 means that there is no such job."""
    current = job.version if job else 0
    if expected is None or expected == current:
        return
    found = f"the job {name} is at version {current}" if job else f"there is no job {name}"
    wanted = f"it should be at version {expected}" if expected else "it should not exist"
    raise RefusedError(ErrorCode.VERSION_CONFLICT, f"{found}; {wanted}", "if_version")


def _version(job: Job, to_at: datetime | None = None) -> JobVersion:
    return JobVersion(
        name=job.name,
        version=job.version,
        document=job.document,
        from_at=job.from_at,
        to_at=to_at,
        issued_by=job.issued_by,
    )
