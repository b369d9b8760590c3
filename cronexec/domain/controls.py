"""Controls: the commands that let a job's slots run or not, without a change of its definition.

Every slot up to the situation's instant is decided, by the state that the job had; what a control says counts
from then on (I1).

A pause accounts for its slots with one range entry: open where nobody said how long it lasts, and else
written up to its end from the start. Whatever changes the job meanwhile ends that range at its instant, and
begins another where the pause goes on. A pause whose end has come is over without a write.

Asking twice is asking once: a pause that lasts stays as it is, and the next slots to be skipped are those
that are the next now, whatever was asked for before.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, assert_never

from cronexec.domain.command import ErrorCode, ok_reply
from cronexec.domain.command_model import CommandModel
from cronexec.domain.commands_job import BlackoutJob, PauseJob, ResumeJob, SkipSlots, UnblackoutJob
from cronexec.domain.ending import ends_ahead
from cronexec.domain.instants import SECOND, whole_milliseconds
from cronexec.domain.job import Job
from cronexec.domain.job_state import MOST_BLACKOUTS, Blackout, Pause, SkippedOnce
from cronexec.domain.ledger import CloseRange, Settle, pause_entry, settle_cancelled
from cronexec.domain.model import write_instant
from cronexec.domain.replacement import cancel_reason
from cronexec.domain.run import Cause, Run, RunState, slot_text
from cronexec.domain.situation import Effects, Situation
from cronexec.domain.wanted import next_run, next_runs
from cronexec.errors import RefusedError

Control = PauseJob | ResumeJob | SkipSlots | BlackoutJob | UnblackoutJob


def control(command: Control, situation: Situation) -> Effects:
    """Decide what `command` does. Raises RefusedError."""
    match command:
        case PauseJob():
            return _pause(command, situation)
        case ResumeJob():
            return _resume(command, situation)
        case SkipSlots():
            return _skip_next(command, situation)
        case BlackoutJob():
            return _black_out(command, situation)
        case UnblackoutJob():
            return _lift(command, situation)
        case _:
            assert_never(command)


def _pause(command: PauseJob, situation: Situation) -> Effects:
    """Pause the job, or change how long and why it is paused; queued runs are cancelled."""
    old = situation.existing(command.name)
    lasting = old.paused_at(situation.at)
    asked = _asked(command, lasting, situation.at)
    if not asked.lasts_beyond(situation.at):
        raise RefusedError(
            ErrorCode.INVALID, f"{write_instant(asked.until_at or situation.at)} is past", "until"
        )
    if asked == lasting:
        return Effects(reply=job_reply(command, old, situation, changed=False))
    if ahead := cancelled_ahead(old.name, "job_paused", situation):
        return Effects(reply={}, ahead=ahead)
    job = replace(old, revision=situation.revision + 1, updated_at=situation.at)
    asked = replace(asked, issued_by=command.issued_by)
    job, entries = with_pause(job, asked, situation, after=situation.at)
    return Effects(
        reply=job_reply(command, job, situation, changed=True),
        job=job,
        entries=entries,
        settles=cancellations(job.name, "job_paused", situation),
        closes=closes(old, situation.at),
    )


def _asked(command: PauseJob, lasting: Pause | None, at: datetime) -> Pause:
    """Return the pause that the command asks for; what it does not say of one that lasts stays."""
    if lasting is None:
        lasting = Pause(since_at=at, issued_by=command.issued_by, range_id="")
    return replace(
        lasting,
        until_at=command.until and whole_milliseconds(command.until),
        reason=command.reason or lasting.reason,
        owner=command.owner or lasting.owner,
    )


def with_pause(
    job: Job, pause: Pause, situation: Situation, *, after: datetime
) -> tuple[Job, tuple[Run, ...]]:
    """Return the job paused, and the range that covers its slots after `after`."""
    first = job.schedule.next_after(after)
    if first is None or (pause.until_at is not None and first > pause.until_at):
        return replace(job, paused=replace(pause, range_id="")), ()
    entry = pause_entry(
        job, first, epoch=situation.epoch, at=situation.at, why=pause.skip(), until=pause.until_at
    )
    return replace(job, paused=replace(pause, range_id=entry.id)), (entry,)


def closes(job: Job, at: datetime) -> tuple[CloseRange, ...]:
    """Return what ends, at `at`, the range of a pause that would go on."""
    lasting = job.paused_at(at)
    if lasting is None or not lasting.range_id:
        return ()
    return (CloseRange(run_id=lasting.range_id, until=at, foreseen=lasting.until_at),)


def _resume(command: ResumeJob, situation: Situation) -> Effects:
    """End a pause at once."""
    old = situation.existing(command.name)
    if old.paused_at(situation.at) is None:
        return Effects(reply=job_reply(command, old, situation, changed=False))
    job = replace(old, revision=situation.revision + 1, updated_at=situation.at, paused=None)
    return Effects(
        reply=job_reply(command, job, situation, changed=True),
        job=job,
        closes=closes(old, situation.at),
    )


def _skip_next(command: SkipSlots, situation: Situation) -> Effects:
    """Have the next slots skipped that nothing else skips; they take the place of those asked for before."""
    old = situation.existing(command.name)
    known = {once.slot: once for once in old.skip_next}
    said = SkippedOnce(slot=situation.at, issued_by=command.issued_by, reason=command.reason)
    slots = _next_slots(old, situation.at, command.count)
    asked = tuple(known.get(slot, replace(said, slot=slot)) for slot in slots)
    return _changed(
        command,
        replace(old, skip_next=asked),
        situation,
        changed=asked != exceptions_to_come(old, situation.at)["skip_next"],
        told={"skipped": [slot_text(once.slot) for once in asked]},
    )


def _next_slots(job: Job, after: datetime, count: int) -> Iterator[datetime]:
    """Return the next slots that run once nobody pauses the job for good any more."""
    lasting = job.paused_at(after)
    job = replace(job, skip_next=(), paused=lasting if lasting and lasting.until_at else None)
    return islice(next_runs(job, after), count)


def _black_out(command: BlackoutJob, situation: Situation) -> Effects:
    """Add a window whose slots are skipped."""
    old = situation.existing(command.name)
    window = Blackout(
        start_at=_whole_second_from(command.start or situation.at),
        end_at=command.end.replace(microsecond=0),
        issued_by=command.issued_by,
        reason=command.reason,
    )
    if window.end_at <= situation.at:
        raise RefusedError(ErrorCode.INVALID, f"{slot_text(window.end_at)} is past", "end")
    windows: tuple[Blackout, ...] = exceptions_to_come(old, situation.at)["blackouts"]
    if any(_is_there(window, other, from_now=command.start is None) for other in windows):
        return _changed(command, old, situation, changed=False)
    if len(windows) >= MOST_BLACKOUTS:
        raise RefusedError(
            ErrorCode.CONFLICT, f"the job {old.name} has {MOST_BLACKOUTS} windows already", "name"
        )
    windows = tuple(sorted((*windows, window), key=lambda each: each.start_at))
    return _changed(command, replace(old, blackouts=windows), situation, changed=True)


def _whole_second_from(instant: datetime) -> datetime:
    whole = instant.replace(microsecond=0)
    return whole if whole == instant else whole + SECOND


def _is_there(window: Blackout, other: Blackout, *, from_now: bool) -> bool:
    """Whether `other` is the same window; asked for once more, one from now on would begin later."""
    begins_alike = other.start_at == window.start_at or (from_now and other.start_at < window.start_at)
    return begins_alike and (window.end_at, window.reason) == (other.end_at, other.reason)


def _lift(command: UnblackoutJob, situation: Situation) -> Effects:
    """Take away the windows to come, or those with one reason."""
    old = situation.existing(command.name)
    windows: tuple[Blackout, ...] = exceptions_to_come(old, situation.at)["blackouts"]
    kept = tuple(each for each in windows if command.reason not in {None, each.reason})
    told = {"lifted": len(windows) - len(kept)}
    return _changed(
        command, replace(old, blackouts=kept), situation, changed=len(kept) < len(windows), told=told
    )


def _changed(
    command: CommandModel,
    job: Job,
    situation: Situation,
    *,
    changed: bool,
    told: Mapping[str, Any] | None = None,
) -> Effects:
    """Return what writes the job with its new state, if that is one."""
    if not changed:
        return Effects(reply=job_reply(command, job, situation, changed=False, told=told))
    fields = {"revision": situation.revision + 1, "updated_at": situation.at}
    job = replace(job, **{**exceptions_to_come(job, situation.at), **fields})
    return Effects(reply=job_reply(command, job, situation, changed=True, told=told), job=job)


def exceptions_to_come(job: Job, at: datetime) -> dict[str, Any]:
    """Return the job's windows, and its slots skipped once, without those that are past."""
    return {
        "skip_next": tuple(once for once in job.skip_next if once.slot > at),
        "blackouts": tuple(window for window in job.blackouts if window.end_at > at),
    }


def cancellations(name: str, reason: str, situation: Situation) -> tuple[Settle, ...]:
    """Cancel the job's queued runs; those that started meanwhile do not match, and go on.

    One that is known to run elsewhere keeps its place: its end, not this command, lets the next run start.
    """
    queued = (run for run in situation.unsettled(name) if run.state is RunState.QUEUED)
    return tuple(settle_cancelled(run, reason, situation.at) for run in queued)


def cancelled_ahead(name: str, reason: str, situation: Situation) -> tuple[Settle, ...]:
    """Cancel the first of the job's queued runs, where they are too many to be cancelled by one write."""
    return ends_ahead(
        situation.each_unsettled(name),
        situation.asked,
        lambda run: settle_cancelled(run, reason, situation.at),
    )


def revoke(run: Run, job: Job, at: datetime) -> Settle | None:
    """Return what cancels a queued run that a command would have cancelled had it been queued, else None.

    A run may come back unstarted long after its cancellation was asked for, or its job deleted or paused.
    What was triggered since the pause is wanted; slots are not, and what came due at the pause's own instant
    was claimed before.
    """
    if run.cancel_requested_by is not None:
        return settle_cancelled(run, cancel_reason(run.cancel_requested_by), at)
    if job.deleted_at is not None:
        return settle_cancelled(run, "job_deleted", at)
    lasting = job.paused_at(at)
    if lasting is None or run.claimed_at is None:
        return None
    is_wanted = run.cause is not Cause.SCHEDULE and run.claimed_at >= lasting.since_at
    return None if is_wanted else settle_cancelled(run, "job_paused", at)


def job_reply(
    command: CommandModel,
    job: Job,
    situation: Situation,
    *,
    changed: bool,
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a command about a job is answered: how the job is now, and `told` besides."""
    lasting = job.paused_at(situation.at)
    following = next_run(job, situation.at)
    result = {
        "name": job.name,
        "version": job.version,
        "changed": changed,
        "paused": lasting is not None,
        **(told or {}),
        "next": slot_text(following) if following else None,
    }
    if lasting is not None and lasting.until_at is not None:
        result["paused_until"] = write_instant(lasting.until_at)
    return ok_reply(command.id, result)
