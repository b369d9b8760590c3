"""What comes into the ledger: every slot once, by the right version, for the right reason, in its line."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from account import SECOND, Account, Write
from exclusions import excluded_by
from overlaps import wrong_line

from cronexec.domain.job import Job, JobVersion
from cronexec.domain.run import Cause, Run, RunState, SkipReason
from cronexec.domain.term import Term

ASKED_FOR = {SkipReason.SKIP_NEXT, SkipReason.BLACKOUT, SkipReason.EXCLUDED}
FIRST_STATES = {RunState.QUEUED, RunState.SKIPPED, RunState.RUNNING}


class Entries:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._history = account.history
        self._database = account.database
        self._removed: set[str] = set()

    def inserted(self, run: Run) -> None:
        write = self._account.write
        if write is None:
            self._history.violate("I3", f"{run.id} was claimed without a fenced write")
        elif run.id in self._removed:
            self._history.violate("I2", f"{run.id} was claimed again")
        else:
            write.inserted.append(run)
        self._account.entries[run.job].append(run.id)
        if run.state not in FIRST_STATES:
            self._history.violate("I2", f"{run.id} came into the ledger {run.state}")

    def removed(self, run: Run) -> None:
        self._removed.add(run.id)
        if self._account.write is None or run.reason != SkipReason.PAUSED:
            self._history.violate("I1", f"{run.id} was removed from the ledger")

    def written(self, write: Write) -> None:
        """Judge a fenced write that is done."""
        for entry in write.inserted:
            self._check_entry(entry, write.term)
            self._check_line(entry)
        self._check_slots(write)
        for job in write.batch.jobs:
            is_off = job.deleted_at is not None or job.paused_at(write.batch.until) is not None
            if is_off and job.name not in write.off:
                self._check_nothing_queued(job.name, write)

    def _check_entry(self, entry: Run, term: Term) -> None:
        if entry.epoch != term.epoch:
            self._history.violate("I3", f"epoch {term.epoch} claimed {entry.id} for epoch {entry.epoch}")
        if entry.state is RunState.SKIPPED and not entry.reason:
            self._history.violate("I7", f"{entry.id} was skipped without a reason")
        version = self._database.versions.get((entry.job, entry.version))
        if version is None:
            self._history.violate("I1", f"{entry.id} is of no version of its job")
        elif entry.cause is Cause.SCHEDULE:
            if entry.slot <= version.from_at:
                self._history.violate("I1", f"{entry.id} is before version {entry.version} counted")
            self._check_reason(entry, version)
            self._check_jitter(entry, version)

    def _check_reason(self, entry: Run, version: JobVersion) -> None:
        """What is skipped by somebody's will, or excluded, is what was said to be, and nothing else."""
        assert self._account.write is not None
        job = self._account.write.jobs.get(entry.job)
        if entry.reason == SkipReason.PAUSED or job is None or job.version != version.version:
            return
        found = (entry.reason, entry.note) if entry.reason in ASKED_FOR else None
        schedule = version.document.schedule
        for slot in schedule.slots(entry.slot - SECOND, entry.until or entry.slot):
            if found != (said := _said_of(slot, job, schedule.to_document())):
                what = f"{entry.id} is {entry.state} ({found}), and of {slot:%H:%M:%S} was said {said}"
                self._history.violate("I7", what)
                return

    def _check_jitter(self, entry: Run, version: JobVersion) -> None:
        """A run is held back until its instant, where that is still to come; a skip is not."""
        starts_at = version.document.schedule.starts_at(entry.slot, job=entry.job)
        assert entry.claimed_at is not None
        if starts_at is not None and (entry.state is RunState.SKIPPED or starts_at <= entry.claimed_at):
            starts_at = None
        if entry.not_before != starts_at:
            what = f"{entry.id} may start at {entry.not_before}, and should at {starts_at}"
            self._history.violate("jitter", what)

    def _check_line(self, entry: Run) -> None:
        version = self._database.versions.get((entry.job, entry.version))
        known = (self._database.runs.get(run_id) for run_id in self._account.entries[entry.job])
        unsettled = [run for run in known if run is not None and not run.is_settled]
        if version is not None and (wrong := wrong_line(version.document, entry, unsettled)) is not None:
            self._history.violate("overlap", wrong)

    def _check_slots(self, write: Write) -> None:
        """I1 for what the watermark has passed now."""
        before, after = write.before.watermark, self._database.term
        assert after is not None
        opened = {(each.name, each.version) for each in write.batch.versions if each.to_at is None}
        for version in self._database.versions.values():
            if version.to_at is not None and version.to_at <= before:
                continue
            is_new = (version.name, version.version) in opened
            since = version.from_at if is_new else max(version.from_at, before)
            until = min(after.watermark, version.to_at) if version.to_at else after.watermark
            if since < until:
                self._check_version(version, since, until)

    def _check_version(self, version: JobVersion, since: datetime, until: datetime) -> None:
        runs = self._database.runs
        for slot in version.document.schedule.slots(since, until):
            covering = [
                run_id
                for run_id in self._account.entries[version.name]
                if (run := runs.get(run_id)) and run.version == version.version and run.covers(slot)
            ]
            if len(covering) != 1:
                what = f"{version.name} v{version.version} {slot:%H:%M:%S} has the entries {covering}"
                self._history.violate("I1", what)

    def _check_nothing_queued(self, name: str, write: Write) -> None:
        """After a delete or a pause nothing of the job waits, but what was triggered after it."""
        triggered = {entry.id for entry in write.inserted if entry.cause is not Cause.SCHEDULE}
        for run_id in self._account.entries[name]:
            run = self._database.runs.get(run_id)
            wanted = run_id in triggered or run_id in self._account.returned  # judged when they start
            if run is not None and run.state is RunState.QUEUED and not wanted:
                self._history.violate("I6", f"{run_id} is queued still, though its job is paused or deleted")


def _said_of(slot: datetime, job: Job, schedule: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Return why a slot is to be skipped, and what was said of it."""
    if (asked := job.controlled(slot)) is not None:
        return asked.reason.value, asked.note
    by = excluded_by(schedule, slot)
    return None if by is None else (SkipReason.EXCLUDED.value, by)
