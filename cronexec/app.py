"""What an application embeds: `Cronexec` for synchronous ones, `AsyncCronexec` for those with an event loop. The only place that wires parts together.

```
application ──start()──▶ Engine (thread + loop) ──▶ Instance ──▶ Connection (RabbitMQ, MongoDB), Targets
            ◀─handlers run on the application's loop, on a handler loop of our own, or in threads: never on the engine's─┘
```

`start()` installs no signal handlers, configures no logging, and does not wait for the servers: an
application never fails to start because of its cron jobs. Nothing is connected at import. A forked child
(gunicorn --preload) is no instance until it calls `start()` itself.
"""

import asyncio
import atexit
import os
import socket
import threading
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cronexec.client import Client
from cronexec.connection import Connection
from cronexec.declared import Declarations, Function
from cronexec.domain.run import Executor
from cronexec.errors import SettingsError
from cronexec.facade import AsyncJobs, AsyncRuns, SyncJobs, SyncRuns
from cronexec.log import get_logger
from cronexec.runtime.context import Context
from cronexec.runtime.engine import Engine
from cronexec.runtime.instance import Health, Instance
from cronexec.runtime.service import Service
from cronexec.settings import Settings
from cronexec.targets import Targets

T = TypeVar("T")
EXIT_TIMEOUT = 2.0
COMPARED = ("cronexec", "croniter", "tzdata")  # two instances that differ here may compute different slots


@dataclass(frozen=True, kw_only=True)
class _Assembly:
    """The parts of a started instance."""

    connection: Connection
    targets: Targets
    instance: Instance
    client: Client
    declaring: Service


def _assemble(
    settings: Settings, declarations: Declarations, handler_loop: asyncio.AbstractEventLoop | None
) -> _Assembly:
    """Make everything, on the engine's loop; nothing is connected yet."""
    executor = Executor(
        id=uuid.uuid4().hex,
        name=settings.instance or f"{socket.gethostname()}-{os.getpid()}",
        datacenter=settings.datacenter,
    )
    log = get_logger(instance=executor.name, namespace=settings.namespace)
    for warning in settings.warnings:
        log.warning("settings.warning", why=warning)
    connection = Connection.open(settings, name=executor.name)
    publisher = connection.broker.publisher()
    targets = Targets.build(
        settings, handlers=declarations.handlers, publisher=publisher, handler_loop=handler_loop
    )
    context = Context(
        executor=executor,
        settings=settings,
        clock=connection.clock,
        store=connection.store,
        broker=connection.broker,
        publisher=publisher,
        targets=targets,
        log=log,
        versions={package: version(package) for package in COMPARED},
    )
    client = Client(
        store=connection.store, broker=connection.broker, issued_by=f"{executor.name} (application)"
    )
    declaring = Service("declarations", lambda: declarations.put_all(client, log), log)
    return _Assembly(
        connection=connection,
        targets=targets,
        instance=Instance(context),
        client=client,
        declaring=declaring,
    )


class _Embedded:
    """What both flavours share: declarations, and an instance on an engine of its own."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()
        self._declarations = Declarations()
        self._engine = Engine()
        self._assembly: _Assembly | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_env(cls, file: Path | None = None, **overrides: Any) -> Self:
        """Make one from `CRONEXEC_…` variables, and a TOML file where there is one; raises SettingsError."""
        return cls(Settings.load(file, **overrides))

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
        """Declare a job that calls the decorated function, async or not, with a `Run`.

        The schedule is `cron` (with `timezone`, default UTC), `every` ("15m") or `at`; `fields` are those of
        the job document (`timeout="10m"`, `overlap="skip"`, `params={…}` …). Raises InvalidDocumentError with
        every wrong field.
        """
        return self._declarations.job(name, cron=cron, every=every, at=at, timezone=timezone, **fields)

    def handler(self, name: str) -> Callable[[Function], Function]:
        """Register the decorated function for jobs that are put by others with `target.

        {type: handler, name: …}`.
        """
        return self._declarations.handler(name)

    def health(self) -> Health:
        """Return what this instance knows of itself and of the schedule.

        Asks nobody, never raises once started.
        """
        return self._started().instance.health()

    def _started(self) -> _Assembly:
        if self._assembly is None or not self._engine.is_running:
            raise SettingsError("cronexec is not started in this process: call start() first")
        return self._assembly

    def _start(self, handler_loop: asyncio.AbstractEventLoop | None) -> None:
        with self._lock:
            if self._engine.is_running:
                return
            self._engine = Engine()  # one that a parent process started did not survive the fork
            self._engine.start()
            try:
                self._assembly = self._engine.call(self._open(handler_loop))
            except BaseException:
                self._engine.stop()
                raise

    async def _open(self, handler_loop: asyncio.AbstractEventLoop | None) -> _Assembly:
        assembly = _assemble(self.settings, self._declarations, handler_loop)
        assembly.instance.start()
        assembly.declaring.start()
        return assembly

    async def _close(self, grace: float) -> bool:
        assembly = self._started()
        await assembly.declaring.stop()
        finished = await assembly.instance.stop(grace)
        await assembly.targets.close()
        await assembly.connection.close()
        return finished

    def _grace(self, grace: float | None) -> float:
        return self.settings.shutdown_grace.total_seconds() if grace is None else grace


class Cronexec(_Embedded):
    """An instance inside a synchronous application. Methods may be called from any thread."""

    @property
    def jobs(self) -> SyncJobs:
        return SyncJobs(self._call)

    @property
    def runs(self) -> SyncRuns:
        return SyncRuns(self._call)

    def start(self) -> None:
        """Begin to compete for the baton, in the background. Idempotent; does not wait for the servers."""
        self._start(None)
        atexit.register(self._at_exit)

    def stop(self, grace: float | None = None) -> bool:
        """Hand over the baton, let what runs here finish within `grace` seconds (default `shutdown_grace`), and end.

        Returns whether nothing was cut off. Idempotent.
        """
        with self._lock:
            if not self._engine.is_running:
                return True
            atexit.unregister(self._at_exit)
            finished = self._engine.call(self._close(self._grace(grace)))
            self._engine.stop()
            self._assembly = None
            return finished

    def _at_exit(self) -> None:
        """Give the baton back when the interpreter ends without `stop`.

        Bounded, because somebody waits for the exit.
        """
        if self._engine.is_running:
            try:
                self._engine.call(self._close(0.0), EXIT_TIMEOUT)
            except TimeoutError:
                pass

    def _call(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        return self._engine.call(work(self._started().client))


class AsyncCronexec(_Embedded):
    """An instance inside an asynchronous application: `async with AsyncCronexec.from_env() as cron`.

    Async handlers run on the loop that entered it. Methods are awaited, on any loop.
    """

    @property
    def jobs(self) -> AsyncJobs:
        return AsyncJobs(self._call)

    @property
    def runs(self) -> AsyncRuns:
        return AsyncRuns(self._call)

    async def start(self) -> None:
        """Begin to compete for the baton, in the background. Idempotent; does not wait for the servers."""
        self._start(asyncio.get_running_loop())

    async def stop(self, grace: float | None = None) -> bool:
        """Hand over the baton, let what runs here finish within `grace` seconds (default `shutdown_grace`), and end.

        Returns whether nothing was cut off. Idempotent.
        """
        if not self._engine.is_running:
            return True
        finished = await self._engine.call_async(self._close(self._grace(grace)))
        self._engine.stop()
        self._assembly = None
        return finished

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _call(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        return await self._engine.call_async(work(self._started().client))
