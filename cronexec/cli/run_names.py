"""Runs as people name them: the id, or the id with its instant the way a table, a clock or a log writes it.

Tables print instants as `2026-12-24 03:00:00Z`, `job next` in the job's zone as `Thu 2026-12-24 04:00:00
CET`, and a skipped range as its first and last slot; all of these name the run, as does any offset. An
instant without a zone is UTC, as everywhere on the command line.
"""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronexec.cli.namespaces import require_served
from cronexec.cli.session import Session
from cronexec.domain.job import Job
from cronexec.domain.run import Run, RunState, slot_run_id, slot_text
from cronexec.errors import RefusedError
from cronexec.ports import RunFilter

_RANGE_END = re.compile(r"\s*….*", re.DOTALL)
_WRITTEN = re.compile(r"(?:[A-Za-z]{3}\s+)?(?P<instant>\d{4}-.*?)(?:\s+(?P<zone>[A-Za-z]+|[+-]\d\d))?")


def displayed_id(run: Run) -> str:
    """Return a run's id for a table; of a range, its first and its last slot."""
    if run.open_ended:
        return f"{slot_run_id(run.job, run.slot)} …"
    return run.id if run.until is None else f"{slot_run_id(run.job, run.slot)} … {slot_text(run.until)}"


def is_run_id(given: str) -> bool:
    """Whether `given` names a run, and not a job."""
    return "@" in given or "#" in given


async def find_run(session: Session, given: str) -> Run:
    """Return the run that `given` names. Raises RefusedError where there is none."""
    found = await session.client.runs.get(given)
    if found is None and "@" in given:
        found = await _find_slot(session, given)
    if found is None:
        await require_served(session)
        hint = "" if is_run_id(given) else f"; 'cronexec run list --job {given}' shows those of a job"
        raise RefusedError("not_found", f"there is no run {given}{hint}", "run")
    return found


async def _find_slot(session: Session, given: str) -> Run | None:
    name, _, written = _RANGE_END.sub("", given).partition("@")
    slot = await _read_slot(session, name, written.strip())
    if slot is None:
        return None
    found = await session.client.runs.get(slot_run_id(name, slot))
    return found or await _find_range(session, name, slot)


async def _find_range(session: Session, name: str, slot: datetime) -> Run | None:
    """Return the range entry that begins with `slot`: the id of a pause's has more in it than the slot."""
    which = RunFilter(job=name, states=[RunState.SKIPPED], since=slot, until=slot)
    return next((run for run in await session.client.runs.list(which) if run.slot == slot), None)


async def _read_slot(session: Session, name: str, written: str) -> datetime | None:
    parts = _WRITTEN.fullmatch(written)
    if parts is None:
        return None
    zone = parts["zone"] or ""
    offset = zone if zone[:1] in {"+", "-"} else ""
    try:
        instant = datetime.fromisoformat(parts["instant"] + offset)
    except ValueError:
        return None
    if instant.tzinfo is None:
        job = await session.client.jobs.get(name) if zone not in {"", "UTC", "Z"} else None
        instant = _in_zone(instant, job, zone)
    try:
        return instant.astimezone(UTC)
    except OverflowError:  # the first or the last day that there is
        return None


def _in_zone(instant: datetime, job: Job | None, zone: str) -> datetime:
    """Return `instant` in the job's zone; of the two of a repeated hour, the one that `zone` names."""
    if job is None:
        return instant.replace(tzinfo=UTC)
    place = ZoneInfo(str(job.schedule.to_document().get("timezone", "UTC")))
    readings = [instant.replace(tzinfo=place, fold=fold) for fold in (0, 1)]
    return next((reading for reading in readings if reading.tzname() == zone), readings[0])
