"""Jobs declared in code.

Collected by the decorator, put when the application starts, only if they differ from what is there.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from cronexec.client import Client
from cronexec.domain.job import JobDocument
from cronexec.errors import CronexecError, RefusedError, SettingsError
from cronexec.log import Log
from cronexec.runtime.service import Backoff, Wake
from cronexec.targets.handler import Handlers

Function = TypeVar("Function", bound=Callable[..., Any])


class Declarations:
    """The handlers and jobs that this application's code declares."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.documents: dict[str, JobDocument] = {}

    def handler(self, name: str) -> Callable[[Function], Function]:
        """Register a function under `name`, for jobs whose target is that handler."""

        def register(function: Function) -> Function:
            self.handlers.register(name, function)
            return function

        return register

    def job(
        self,
        name: str,
        *,
        cron: str | None = None,
        every: str | float | None = None,
        at: datetime | str | None = None,
        timezone: str | None = None,
        **fields: Any,
    ) -> Callable[[Function], Function]:
        """Declare a job whose target is the decorated function; `fields` are those of the job document.

        Raises InvalidDocumentError with every wrong field, and SettingsError for a name that is declared
        twice.
        """
        if name in self.documents:
            raise SettingsError(
                f"the job {name} is declared twice in this application: give one of them another name"
            )
        schedule = {"cron": cron, "every": every, "at": at, "timezone": timezone}
        given = {key: value for key, value in schedule.items() if value is not None}
        target = {"type": "handler", "name": name}
        self.documents[name] = JobDocument.parse(
            {"name": name, "schedule": given, "target": target, **fields}
        )
        return self.handler(name)

    async def put_all(self, client: Client, log: Log) -> None:
        """Put what differs, until all of it is there or refused; an unreachable server is waited for."""
        backoff = Backoff()
        while self.documents:
            try:
                await self._put_differing(client, log)
            except CronexecError as error:
                log.warning("job.declaration_delayed", why=str(error))
                await Wake().wait(backoff.next())
            else:
                return

    async def _put_differing(self, client: Client, log: Log) -> None:
        there = {job.name: job for job in await client.jobs.list()}
        for name, document in self.documents.items():
            job = there.get(name)
            if job is not None and job.document.to_json() == document.to_json() and job.declared:
                continue
            try:
                result = await client.jobs.put(document, declared=True)
            except RefusedError as refused:
                log.error("job.declaration_refused", job=name, code=refused.code, why=str(refused))  # noqa: TRY400
            else:
                log.info("job.declared", job=name, version=result["version"], changed=result["changed"])
