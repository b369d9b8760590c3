"""What an application embeds: `Cronexec` for synchronous ones, `AsyncCronexec` for those with an event loop.

```
application ──start()──▶ Engine (thread + loop) ──▶ Assembly: instance, connection, targets
     ◀── handlers: on the application's loop, on a handler loop of our own, or in threads ──┘
```

`start()` installs no signal handlers, configures no logging, and does not wait for the servers: an
application never fails to start because of its cron jobs. Nothing is connected at import. A forked child
(gunicorn --preload) is no instance until it calls `start()` itself; what it inherited is its parent's.

Stopping is work on the engine, which goes on whatever becomes of the caller: a Ctrl-C or a cancelled task
ends the waiting, not the stop. A handler that stops its own instance does not wait at all, because the stop
waits for it. A process that ends without `stop()` gives the baton back within `EXIT_TIMEOUT`.
"""

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cronexec.declared import Declarations, Function
from cronexec.errors import CronexecError
from cronexec.facade import AsyncJobs, AsyncRuns, SyncJobs, SyncRuns
from cronexec.runtime.engine import NOT_STARTED, Engine
from cronexec.settings import Settings
from cronexec.targets.handler_worker import Worker

if TYPE_CHECKING:  # these load the drivers, which only `start` needs
    from cronexec.assembly import Assembly
    from cronexec.client import Client
    from cronexec.runtime.instance import Health, Instance

T = TypeVar("T")
EXIT_TIMEOUT = 2.0
EXIT_GRACE = 1.0


class _Embedded:
    """What both flavours share: declarations, and an instance on an engine of its own."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()
        self._declarations = Declarations()
        self._engine = Engine()
        self._assembly: Assembly | None = None
        self._is_stopping = False
        self._lock = threading.Lock()

    @classmethod
    def from_env(cls, file: Path | None = None, **overrides: Any) -> Self:
        """Make one from `CRONEXEC_…` variables, and a TOML file where there is one.

        `overrides` are settings by name, stronger than both. Raises SettingsError with every wrong one.
        """
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

        The schedule is `cron` (with `timezone`, default UTC), `every` ("15m", or seconds) or `at`; `fields`
        are those of the job document (`timeout="10m"`, `overlap="skip"`, `params={…}` …), of its schedule
        (`jitter="5m"`, `dst={…}` …) and of its target (`isolation="process"`). The job is put when the
        instance starts, if it differs from what is there. Raises InvalidDocumentError with every wrong field.

        ```python
        @cron.job("close-league", cron="0 3 * * *", timezone="Europe/Amsterdam", timeout="10m")
        def close_league(run: Run) -> None: ...
        ```
        """
        return self._declarations.job(name, cron=cron, every=every, at=at, timezone=timezone, **fields)

    def handler(self, name: str) -> Callable[[Function], Function]:
        """Register the decorated function, for jobs whose target is `{type: handler, name: …}`."""
        return self._declarations.handler(name)

    def health(self) -> "Health":
        """Return what this instance knows of itself and of the schedule. Asks nobody, and never raises."""
        assembly = self._assembly
        if assembly is not None and self._engine.is_running:
            return assembly.instance.health()
        from cronexec.runtime.instance import Health  # noqa: PLC0415  as below

        return Health(
            state="stopped",
            instance=self.settings.instance or "",
            epoch=None,
            holder=None,
            lag_s=None,
            running=0,
            database="not started",
            broker="not started",
        )

    @property
    def _client(self) -> "Client":
        return self._started.client

    @property
    def _instance(self) -> "Instance":
        return self._started.instance

    @property
    def _started(self) -> "Assembly":
        if self._assembly is None or not self._engine.is_running:
            raise RuntimeError(NOT_STARTED)
        return self._assembly

    def _start(self, handler_loop: asyncio.AbstractEventLoop | None) -> None:
        if Worker.current is not None:  # the process of an isolated handler imported the application
            return
        from cronexec.assembly import Assembly  # noqa: PLC0415  loads the drivers

        with self._lock:
            if self._engine.is_running:
                if self._is_stopping:
                    raise RuntimeError("cronexec is stopping: start it again when stop() has returned")
                return
            engine = Engine()  # one that a parent process started did not survive the fork
            engine.start()
            try:
                self._assembly = engine.call(Assembly.open(self.settings, self._declarations, handler_loop))
            except BaseException:
                engine.stop()
                raise
            self._engine, self._is_stopping = engine, False
            atexit.register(self._at_exit)

    def _begin_stop(self, grace: float | None) -> Future[bool] | None:
        """Begin to stop, or shorten the grace of a stop that is under way. None: it is not running here."""
        if not self._engine.is_running:
            return None
        self._is_stopping = True
        seconds = self.settings.shutdown_grace.total_seconds() if grace is None else grace
        with contextlib.suppress(RuntimeError):  # it has ended in between
            return self._engine.submit(self._close(seconds))
        return None

    async def _close(self, grace: float) -> bool:
        """Close everything and end the engine, on which this runs."""
        engine, assembly = self._engine, self._assembly
        try:
            return assembly is None or await assembly.close(grace)
        finally:
            engine.stop()

    def _at_exit(self) -> None:
        """Give the baton back when the interpreter ends without `stop`; bounded: somebody waits for it."""
        stopping = self._begin_stop(EXIT_GRACE)
        if stopping is not None:
            with contextlib.suppress(TimeoutError, CancelledError):
                stopping.result(EXIT_TIMEOUT)
            self._engine.stop()
            self._engine.join(EXIT_TIMEOUT / 10)


class Cronexec(_Embedded):
    """An instance inside a synchronous application. Methods may be called from any thread.

    ```python
    cron = Cronexec.from_env()

    @cron.job("tidy-up", every="15m")
    def tidy_up(run: Run) -> None:
        run.print("done")

    cron.start()                                          # in the server's process, after any fork
    cron.jobs.trigger("tidy-up")
    cron.runs.list(job="tidy-up", limit=5)
    cron.stop()                                           # hands over the baton, lets runs finish
    ```
    """

    @property
    def jobs(self) -> SyncJobs:
        """The namespace's jobs."""
        return SyncJobs(self._call)

    @property
    def runs(self) -> SyncRuns:
        """The namespace's ledger."""
        return SyncRuns(self._call)

    def start(self) -> None:
        """Begin to compete for the baton, in the background. Idempotent; does not wait for the servers.

        Raises SettingsError for a setting that cannot be used.
        """
        self._start(None)

    def stop(self, grace: float | None = None) -> bool:
        """Hand over the baton, let runs finish within `grace` seconds (default `shutdown_grace`), and end.

        Returns whether nothing was cut off. Idempotent; called again while it lasts, it can shorten the
        grace. In a handler of this very instance it does not wait, and returns False.
        """
        stopping = self._begin_stop(grace)
        if stopping is None:
            return True
        if self._engine.is_caller:
            return False
        engine, finished = self._engine, True
        with contextlib.suppress(CancelledError):  # the engine ended before it looked at this call
            finished = stopping.result()
        engine.join()
        atexit.unregister(self._at_exit)
        return finished

    def drain(self) -> None:
        """Hand over the baton and take nothing new; what runs goes on. `health().state` becomes "drained".

        Until `undrain`, or the end of the process. Raises RuntimeError where cronexec is not started in it.
        """
        self._engine.call(self._instance.drain.begin("application"))

    def undrain(self) -> None:
        """Take part again."""
        self._engine.call(self._instance.drain.end("application"))

    def _call(self, work: "Callable[[Client], Coroutine[Any, Any, T]]") -> T:
        try:
            return self._engine.call(work(self._client))
        except CronexecError as error:
            raise error.with_traceback(None)  # noqa: B904  it is the same error, without the engine's frames


class AsyncCronexec(_Embedded):
    """An instance inside an asynchronous application. Methods are awaited, on any loop.

    Async handlers run on the loop that entered it, others in threads.

    ```python
    cron = AsyncCronexec.from_env()

    @cron.job("tidy-up", every="15m")
    async def tidy_up(run: Run) -> None:
        await run.progress(1, 1)

    async with cron:
        await cron.jobs.trigger("tidy-up")
        await cron.runs.list(job="tidy-up", limit=5)
    ```
    """

    @property
    def jobs(self) -> AsyncJobs:
        """The namespace's jobs."""
        return AsyncJobs(self._call)

    @property
    def runs(self) -> AsyncRuns:
        """The namespace's ledger."""
        return AsyncRuns(self._call)

    async def start(self) -> None:
        """Begin to compete for the baton, in the background. Idempotent; does not wait for the servers.

        Raises SettingsError for a setting that cannot be used.
        """
        await asyncio.to_thread(self._start, asyncio.get_running_loop())

    async def stop(self, grace: float | None = None) -> bool:
        """Hand over the baton, let runs finish within `grace` seconds (default `shutdown_grace`), and end.

        Returns whether nothing was cut off. Idempotent; called again while it lasts, it can shorten the
        grace. In a handler of this very instance it does not wait, and returns False.
        """
        stopping = self._begin_stop(grace)
        if stopping is None:
            return True
        if self._engine.is_caller:
            return False
        engine, waiting = self._engine, asyncio.wrap_future(stopping)
        await asyncio.wait({waiting})  # which a cancelled caller leaves alone
        await engine.wait_ended()
        atexit.unregister(self._at_exit)
        return waiting.cancelled() or waiting.result()

    async def drain(self) -> None:
        """Hand over the baton and take nothing new; what runs goes on. `health().state` becomes "drained".

        Until `undrain`, or the end of the process. Raises RuntimeError where cronexec is not started in it.
        """
        await self._engine.call_async(self._instance.drain.begin("application"))

    async def undrain(self) -> None:
        """Take part again."""
        await self._engine.call_async(self._instance.drain.end("application"))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _call(self, work: "Callable[[Client], Coroutine[Any, Any, T]]") -> T:
        try:
            return await self._engine.call_async(work(self._client))
        except CronexecError as error:
            raise error.with_traceback(None)  # noqa: B904  it is the same error, without the engine's frames
