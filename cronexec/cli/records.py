"""What `--json` prints for jobs, runs and instances: documents with stable keys.

A key is always there; what is not known is null.
"""

from datetime import datetime
from typing import Any

from cronexec.domain.job import HandlerTarget, Job, PublishTarget, ShellTarget, WebhookTarget
from cronexec.domain.job_state import Blackout, SkippedOnce
from cronexec.domain.run import AttemptRecord, Output, Run, RunState
from cronexec.domain.wanted import next_run
from cronexec.ports import InstanceRecord, RejectedCommand
from cronexec.replay import identity


def job_record(job: Job, now: datetime) -> dict[str, Any]:
    """Return a job; `next` is its next slot after `now` that will run, null while it is paused for good."""
    paused = job.paused_at(now)
    return {
        "name": job.name,
        "version": job.version,
        "paused": paused is not None,
        "paused_since": paused.since_at if paused else None,
        "paused_by": paused.issued_by if paused else None,
        "paused_until": paused.until_at if paused else None,
        "pause_reason": paused.reason if paused else None,
        "pause_owner": paused.owner if paused else None,
        "skip_next": [skipped_once_record(once) for once in job.skip_next if once.slot > now],
        "blackouts": [blackout_record(window) for window in job.blackouts if window.end_at > now],
        "declared": job.declared,
        "next": next_slot(job, now),
        "updated_at": job.updated_at,
        "updated_by": job.issued_by,
        "document": job.document.to_document(),
    }


def next_slot(job: Job, now: datetime) -> datetime | None:
    """Return the job's next slot after `now` that will run, None where it is paused or has no more."""
    return next_run(job, now)


def skipped_once_record(once: SkippedOnce) -> dict[str, Any]:
    return {"slot": once.slot, "reason": once.reason, "issued_by": once.issued_by}


def blackout_record(window: Blackout) -> dict[str, Any]:
    return {
        "start": window.start_at,
        "end": window.end_at,
        "reason": window.reason,
        "issued_by": window.issued_by,
    }


def run_record(run: Run) -> dict[str, Any]:
    """Return a run without what it printed."""
    outcome, progress = run.outcome, run.progress
    return {
        "run": run.id,
        "job": run.job,
        "version": run.version,
        "slot": run.slot,
        "until": run.until,
        "open_ended": run.open_ended,
        "state": run.state.value,
        "reason": reason_of(run),
        "note": run.note,
        "error": outcome.error if outcome else None,
        "exit_code": outcome.exit_code if outcome else None,
        "status": outcome.status if outcome else None,
        "cause": run.cause.value,
        "catch_up": run.catch_up,
        "attempt": run.attempt,
        "attempts": [attempt_record(former) for former in run.attempts],
        "not_before": run.not_before if run.state is RunState.QUEUED else None,
        "undecided": run.undecided,
        "epoch": run.epoch,
        "instance": run.executor.name if run.executor else None,
        "datacenter": run.executor.datacenter if run.executor else None,
        "claimed_at": run.claimed_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "overrun_at": run.overrun_at,
        "lateness_s": run.lateness_s,
        "duration_s": run.duration_s,
        "progress": progress
        and {"done": progress.done, "total": progress.total, "message": progress.message, "at": progress.at},
        "params": run.params,
        "issued_by": run.issued_by,
        "cancel_requested_by": run.cancel_requested_by,
    }


def attempt_record(former: AttemptRecord) -> dict[str, Any]:
    """Return a former attempt of a run that was tried again."""
    outcome = former.outcome
    return {
        "attempt": former.attempt,
        "state": outcome.state.value,
        "reason": outcome.reason,
        "error": outcome.error,
        "exit_code": outcome.exit_code,
        "status": outcome.status,
        "instance": former.executor.name if former.executor else None,
        "started_at": former.started_at,
        "finished_at": former.finished_at,
    }


def reason_of(run: Run) -> str | None:
    """Return why a run is in its state."""
    return (run.outcome.reason if run.outcome else None) or run.reason


def output_record(run: Run) -> dict[str, Any]:
    output = (run.outcome.output if run.outcome else None) or Output()
    return {"run": run.id, "head": output.head, "tail": output.tail, "dropped": output.dropped}


def instance_record(instance: InstanceRecord) -> dict[str, Any]:
    return {
        "instance": instance.executor.name,
        "id": instance.executor.id,
        "datacenter": instance.executor.datacenter,
        "state": instance.state,
        "running": instance.running,
        "started_at": instance.started_at,
        "beat_at": instance.beat_at,
        "allow_shell": instance.allow_shell,
        "handlers": list(instance.handlers),
        "versions": dict(instance.versions),
        "clock_offset_ms": instance.clock_offset_ms,
        "events": {each.event: {"count": each.count, "last_at": each.last_at} for each in instance.events},
    }


def rejected_record(rejected: RejectedCommand) -> dict[str, Any]:
    return {
        "id": identity(rejected),
        "reason": rejected.reason,
        "field": rejected.field,
        "rejected_at": rejected.rejected_at,
        "message_id": rejected.message_id,
        "body": rejected.body.decode(errors="replace"),
    }


def target_line(target: Any) -> str:
    """Return a target in a few words, for a table."""
    match target:
        case WebhookTarget(method=method, url=url):
            return f"{method} {url}"
        case ShellTarget(command=command):
            return f"sh: {' '.join(command.split())}"
        case HandlerTarget(name=name):
            return f"handler {name}"
        case PublishTarget(exchange=exchange, routing_key=key):
            return f"publish {exchange or '(default)'} {key}".rstrip()
    return str(getattr(target, "type", target))
