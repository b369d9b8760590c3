"""The client: what any instance, the CLI and the web page may ask of a namespace, whoever holds the baton.

Changes are commands: sent to the durable command queue, applied by the holder, answered. Reads go to the
database directly and need no holder.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cronexec.backfill import Outlook, look_over, send_parts
from cronexec.domain.backfill import MOST_SLOTS, Ran
from cronexec.domain.command import (
    CancelRun,
    Command,
    DeleteJob,
    KeptCommands,
    PutJob,
    ReleaseBaton,
    ResumeJob,
    RetryRun,
    command_from_fields,
    encode_command,
)
from cronexec.domain.declaration import digest
from cronexec.domain.job import Job, JobDocument, JobVersion
from cronexec.domain.model import check_instants
from cronexec.domain.run import Output, Run
from cronexec.domain.term import TermRecord
from cronexec.domain.wanted import next_run
from cronexec.errors import RefusedError
from cronexec.ports import Broker, InstanceRecord, QueueDepth, ReportUnreadable, RunFilter, Store
from cronexec.watching import output_of_attempt

DEFAULT_WAIT = 10.0
WAIT_INTERVAL = 0.5  # seconds
INSERTION_TIMEOUT = 5.0


class Commands:
    """Sends commands and waits for their replies."""

    def __init__(self, broker: Broker, *, issued_by: str, wait: float = DEFAULT_WAIT) -> None:
        self._broker = broker
        self.issued_by = issued_by
        self.wait = wait

    async def send(self, command: Command) -> Mapping[str, Any]:
        """Send one command; returns its result.

        Raises:
            RefusedError: the holder refused it, with code and field.
            NotYetAppliedError: nobody answered in `wait` seconds; it stays in the queue and will be applied.
            UnreachableError: it could not be sent.
        """
        reply = await self._broker.request(encode_command(command), command_id=command.id, wait=self.wait)
        if reply.get("ok"):
            result: Mapping[str, Any] = reply["result"]
            return result
        error = reply["error"]
        raise RefusedError(error["code"], error["message"], error.get("field"))

    async def kept(self, discard: str | None = None) -> Mapping[str, Any]:
        """Return what the holder keeps for a newer one, as `kept`; `discard`: reject that one instead."""
        return await self.send(KeptCommands(discard=discard, **self.identity()))

    def identity(self) -> dict[str, Any]:
        """Return the fields that every new command has."""
        return {"id": str(uuid.uuid4()), "issued_by": self.issued_by}


class Jobs:
    """The jobs of the namespace."""

    def __init__(self, store: Store, commands: Commands) -> None:
        self._store = store
        self._commands = commands

    async def put(
        self,
        document: Mapping[str, Any] | JobDocument,
        *,
        if_version: int | None = None,
        declared: bool = False,
    ) -> Mapping[str, Any]:
        """Create or update a job.

        Raises InvalidDocumentError before anything is sent, with every wrong field.
        """
        job = document if isinstance(document, JobDocument) else JobDocument.parse(document)
        command = PutJob(job=job, if_version=if_version, declared=declared, **self._commands.identity())
        return await self._commands.send(command)

    async def put_all(self, documents: Sequence[JobDocument]) -> list[Mapping[str, Any] | BaseException]:
        """Put many jobs, pipelined; returns a result or an error for each, in their order."""
        return await asyncio.gather(*(self.put(document) for document in documents), return_exceptions=True)

    async def delete(self, name: str, *, if_version: int | None = None) -> Mapping[str, Any]:
        return await self._commands.send(
            DeleteJob(name=name, if_version=if_version, **self._commands.identity())
        )

    async def pause(
        self,
        name: str,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        owner: str | None = None,
    ) -> Mapping[str, Any]:
        """Skip the job's slots up to `until`, or until it is resumed."""
        return await self._control("job.pause", name, until=until, reason=reason, owner=owner)

    async def resume(self, name: str) -> Mapping[str, Any]:
        return await self._commands.send(ResumeJob(name=name, **self._commands.identity()))

    async def skip_next(self, name: str, count: int = 1, *, reason: str | None = None) -> Mapping[str, Any]:
        """Skip the next `count` slots, and no others of those asked for before; returns them as `skipped`."""
        return await self._control("job.skip", name, count=count, reason=reason)

    async def black_out(
        self, name: str, *, end: datetime, start: datetime | None = None, reason: str | None = None
    ) -> Mapping[str, Any]:
        """Skip the slots from `start` (now, if left out) to `end`, both included."""
        return await self._control("job.blackout", name, start=start, end=end, reason=reason)

    async def lift_blackouts(self, name: str, *, reason: str | None = None) -> Mapping[str, Any]:
        """Take away the job's windows, or those with this reason; returns how many were `lifted`."""
        return await self._control("job.unblackout", name, reason=reason)

    async def _control(self, kind: str, name: str, **fields: Any) -> Mapping[str, Any]:
        """Send a control. Raises InvalidDocumentError for wrong fields."""
        given = {"type": kind, "name": name, **fields, **self._commands.identity()}
        return await self._commands.send(command_from_fields(given))

    async def trigger(
        self, name: str, *, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Mapping[str, Any]:
        """Run a job now; with `key` (1 to 128 visible ASCII characters), once for that key.

        The result has the run's id. Raises InvalidDocumentError for wrong params or a wrong key.
        """
        fields = {"name": name, "params": params, "key": key, **self._commands.identity()}
        given = {field: value for field, value in fields.items() if value is not None}
        return await self._commands.send(command_from_fields({"type": "job.trigger", **given}))

    async def past(self, name: str, since: datetime, until: datetime | None, *, most: int) -> Outlook:
        """Return the job's slots from `since` to `until` (now, if None), and which of them ran already."""
        check_instants(since=since, until=until)
        return await look_over(self._store, name, since, until, most)

    def backfill_parts(self, outlook: Outlook, **how: Any) -> AsyncIterator[Mapping[str, Any]]:
        """Run the job for the slots of `outlook`; see `backfill.send_parts`."""
        return send_parts(self._commands, outlook, **how)

    async def backfill(
        self,
        name: str,
        since: datetime,
        until: datetime | None = None,
        *,
        ran: Ran = "refuse",
        params: Mapping[str, Any] | None = None,
        most: int = MOST_SLOTS,
    ) -> Mapping[str, Any]:
        """Run the job for its past slots, both ends included; returns how many were `queued`.

        `ran`: what becomes of slots that ran already. `most`: refuse a range with more slots than this.
        """
        outlook = await self.past(name, since, until, most=most)
        parts = [part async for part in self.backfill_parts(outlook, ran=ran, params=params)]
        counts = ("queued", "ran_before", "excluded")
        return {"name": name, **{count: sum(part[count] for part in parts) for count in counts}}

    async def list(self, *, report: ReportUnreadable | None = None) -> list[Job]:
        """Return all jobs; those that this release cannot read are told to `report`, or logged."""
        return await self._store.jobs.list(report=report)

    async def get(self, name: str) -> Job | None:
        """Return the job, or None where there is none (or it was deleted)."""
        job = await self._store.jobs.get(name)
        return None if job is None or job.deleted_at is not None else job

    async def versions(self, name: str) -> Sequence[JobVersion]:
        return await self._store.jobs.versions(name)


class Runs:
    """The ledger."""

    def __init__(self, store: Store, commands: Commands) -> None:
        self._store = store
        self._commands = commands

    async def list(self, which: RunFilter | None = None) -> list[Run]:
        """Return entries, newest slot first."""
        which = which or RunFilter()
        check_instants(since=which.since, until=which.until)
        return await self._store.runs.list(which)

    async def get(self, run_id: str) -> Run | None:
        return await self._store.runs.get(run_id)

    async def output(self, run_id: str, *, attempt: int | None = None) -> Output | None:
        """Return what a run wrote, or has written so far; None where nothing is known of it.

        `attempt`: of this one, else of the last.
        """
        run = await self.get(run_id)
        return None if run is None else await output_of_attempt(self._store, run, attempt or run.attempt)

    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Wait until a run is settled, whoever executes it, and return its entry.

        `timeout`: seconds. Raises TimeoutError, and RefusedError where there is no such run.
        """
        async with asyncio.timeout(timeout):
            pause = WAIT_INTERVAL / 5
            while (run := await self.get(run_id)) is not None and not run.state.is_final:
                await asyncio.sleep(pause)
                pause = min(WAIT_INTERVAL, pause * 1.5)
        if run is None:
            raise RefusedError("not_found", f"there is no run {run_id}", "run")
        return run

    async def cancel(self, run_id: str) -> Mapping[str, Any]:
        """Cancel a run, wherever it is.

        A queued one at once, a running one as soon as its executor sees the mark.
        """
        return await self._commands.send(CancelRun(run=run_id, **self._commands.identity()))

    async def retry(self, run_id: str) -> Mapping[str, Any]:
        """Queue a run that has not succeeded for another attempt, whatever its retry policy says."""
        return await self._commands.send(RetryRun(run=run_id, **self._commands.identity()))

    async def resolve(self, run_id: str, state: str = "abandoned") -> Mapping[str, Any]:
        """Say what became of an abandoned run that waits for a person.

        `state`: abandoned, succeeded or failed.
        """
        fields = {"type": "run.resolve", "run": run_id, "state": state, **self._commands.identity()}
        return await self._commands.send(command_from_fields(fields))


@dataclass(frozen=True, kw_only=True)
class BatonStatus:
    """Who holds, as the database and the broker know it."""

    term: TermRecord
    depth: QueueDepth


class Baton:
    """The baton, from outside."""

    def __init__(self, store: Store, broker: Broker, commands: Commands) -> None:
        self._store = store
        self._broker = broker
        self._commands = commands

    async def status(self) -> BatonStatus:
        term, depth = await asyncio.gather(self._store.terms.read(), self._broker.baton_depth())
        return BatonStatus(term=term, depth=depth)

    async def release(self) -> Mapping[str, Any]:
        """Have the holder hand the baton on."""
        return await self._commands.send(ReleaseBaton(**self._commands.identity()))

    async def reinsert(self) -> str:
        """Insert a baton.

        Safe at any time: a holder discards what it does not need. Returns the message's id.
        """
        message_id = uuid.uuid4().hex
        body = json.dumps({"baton": "cronexec", "inserted_by": self._commands.issued_by, "why": "by hand"})
        publisher = self._broker.publisher()
        if not await publisher.publish_baton(message_id, body.encode(), INSERTION_TIMEOUT):
            raise RefusedError(
                "unconfirmed",
                f"the broker did not confirm the baton within {INSERTION_TIMEOUT:g} s: it may have an alarm",
            )
        return message_id


class Client:
    """Jobs, runs, baton and instances of one namespace."""

    def __init__(self, *, store: Store, broker: Broker, issued_by: str, wait: float = DEFAULT_WAIT) -> None:
        self._store = store
        self.commands = Commands(broker, issued_by=issued_by, wait=wait)
        self.jobs = Jobs(store, self.commands)
        self.runs = Runs(store, self.commands)
        self.baton = Baton(store, broker, self.commands)

    async def instances(self) -> list[InstanceRecord]:
        return await self._store.instances.list()

    async def epoch(self) -> int:
        """Return the number of the latest term."""
        return (await self._store.terms.read()).epoch

    async def declared_by(self, document: JobDocument, *, lost_after: timedelta) -> str | None:
        """Return the name of a living instance whose code declares exactly this; None where there is none."""
        term, instances = await asyncio.gather(self._store.terms.read(), self._store.instances.list())
        wanted = digest(document)
        alive = (each for each in instances if term.read_at - each.beat_at <= lost_after)
        return next((each.executor.name for each in alive if wanted in each.declares), None)

    async def upcoming(self, now: datetime, most: int = 10) -> list[tuple[datetime, str]]:
        """Return the next slots of all jobs, computed from their documents."""
        slots = [
            (slot, job.name)
            for job in await self._store.jobs.list()
            if (slot := next_run(job, now)) is not None
        ]
        return sorted(slots)[:most]
