"""Jobs declared in code: collected by the decorator, put when the application starts, only if they differ.

However many instances start at once, a job gets one new version: the holder applies commands in order, and
one that changes nothing makes no version. What cannot be sent is tried again, with backoff. Modules that are
imported after `start()` may declare jobs, too.

While two releases run side by side the later one's declaration is put once, and the earlier release leaves it
alone however often it is started, for as long as an instance of the later one lives (`domain.declaration`).
What the holder refuses is logged, and the application goes on without it: a holder of another release may not
know a field that this one declares, so it is sent again to the next holder.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from cronexec.declared_put import LOOK_AGAIN_AFTER, Putting
from cronexec.domain.declaration import digest
from cronexec.domain.job import HandlerTarget, JobDocument
from cronexec.errors import SettingsError
from cronexec.log import Log
from cronexec.runtime.service import Wake
from cronexec.targets.handler import Handlers

if TYPE_CHECKING:  # it loads what only a started instance needs
    from cronexec.client import Client

Function = TypeVar("Function", bound=Callable[..., Any])


class Declarations:
    """The handlers and jobs that this application's code declares."""

    def __init__(self) -> None:
        self.handlers = Handlers()
        self.documents: dict[str, JobDocument] = {}
        self._digests: list[str] = []
        self._declared: Callable[[], object] = lambda: None

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

        `jitter`, `exclude`, `dst`, `start`, `end` and `anchor` are the schedule's, `isolation="process"` and
        `kill_after` the target's.

        Raises InvalidDocumentError with every wrong field, SettingsError for a name that is declared twice.
        """
        if name in self.documents:
            raise SettingsError(
                f"the job {name} is declared twice in this application: give one of them another name"
            )
        schedule: dict[str, Any] = {"cron": cron, "every": every, "at": at, "timezone": timezone}
        schedule |= _taken_out(fields, "jitter", "exclude", "dst", "start", "end", "anchor")
        given = {key: value for key, value in schedule.items() if value is not None}
        target = {"type": "handler", "name": name} | _taken_out(fields, "isolation", "kill_after")
        document = JobDocument.parse({"name": name, "schedule": given, "target": target, **fields})

        isolated = isinstance(document.target, HandlerTarget) and document.target.isolation is not None

        def declare(function: Function) -> Function:
            self.handlers.register(name, function, isolated=isolated)
            self._digests.append(digest(document))
            self.documents[name] = document
            self._declared()
            return function

        return declare

    def digests(self) -> Sequence[str]:
        """Return the digests of what is declared by now."""
        return tuple(self._digests)

    async def keep_put(
        self, client: "Client", log: Log, *, lost_after: timedelta = timedelta(minutes=1)
    ) -> None:
        """Put what differs, now and whenever more is declared; on the engine's loop, until cancelled.

        `lost_after`: when an instance without a heartbeat is taken for lost.
        """
        more, loop = Wake(), asyncio.get_running_loop()
        self._declared = lambda: loop.is_closed() or loop.call_soon_threadsafe(more.set)
        putting = Putting(client, log, lost_after)
        while True:
            await putting.put_until_answered(dict(self.documents))
            await more.wait(LOOK_AGAIN_AFTER if putting.has_waiting else None)


def _taken_out(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields.pop(name) for name in names if name in fields}
