"""`cron.jobs` and `cron.runs` as applications see them: the client's calls, carried to the engine and back.

From a synchronous application they wait in the calling thread, from an asynchronous one they are awaited;
nothing else differs. They work on every instance, whoever holds the baton. Documents are validated where the
caller is: however many an application puts, the engine only sends them. Instants are aware datetimes.

Changes raise InvalidDocumentError (something given is wrong, a datetime without an offset, say), RefusedError
(the holder said no), NotYetAppliedError (no holder answered in time; it will be applied) and UnreachableError
(a server did not answer); reading raises UnreachableError; all of them raise RuntimeError where cronexec is
not started in this process.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cronexec.domain.backfill import MOST_SLOTS, Ran
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import Cause, Output, Run, RunState
from cronexec.ports import RunFilter

if TYPE_CHECKING:  # it loads what only a started instance needs
    from cronexec.client import Client

T = TypeVar("T")
Document = Mapping[str, Any] | JobDocument
Result = Mapping[str, Any]


class Call(Protocol):
    """Performs a piece of the client's work on the engine and waits for it."""

    def __call__(self, work: "Callable[[Client], Coroutine[Any, Any, T]]") -> T: ...


class AsyncCall(Protocol):
    """The same, to be awaited."""

    def __call__(self, work: "Callable[[Client], Coroutine[Any, Any, T]]") -> Awaitable[T]: ...


def _parse(document: Document) -> JobDocument:
    return document if isinstance(document, JobDocument) else JobDocument.parse(document)


def _run_filter(states: Iterable[RunState | str], causes: Iterable[Cause | str], **bounds: Any) -> RunFilter:
    return RunFilter(
        states=tuple(RunState(state) for state in states),
        causes=tuple(Cause(cause) for cause in causes),
        **bounds,
    )


class SyncJobs:
    """The namespace's jobs."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def put(self, document: Document, *, if_version: int | None = None) -> Result:
        """Create or update a job; returns its `name`, its `version`, and whether that `changed` anything.

        `if_version`: only if the job has that version now; 0: only if there is none. Raises
        InvalidDocumentError with every wrong field, before anything is sent.
        """
        job = _parse(document)
        return self._call(lambda client: client.jobs.put(job, if_version=if_version))

    def delete(self, name: str, *, if_version: int | None = None) -> Result:
        """Delete a job and cancel its queued runs; what runs goes on."""
        return self._call(lambda client: client.jobs.delete(name, if_version=if_version))

    def pause(
        self,
        name: str,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        owner: str | None = None,
    ) -> Result:
        """Let no slot of the job run until it is resumed; its queued runs are cancelled.

        `until`: the last instant whose slot is skipped, in an aware datetime; the schedule goes on by itself.
        `reason` and `owner` are shown with the job and its skipped slots.
        """
        return self._call(lambda client: client.jobs.pause(name, until=until, reason=reason, owner=owner))

    def resume(self, name: str) -> Result:
        """End a pause."""
        return self._call(lambda client: client.jobs.resume(name))

    def skip_next(self, name: str, count: int = 1, *, reason: str | None = None) -> Result:
        """Have the next `count` slots `skipped`, instead of those asked for before; 0 takes that back."""
        return self._call(lambda client: client.jobs.skip_next(name, count, reason=reason))

    def black_out(
        self, name: str, *, end: datetime, start: datetime | None = None, reason: str | None = None
    ) -> Result:
        """Have the slots from `start` (now, if left out) to `end` skipped, both included."""
        return self._call(lambda client: client.jobs.black_out(name, start=start, end=end, reason=reason))

    def lift_blackouts(self, name: str, *, reason: str | None = None) -> Result:
        """Take away the job's blackout windows, or those with this reason; says how many were `lifted`."""
        return self._call(lambda client: client.jobs.lift_blackouts(name, reason=reason))

    def trigger(
        self, name: str, *, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Result:
        """Run a job now, with `params` for the job's own; returns the `run`'s id. Once for each `key`."""
        return self._call(lambda client: client.jobs.trigger(name, params=params, key=key))

    def backfill(
        self,
        name: str,
        since: datetime,
        until: datetime | None = None,
        *,
        ran: Ran = "refuse",
        params: Mapping[str, Any] | None = None,
        most: int = MOST_SLOTS,
    ) -> Result:
        """Run a job for its past slots from `since` to `until` (now), aware datetimes, both included.

        Returns how many runs were `queued`; they wait behind live slots. Slots that `ran` already refuse it
        all, or are left out ("skip"), or run once more ("again"). More slots than `most` are refused.
        """
        return self._call(
            lambda client: client.jobs.backfill(name, since, until, ran=ran, params=params, most=most)
        )

    def list(self) -> list[Job]:
        """Return all jobs."""
        return self._call(lambda client: client.jobs.list())

    def get(self, name: str) -> Job | None:
        """Return the job, or None where there is none."""
        return self._call(lambda client: client.jobs.get(name))


class SyncRuns:
    """The namespace's ledger."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def list(
        self,
        *,
        job: str | None = None,
        states: Iterable[RunState | str] = (),
        causes: Iterable[Cause | str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Return entries, newest slot first; `since` and `until` bound the slot.

        No `states` are all of them, and no `causes` ("schedule", "trigger", "backfill").
        """
        which = _run_filter(states, causes, job=job, since=since, until=until, limit=limit)
        return self._call(lambda client: client.runs.list(which))

    def get(self, run_id: str) -> Run | None:
        """Return the entry (`JOB@SLOT`, `JOB#KEY`), or None."""
        return self._call(lambda client: client.runs.get(run_id))

    def output(self, run_id: str, *, attempt: int | None = None) -> Output | None:
        """Return what a run wrote, or has written so far: of an attempt, else of the last one."""
        return self._call(lambda client: client.runs.output(run_id, attempt=attempt))

    def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Wait until a run is settled, and return its entry. Raises TimeoutError after `timeout` seconds."""
        return self._call(lambda client: client.runs.wait(run_id, timeout=timeout))

    def cancel(self, run_id: str) -> Result:
        """Cancel a run, wherever it is: a queued one at once, a running one when its instance sees it."""
        return self._call(lambda client: client.runs.cancel(run_id))

    def retry(self, run_id: str) -> Result:
        """Try a run again that failed, timed out, or was cancelled or abandoned; returns its `attempt`."""
        return self._call(lambda client: client.runs.retry(run_id))

    def resolve(self, run_id: str, state: str = "abandoned") -> Result:
        """Say what became of an abandoned run that waits for a person: abandoned, succeeded or failed."""
        return self._call(lambda client: client.runs.resolve(run_id, state))


class AsyncJobs:
    """The namespace's jobs, awaited."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    async def put(self, document: Document, *, if_version: int | None = None) -> Result:
        """Create or update a job; returns its `name`, its `version`, and whether that `changed` anything.

        `if_version`: only if the job has that version now; 0: only if there is none. Raises
        InvalidDocumentError with every wrong field, before anything is sent.
        """
        job = _parse(document)
        return await self._call(lambda client: client.jobs.put(job, if_version=if_version))

    async def delete(self, name: str, *, if_version: int | None = None) -> Result:
        """Delete a job and cancel its queued runs; what runs goes on."""
        return await self._call(lambda client: client.jobs.delete(name, if_version=if_version))

    async def pause(
        self,
        name: str,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        owner: str | None = None,
    ) -> Result:
        """Let no slot of the job run until it is resumed; its queued runs are cancelled.

        `until`: the last instant whose slot is skipped, in an aware datetime; the schedule goes on by itself.
        `reason` and `owner` are shown with the job and its skipped slots.
        """
        return await self._call(
            lambda client: client.jobs.pause(name, until=until, reason=reason, owner=owner)
        )

    async def resume(self, name: str) -> Result:
        """End a pause."""
        return await self._call(lambda client: client.jobs.resume(name))

    async def skip_next(self, name: str, count: int = 1, *, reason: str | None = None) -> Result:
        """Have the next `count` slots `skipped`, instead of those asked for before; 0 takes that back."""
        return await self._call(lambda client: client.jobs.skip_next(name, count, reason=reason))

    async def black_out(
        self, name: str, *, end: datetime, start: datetime | None = None, reason: str | None = None
    ) -> Result:
        """Have the slots from `start` (now, if left out) to `end` skipped, both included."""
        return await self._call(
            lambda client: client.jobs.black_out(name, start=start, end=end, reason=reason)
        )

    async def lift_blackouts(self, name: str, *, reason: str | None = None) -> Result:
        """Take away the job's blackout windows, or those with this reason; says how many were `lifted`."""
        return await self._call(lambda client: client.jobs.lift_blackouts(name, reason=reason))

    async def trigger(
        self, name: str, *, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Result:
        """Run a job now, with `params` for the job's own; returns the `run`'s id. Once for each `key`."""
        return await self._call(lambda client: client.jobs.trigger(name, params=params, key=key))

    async def backfill(
        self,
        name: str,
        since: datetime,
        until: datetime | None = None,
        *,
        ran: Ran = "refuse",
        params: Mapping[str, Any] | None = None,
        most: int = MOST_SLOTS,
    ) -> Result:
        """Run a job for its past slots from `since` to `until` (now), aware datetimes, both included.

        Returns how many runs were `queued`; they wait behind live slots. Slots that `ran` already refuse it
        all, or are left out ("skip"), or run once more ("again"). More slots than `most` are refused.
        """
        return await self._call(
            lambda client: client.jobs.backfill(name, since, until, ran=ran, params=params, most=most)
        )

    async def list(self) -> list[Job]:
        """Return all jobs."""
        return await self._call(lambda client: client.jobs.list())

    async def get(self, name: str) -> Job | None:
        """Return the job, or None where there is none."""
        return await self._call(lambda client: client.jobs.get(name))


class AsyncRuns:
    """The namespace's ledger, awaited."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    async def list(
        self,
        *,
        job: str | None = None,
        states: Iterable[RunState | str] = (),
        causes: Iterable[Cause | str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Return entries, newest slot first; `since` and `until` bound the slot.

        No `states` are all of them, and no `causes` ("schedule", "trigger", "backfill").
        """
        which = _run_filter(states, causes, job=job, since=since, until=until, limit=limit)
        return await self._call(lambda client: client.runs.list(which))

    async def get(self, run_id: str) -> Run | None:
        """Return the entry (`JOB@SLOT`, `JOB#KEY`), or None."""
        return await self._call(lambda client: client.runs.get(run_id))

    async def output(self, run_id: str, *, attempt: int | None = None) -> Output | None:
        """Return what a run wrote, or has written so far: of an attempt, else of the last one."""
        return await self._call(lambda client: client.runs.output(run_id, attempt=attempt))

    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Wait until a run is settled, and return its entry. Raises TimeoutError after `timeout` seconds."""
        return await self._call(lambda client: client.runs.wait(run_id, timeout=timeout))

    async def cancel(self, run_id: str) -> Result:
        """Cancel a run, wherever it is: a queued one at once, a running one when its instance sees it."""
        return await self._call(lambda client: client.runs.cancel(run_id))

    async def retry(self, run_id: str) -> Result:
        """Try a run again that failed, timed out, or was cancelled or abandoned; returns its `attempt`."""
        return await self._call(lambda client: client.runs.retry(run_id))

    async def resolve(self, run_id: str, state: str = "abandoned") -> Result:
        """Say what became of an abandoned run that waits for a person: abandoned, succeeded or failed."""
        return await self._call(lambda client: client.runs.resolve(run_id, state))
