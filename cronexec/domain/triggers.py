"""Triggers and backfills: the commands that make runs besides the schedule.

A trigger runs a job now, a backfill runs it for past slots. Neither accounts for a slot of the schedule (I1).
Identity is derived: a trigger's run is `JOB#KEY`, with the command's id where no key is given, a backfill's
`JOB#backfill:SLOT`, and with the command's id after it where that slot is run once more. A key stands for one
run with its params: a trigger that comes with it again and asks for other params is refused.

Backfills are released as a catch-up: behind live slots, at the pace of `catch_up_rate`, one after the other
where the overlap policy lets only one run. One command makes no more than travels in one write.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cronexec.domain.backfill import past_slots, ran
from cronexec.domain.command import BackfillJob, ErrorCode, TriggerJob, ok_reply
from cronexec.domain.job import Job, OverlapPolicy
from cronexec.domain.json_values import contains, means_the_same
from cronexec.domain.replacement import replaced_by
from cronexec.domain.run import BACKFILL, Cause, Run, RunState, backfill_run_id, slot_text, trigger_run_id
from cronexec.domain.situation import Effects, Situation
from cronexec.errors import FieldProblem, RefusedError

MOST_NAMED = 10  # slots, in a sentence


def trigger(command: TriggerJob, situation: Situation) -> Effects:
    """Run the job now; once for each key. Raises RefusedError."""
    job = situation.existing(command.name)
    if (command.key or "").startswith(BACKFILL):
        raise RefusedError(
            ErrorCode.INVALID, f"keys that begin with {BACKFILL} are those of backfills", "key"
        )
    run_id = trigger_run_id(job.name, command.key or command.id)
    if (there := situation.entry(job.name, run_id)) is not None:
        return _triggered_before(command, job, there)
    if job.document.overlap.policy is OverlapPolicy.SKIP and situation.unsettled(job.name):
        raise RefusedError(
            ErrorCode.CONFLICT, f"the job {job.name} is running, and its overlap policy is skip", "name"
        )
    run = Run(
        id=run_id,
        job=job.name,
        version=job.version,
        slot=situation.at.replace(microsecond=0),
        state=RunState.QUEUED,
        epoch=situation.epoch,
        cause=Cause.TRIGGER,
        claimed_at=situation.at,
        params=merged_params(job, command.params),
        issued_by=command.issued_by,
    )
    replaced = replaced_by((run,), job.document, situation)
    if replaced.ahead:
        return Effects(reply={}, ahead=replaced.ahead)
    return Effects(
        reply=ok_reply(command.id, {"run": run_id, "state": run.state.value, "created": True}),
        entries=(run,),
        settles=replaced.settles,
        cancels=replaced.cancels,
    )


def _triggered_before(command: TriggerJob, job: Job, there: Run) -> Effects:
    if _asks_for_others(command, job, there):
        why = f"the key {command.key or command.id} is that of the run {there.id}, which has other params"
        raise RefusedError(ErrorCode.CONFLICT, f"{why}; repeat those, or give another key", "key")
    return Effects(
        reply=ok_reply(command.id, {"run": there.id, "state": there.state.value, "created": False})
    )


def _asks_for_others(command: TriggerJob, job: Job, there: Run) -> bool:
    """Whether a trigger with a known key wants other params than its run has; one without leaves them open.

    Of a run of another version only what the trigger says is compared: the rest came from the document then.
    """
    if command.params is None:
        return False
    if there.version != job.version:
        return not contains(there.params or {}, command.params)
    has = job.document.params if there.params is None else there.params
    return not means_the_same(has, merged_params(job, command.params))


def backfill(command: BackfillJob, situation: Situation) -> Effects:
    """Run the job for the past slots of a range; the reply says with which slot the rest begins."""
    job = situation.existing(command.name)
    _check_range(command, situation.at)
    params = merged_params(job, command.params)
    found = past_slots(job.schedule, command.since, command.until, command.limit)
    known = [*situation.runs.values(), *situation.claimed.get(job.name, ())]
    ran_before = ran(run for run in known if run.job == job.name)
    again = [slot for slot in found.slots if slot in ran_before]
    if again and command.ran == "refuse":
        raise ran_already(again, len(found.slots))
    taken = {run.id for run in known}
    entries = tuple(
        _backfilled(command, job, slot, situation, params=params, taken=taken)
        for slot in found.slots
        if command.ran == "again" or slot not in ran_before
    )
    result = {
        "name": job.name,
        "queued": len(entries),
        "ran_before": len(again),
        "excluded": found.excluded,
        "next": slot_text(found.next) if found.next else None,
    }
    return Effects(reply=ok_reply(command.id, result), entries=entries)


def merged_params(job: Job, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the params of a run that brings some itself; None where it has those of its job.

    Raises RefusedError where they are not of the types that the job gives them.
    """
    if given is None:
        return None
    merged = {**job.document.params, **given}
    if job.document.params_schema is None:
        return merged
    completed, found = job.document.params_schema.check(merged)
    if found:
        wrong = [
            FieldProblem(f"params.{each.field}" if each.field else "params", each.message) for each in found
        ]
        raise RefusedError(ErrorCode.INVALID, "; ".join(map(str, wrong)), wrong[0].field)
    return completed


def _check_range(command: BackfillJob, at: datetime) -> None:
    if command.since > command.until:
        raise RefusedError(
            ErrorCode.INVALID, f"{slot_text(command.since)} is after {slot_text(command.until)}", "since"
        )
    if command.until > at:
        why = f"{slot_text(command.until)} is to come: slots from now on are run by the schedule"
        raise RefusedError(ErrorCode.INVALID, why, "until")


def ran_already(slots: Sequence[datetime], of: int) -> RefusedError:
    """Return the refusal of a backfill with slots that ran before."""
    named = ", ".join(slot_text(slot) for slot in slots[:MOST_NAMED])
    more = f" and {len(slots) - MOST_NAMED} more" if len(slots) > MOST_NAMED else ""
    why = f"{len(slots)} of {of} slots ran already: {named}{more}; say whether to skip or repeat them"
    return RefusedError(ErrorCode.CONFLICT, why, "ran")


def _backfilled(
    command: BackfillJob,
    job: Job,
    slot: datetime,
    situation: Situation,
    *,
    params: Mapping[str, Any] | None,
    taken: set[str],
) -> Run:
    run_id = backfill_run_id(job.name, slot)
    return Run(
        id=f"{run_id}:{command.id}" if run_id in taken else run_id,
        job=job.name,
        version=job.version,
        slot=slot,
        state=RunState.QUEUED,
        epoch=situation.epoch,
        cause=Cause.BACKFILL,
        catch_up=True,
        claimed_at=situation.at,
        params=params,
        issued_by=command.issued_by,
    )
