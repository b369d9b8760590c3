"""`cron.jobs` and `cron.runs` as applications see them: the client's calls, carried to the engine and back.

From a synchronous application they wait in the calling thread, from an asynchronous one they are awaited;
nothing else differs.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from cronexec.client import Client
from cronexec.domain.job import Job, JobDocument
from cronexec.domain.run import Run
from cronexec.ports import RunFilter

T = TypeVar("T")
Document = Mapping[str, Any] | JobDocument
Result = Mapping[str, Any]


class Call(Protocol):
    """Performs a piece of the client's work on the engine and waits for it."""

    def __call__(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T: ...


class AsyncCall(Protocol):
    """The same, to be awaited."""

    def __call__(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> Awaitable[T]: ...


class SyncJobs:
    """The namespace's jobs.

    Changes raise RefusedError, NotYetAppliedError or UnreachableError; documents InvalidDocumentError.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def put(self, document: Document, *, if_version: int | None = None) -> Result:
        return self._call(lambda client: client.jobs.put(document, if_version=if_version))

    def delete(self, name: str, *, if_version: int | None = None) -> Result:
        return self._call(lambda client: client.jobs.delete(name, if_version=if_version))

    def pause(self, name: str) -> Result:
        return self._call(lambda client: client.jobs.pause(name))

    def resume(self, name: str) -> Result:
        return self._call(lambda client: client.jobs.resume(name))

    def trigger(
        self, name: str, *, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Result:
        return self._call(lambda client: client.jobs.trigger(name, params=params, key=key))

    def list(self) -> list[Job]:
        return self._call(lambda client: client.jobs.list())

    def get(self, name: str) -> Job | None:
        return self._call(lambda client: client.jobs.get(name))


class SyncRuns:
    """The namespace's ledger."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def list(self, which: RunFilter | None = None) -> list[Run]:
        return self._call(lambda client: client.runs.list(which))

    def get(self, run_id: str) -> Run | None:
        return self._call(lambda client: client.runs.get(run_id))

    def cancel(self, run_id: str) -> Result:
        return self._call(lambda client: client.runs.cancel(run_id))


class AsyncJobs:
    """The namespace's jobs, awaited."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    async def put(self, document: Document, *, if_version: int | None = None) -> Result:
        return await self._call(lambda client: client.jobs.put(document, if_version=if_version))

    async def delete(self, name: str, *, if_version: int | None = None) -> Result:
        return await self._call(lambda client: client.jobs.delete(name, if_version=if_version))

    async def pause(self, name: str) -> Result:
        return await self._call(lambda client: client.jobs.pause(name))

    async def resume(self, name: str) -> Result:
        return await self._call(lambda client: client.jobs.resume(name))

    async def trigger(
        self, name: str, *, params: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Result:
        return await self._call(lambda client: client.jobs.trigger(name, params=params, key=key))

    async def list(self) -> list[Job]:
        return await self._call(lambda client: client.jobs.list())

    async def get(self, name: str) -> Job | None:
        return await self._call(lambda client: client.jobs.get(name))


class AsyncRuns:
    """The namespace's ledger, awaited."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    async def list(self, which: RunFilter | None = None) -> list[Run]:
        return await self._call(lambda client: client.runs.list(which))

    async def get(self, run_id: str) -> Run | None:
        return await self._call(lambda client: client.runs.get(run_id))

    async def cancel(self, run_id: str) -> Result:
        return await self._call(lambda client: client.runs.cancel(run_id))
