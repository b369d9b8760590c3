"""Runs, jobs, versions, commands and instances as MongoDB documents, and back.

The names are those of the domain, so that a document explains itself in a mongo shell. What is None, False or
empty is left out. Four fields are the store's own:

- `unsettled: true`, only while a run is queued or running, or waits for a person's decision: what the index
  of unsettled runs is restricted by. A filter on `state` would tempt the planner to use that index for a
  compare-and-set by `_id`, too.
- `expire_at`, only on what is settled: when TTL may remove it. Anything unsettled, and an open range, stays
  however old it is.
- `until` of an open range is the year 9999: "reaches beyond" is then one comparison for all ranges.
- `_id` of a job's version is `NAME@VERSION`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cronexec.domain.job import Job, JobDocument, JobVersion
from cronexec.domain.job_state import Blackout, Pause, SkippedOnce
from cronexec.domain.run import (
    UNSETTLED,
    AttemptRecord,
    Cause,
    Executor,
    Outcome,
    Output,
    Progress,
    Run,
    RunState,
)
from cronexec.ports import AppliedCommand, EventCount, InstanceRecord, Reach

Document = dict[str, Any]

OPTIONAL_RUN_FIELDS = (
    "claimed_at",
    "until",
    "reason",
    "note",
    "params",
    "issued_by",
    "token",
    "started_at",
    "finished_at",
    "cancel_requested_by",
    "not_before",
    "overrun_at",
)
OPTIONAL_OUTCOME_FIELDS = ("reason", "error", "exit_code", "status")
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


def run_document(run: Run, retention: timedelta) -> Document:
    """Return the document of a new entry. A skip is settled from the start, unless its range is open.

    Ten thousand of these are made for one write, on the event loop.
    """
    fields: Document = {
        "_id": run.id,
        "job": run.job,
        "version": run.version,
        "slot": run.slot,
        "state": run.state.value,
        "epoch": run.epoch,
        "attempt": run.attempt,
        "cause": run.cause.value,
    }
    for name in OPTIONAL_RUN_FIELDS:
        value = getattr(run, name)
        if value is not None:
            fields[name] = value
    if run.state in UNSETTLED:
        fields["unsettled"] = True
    elif not run.open_ended:
        fields["expire_at"] = _over_at(run) + retention
    if run.open_ended:
        fields |= {"open": True, "until": FOREVER}
    if run.catch_up:
        fields["catch_up"] = True
    if run.undecided:
        fields["undecided"] = True
    if run.attempts:
        fields["attempts"] = [attempt_document(former) for former in run.attempts]
    if run.started_at is not None or run.outcome is not None:
        fields |= _execution_fields(run)
    return fields


def attempt_document(former: AttemptRecord) -> Document:
    fields = {
        "started_at": former.started_at,
        "finished_at": former.finished_at,
        "executor": former.executor and _executor_document(former.executor),
        "token": former.token,
    }
    outcome = outcome_document(former.outcome)
    return {"attempt": former.attempt, "outcome": outcome} | _without_empty(fields)


def attempt_from(fields: Mapping[str, Any]) -> AttemptRecord:
    return AttemptRecord(
        attempt=fields["attempt"],
        outcome=outcome_from(fields["outcome"]),
        started_at=fields.get("started_at"),
        finished_at=fields.get("finished_at"),
        executor=Executor(**fields["executor"]) if "executor" in fields else None,
        token=fields.get("token"),
    )


def _over_at(run: Run) -> datetime:
    """Return when nothing more will come of a settled entry: the range of a pause may reach far ahead."""
    settled_at = run.finished_at or run.claimed_at or run.slot
    return max(settled_at, run.until) if run.until is not None else settled_at


def _execution_fields(run: Run) -> Document:
    """Return what an entry has once it was executed; a new one has none of it."""
    fields = {
        "executor": run.executor and _executor_document(run.executor),
        "progress": run.progress and progress_document(run.progress),
        "outcome": run.outcome and outcome_document(run.outcome),
    }
    return _without_empty(fields)


@lru_cache(maxsize=16)
def _executor_document(executor: Executor) -> Document:
    return asdict(executor)


def run_from(fields: Mapping[str, Any]) -> Run:
    open_ended = fields.get("open", False)
    return Run(
        id=fields["_id"],
        job=fields["job"],
        version=fields["version"],
        slot=fields["slot"],
        state=RunState(fields["state"]),
        epoch=fields["epoch"],
        cause=Cause(fields["cause"]),
        attempt=fields["attempt"],
        reason=fields.get("reason"),
        note=fields.get("note"),
        until=None if open_ended else fields.get("until"),
        open_ended=open_ended,
        catch_up=fields.get("catch_up", False),
        claimed_at=fields.get("claimed_at"),
        params=fields.get("params"),
        issued_by=fields.get("issued_by"),
        token=fields.get("token"),
        executor=Executor(**fields["executor"]) if "executor" in fields else None,
        started_at=fields.get("started_at"),
        finished_at=fields.get("finished_at"),
        progress=progress_from(fields["progress"]) if "progress" in fields else None,
        overrun_at=fields.get("overrun_at"),
        outcome=outcome_from(fields["outcome"]) if "outcome" in fields else None,
        cancel_requested_by=fields.get("cancel_requested_by"),
        not_before=fields.get("not_before"),
        attempts=tuple(attempt_from(former) for former in fields["attempts"]) if "attempts" in fields else (),
        undecided=fields.get("undecided", False),
    )


def reach_from(fields: Mapping[str, Any]) -> Reach:
    """Read the part of a run's document that says what it covers."""
    until = None if fields.get("open") else fields.get("until")
    return Reach(job=fields["job"], slot=fields["slot"], until=until)


def progress_document(progress: Progress) -> Document:
    fields = {"total": progress.total, "message": progress.message, "at": progress.at}
    return {"done": progress.done} | _without_empty(fields)


def progress_from(fields: Mapping[str, Any]) -> Progress:
    return Progress(**fields)


def outcome_document(outcome: Outcome) -> Document:
    """Return an outcome's document.

    Written out, because `asdict` costs more than all the rest of a no-op run.
    """
    fields: Document = {"state": outcome.state.value}
    for name in OPTIONAL_OUTCOME_FIELDS:
        value = getattr(outcome, name)
        if value is not None:
            fields[name] = value
    if (output := outcome.output) is not None:
        kept = {"head": output.head, "tail": output.tail, "dropped": output.dropped}
        fields["output"] = {name: value for name, value in kept.items() if value}
    return fields


def outcome_from(fields: Mapping[str, Any]) -> Outcome:
    output = Output(**fields["output"]) if "output" in fields else None
    return Outcome(**{**fields, "state": RunState(fields["state"]), "output": output})


def job_document(
    job: Job, retention: timedelta, canonical: Callable[[JobDocument], Document] = JobDocument.to_document
) -> Document:
    fields: Document = {
        "_id": job.name,
        "document": canonical(job.document),
        "ignorable": job.document.ignorable or None,
        "version": job.version,
        "revision": job.revision,
        "from_at": job.from_at,
        "updated_at": job.updated_at,
        "issued_by": job.issued_by,
        "declared": job.declared,
        "paused": job.paused and _without_empty(asdict(job.paused)),
        "skip_next": [_without_empty(asdict(each)) for each in job.skip_next] or None,
        "blackouts": [_without_empty(asdict(each)) for each in job.blackouts] or None,
        "deleted_at": job.deleted_at,
        "expire_at": job.deleted_at and job.deleted_at + retention,
    }
    return _without_empty(fields)


def job_from(fields: Mapping[str, Any]) -> Job:
    return Job(
        document=JobDocument.parse_stored(fields["document"], fields.get("ignorable", ())),
        version=fields["version"],
        revision=fields["revision"],
        from_at=fields["from_at"],
        updated_at=fields["updated_at"],
        issued_by=fields.get("issued_by"),
        declared=fields.get("declared", False),
        paused=_pause_from(fields["paused"]) if "paused" in fields else None,
        deleted_at=fields.get("deleted_at"),
        skip_next=tuple(_skipped_once_from(each) for each in fields.get("skip_next", ())),
        blackouts=tuple(_blackout_from(each) for each in fields.get("blackouts", ())),
    )


def _pause_from(fields: Mapping[str, Any]) -> Pause:
    return Pause(
        since_at=fields["since_at"],
        issued_by=fields.get("issued_by"),
        range_id=fields.get("range_id", ""),
        reason=fields.get("reason"),
        owner=fields.get("owner"),
        until_at=fields.get("until_at"),
    )


def _skipped_once_from(fields: Mapping[str, Any]) -> SkippedOnce:
    return SkippedOnce(slot=fields["slot"], issued_by=fields.get("issued_by"), reason=fields.get("reason"))


def _blackout_from(fields: Mapping[str, Any]) -> Blackout:
    return Blackout(
        start_at=fields["start_at"],
        end_at=fields["end_at"],
        issued_by=fields.get("issued_by"),
        reason=fields.get("reason"),
    )


def version_id(name: str, number: int) -> str:
    return f"{name}@{number}"


def version_document(
    version: JobVersion, canonical: Callable[[JobDocument], Document] = JobDocument.to_document
) -> Document:
    fields: Document = {
        "_id": version_id(version.name, version.version),
        "name": version.name,
        "version": version.version,
        "document": canonical(version.document),
        "ignorable": version.document.ignorable or None,
        "from_at": version.from_at,
        "to_at": version.to_at,
        "issued_by": version.issued_by,
    }
    return _without_empty(fields)


def version_from(fields: Mapping[str, Any]) -> JobVersion:
    return JobVersion(
        name=fields["name"],
        version=fields["version"],
        document=JobDocument.parse_stored(fields["document"], fields.get("ignorable", ())),
        from_at=fields["from_at"],
        to_at=fields.get("to_at"),
        issued_by=fields.get("issued_by"),
    )


def command_document(command: AppliedCommand, retention: timedelta) -> Document:
    fields: Document = {
        "_id": command.id,
        "type": command.type,
        "received_at": command.received_at,
        "reply": dict(command.reply),
        "document": dict(command.document),
        "epoch": command.epoch,
        "issued_by": command.issued_by,
        "user": command.user,
        "expire_at": command.received_at + retention,
    }
    return {name: value for name, value in fields.items() if value is not None}


def command_from(fields: Mapping[str, Any]) -> AppliedCommand:
    known = {name: value for name, value in fields.items() if name not in {"_id", "expire_at"}}
    return AppliedCommand(id=fields["_id"], **known)


def instance_document(record: InstanceRecord) -> Document:
    """Return all but `beat_at`, which the database writes."""
    fields = asdict(record) | {"handlers": list(record.handlers), "versions": dict(record.versions)}
    del fields["beat_at"]
    return {"_id": record.executor.id, **fields, "events": [asdict(each) for each in record.events]}


def instance_from(fields: Mapping[str, Any]) -> InstanceRecord:
    """Return what is known of a record: a newer release may have written more."""
    known = {name: value for name, value in fields.items() if name in _INSTANCE_FIELDS}
    lacks = fields.get("lacks")
    parsed = {
        "lacks": None if lacks is None else tuple(lacks),
        "declares": tuple(fields.get("declares", ())),
        "executor": Executor(**fields["executor"]),
        "handlers": tuple(fields["handlers"]),
        "events": tuple(EventCount(**each) for each in fields.get("events", ())),
    }
    return InstanceRecord(**{**known, **parsed})


_INSTANCE_FIELDS = {each.name for each in dataclass_fields(InstanceRecord)}


def _without_empty(fields: Document) -> Document:
    """Leave out what says nothing: None, False, the empty text. Zero stays."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value is not False and value != ""
    }
