"""The store in memory: the same contract as MongoDB's, for tests and for trying things out.

A `MemoryDatabase` is what several instances share; a `MemoryStore` is one instance's access to it. Every call
gives other tasks a turn, as a network does, and then acts at once. Time is the clock's. `unreachable` makes
every call fail, as an outage does. Nothing expires.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from cronexec.adapters.memory_outputs import MemoryOutputStore
from cronexec.adapters.memory_runs import MemoryRunStore, close_range, requeue, settle
from cronexec.domain.job import Job, JobVersion
from cronexec.domain.run import UNSETTLED, Executor, Run, RunState
from cronexec.domain.term import Term, TermRecord
from cronexec.domain.transcript import Transcript
from cronexec.errors import (
    DuplicateEntryError,
    FieldProblem,
    InvalidDocumentError,
    TermLostError,
    UnreachableError,
    UnwritableError,
)
from cronexec.ports import (
    MOST_ADOPTED,
    AppliedCommand,
    Batch,
    Clock,
    InstanceRecord,
    RecordedReply,
    ReportUnreadable,
    Store,
    UnreadableJob,
)

CLOCK_TOLERANCE = timedelta(seconds=1)


class MemoryDatabase:
    """What a namespace has in the database. `term` is None until it was prepared.

    `unreadable`: jobs, by name, that are to be as if no release could read them, and why.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.unreachable = False
        self.term: TermRecord | None = None
        self.reserved: dict[str, tuple[datetime | None, int]] = {}  # when last, and for which epoch
        self.runs: dict[str, Run] = {}
        self.outputs: dict[tuple[str, int], Transcript] = {}
        self.jobs: dict[str, Job] = {}
        self.unreadable: dict[str, str] = {}
        self.versions: dict[tuple[str, int], JobVersion] = {}
        self.commands: dict[str, AppliedCommand] = {}
        self.instances: dict[str, InstanceRecord] = {}

    async def reach(self) -> None:
        await asyncio.sleep(0)
        if self.unreachable:
            raise UnreachableError("database", "the database in memory was made unreachable", "")


class MemoryStore:
    """One instance's access; `store` has the ports."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.clock = database.clock
        self.store = Store(
            terms=MemoryTermStore(database),
            jobs=MemoryJobStore(database),
            runs=MemoryRunStore(database),
            outputs=MemoryOutputStore(database),
            commands=MemoryCommandStore(database),
            instances=MemoryInstanceStore(database),
        )

    async def close(self) -> None:
        """Nothing is open."""


class MemoryTermStore:
    """Implements `ports.TermStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def prepare(self) -> bool:
        await self._database.reach()
        if self._database.term is not None:
            return False
        now = self._database.clock.now()
        self._database.term = TermRecord(
            epoch=0,
            seq=0,
            watermark=now,
            revision=0,
            holder_id=None,
            holder_name=None,
            datacenter=None,
            since_at=None,
            read_at=now,
        )
        return True

    async def ping(self) -> datetime:
        await self._database.reach()
        return self._database.clock.now()

    async def read(self) -> TermRecord:
        await self._database.reach()
        return replace(self._found(), read_at=self._database.clock.now())

    async def raise_epoch(self, holder: Executor) -> Term:
        await self._database.reach()
        found, now = self._found(), self._database.clock.now()
        raised = replace(
            found,
            epoch=found.epoch + 1,
            seq=found.seq + 1,
            holder_id=holder.id,
            holder_name=holder.name,
            datacenter=holder.datacenter,
            since_at=now,
        )
        self._database.term = raised
        return Term(
            epoch=raised.epoch,
            seq=raised.seq,
            watermark=raised.watermark,
            revision=raised.revision,
            since_at=now,
            session=secrets.token_bytes(16),
        )

    async def commit(self, term: Term, batch: Batch) -> Term:
        await self._database.reach()
        found = self._found()
        if (found.epoch, found.seq) != (term.epoch, term.seq):
            raise TermLostError(
                f"term {term.epoch} expected write {term.seq}: the database is at term {found.epoch}, "
                f"write {found.seq}"
            )
        if batch.until > self._database.clock.now() + CLOCK_TOLERANCE:
            raise TermLostError(f"{batch.until.isoformat()} is ahead of the database's clock")
        self._check_keys(batch)
        self._write(term, batch)
        self._database.term = replace(
            found,
            seq=found.seq + 1,
            watermark=batch.until,
            revision=batch.revision,
            catching_up=batch.catching_up,
        )
        return replace(term, seq=term.seq + 1, watermark=batch.until, revision=batch.revision)

    async def depose(self, epoch: int, seq: int) -> bool:
        await self._database.reach()
        found = self._found()
        if (found.epoch, found.seq) != (epoch, seq):
            return False
        self._database.term = replace(
            found,
            epoch=epoch + 1,
            seq=seq + 1,
            holder_id=None,
            holder_name=None,
            datacenter=None,
            since_at=None,
        )
        return True

    async def reserve_insertion(self, at_most_every: timedelta) -> bool:
        return await self._reserve("insertion", at_most_every)

    async def reserve_closing(self, at_most_every: timedelta, *, epoch: int) -> bool:
        return await self._reserve("closing", at_most_every, epoch)

    async def _reserve(self, what: str, at_most_every: timedelta, epoch: int = 0) -> bool:
        await self._database.reach()
        now, (last, of_epoch) = self._database.clock.now(), self._database.reserved.get(what, (None, 0))
        if last is not None and last > now - at_most_every and epoch <= of_epoch:
            return False
        self._database.reserved[what] = (now, epoch)
        return True

    def _found(self) -> TermRecord:
        if self._database.term is None:
            raise UnreachableError("database", "this namespace is not in the database yet", "")
        return self._database.term

    def _check_keys(self, batch: Batch) -> None:
        if known := [entry.id for entry in batch.entries if entry.id in self._database.runs]:
            raise DuplicateEntryError(known)
        counts = Counter(entry.id for entry in batch.entries)
        counts += Counter(
            command.id
            for command in batch.commands
            for _ in range(1 + (command.id in self._database.commands))
        )
        if any(count > 1 for count in counts.values()):
            raise UnwritableError("the write names an entry twice, or a command that was applied already")

    def _write(self, term: Term, batch: Batch) -> None:
        database = self._database
        database.runs |= {entry.id: entry for entry in batch.entries}
        if batch.adopt:
            self._adopt(term.epoch)
        for change in batch.settles:
            settle(database.runs, change)
        for again in batch.requeues:
            requeue(database.runs, again, term.epoch)
        for close in batch.closes:
            close_range(database.runs, close)
        for run_id, asked_by in batch.cancels.items():
            run = database.runs.get(run_id)
            if run is not None and run.state in UNSETTLED:
                database.runs[run_id] = replace(run, cancel_requested_by=asked_by)
        for run_id, reason in batch.reasons.items():
            run = database.runs.get(run_id)
            if run is not None and run.state is RunState.QUEUED:
                database.runs[run_id] = replace(run, reason=reason)
        database.versions |= {(version.name, version.version): version for version in batch.versions}
        database.jobs |= {job.name: job for job in batch.jobs}
        database.commands |= {command.id: command for command in batch.commands}

    def _adopt(self, epoch: int) -> None:
        runs = self._database.runs
        earlier = (run for run in runs.values() if run.state is RunState.QUEUED and run.epoch < epoch)
        for run in list(islice(earlier, MOST_ADOPTED)):
            runs[run.id] = replace(run, epoch=epoch)


class MemoryJobStore:
    """Implements `ports.JobStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def changed_since(self, revision: int, *, report: ReportUnreadable | None = None) -> list[Job]:
        await self._database.reach()
        changed = [job for job in self._database.jobs.values() if job.revision > revision]
        return _readable(sorted(changed, key=lambda job: job.revision), self._database.unreadable, report)

    async def list(self, *, report: ReportUnreadable | None = None) -> list[Job]:
        await self._database.reach()
        kept = [job for _, job in sorted(self._database.jobs.items()) if job.deleted_at is None]
        return _readable(kept, self._database.unreadable, report)

    async def get(self, name: str) -> Job | None:
        await self._database.reach()
        if why := self._database.unreadable.get(name):
            raise InvalidDocumentError([FieldProblem("", why)])
        job = self._database.jobs.get(name)
        return None if job is None or job.deleted_at is not None else job

    async def versions(self, name: str | None = None, since: datetime | None = None) -> Sequence[JobVersion]:
        await self._database.reach()
        return [
            version
            for _, version in sorted(self._database.versions.items())
            if name in (None, version.name)
            and version.name not in self._database.unreadable
            and (since is None or version.to_at is None or version.to_at > since)
        ]

    async def versions_of(self, which: Collection[tuple[str, int]]) -> Sequence[JobVersion]:
        return [version for version in await self.versions() if (version.name, version.version) in which]


def _readable(
    jobs: Sequence[Job], unreadable: Mapping[str, str], report: ReportUnreadable | None
) -> list[Job]:
    for job in jobs:
        if report is not None and job.name in unreadable:
            report(UnreadableJob(name=job.name, revision=job.revision, why=unreadable[job.name]))
    return [job for job in jobs if job.name not in unreadable]


class MemoryCommandStore:
    """Implements `ports.CommandStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def replies(self, command_ids: Sequence[str]) -> dict[str, RecordedReply]:
        await self._database.reach()
        known = [self._database.commands[each] for each in command_ids if each in self._database.commands]
        return {each.id: RecordedReply(reply=each.reply, document=each.document) for each in known}

    async def list(self, limit: int = 50) -> list[AppliedCommand]:
        await self._database.reach()
        newest = sorted(
            self._database.commands.values(), key=lambda command: command.received_at, reverse=True
        )
        return newest[:limit]


class MemoryInstanceStore:
    """Implements `ports.InstanceStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def beat(self, record: InstanceRecord) -> None:
        await self._database.reach()
        self._database.instances[record.executor.id] = replace(record, beat_at=self._database.clock.now())

    async def leave(self, executor_id: str) -> None:
        await self._database.reach()
        self._database.instances.pop(executor_id, None)

    async def list(self) -> list[InstanceRecord]:
        await self._database.reach()
        return sorted(
            self._database.instances.values(), key=lambda record: (record.executor.name, record.executor.id)
        )
