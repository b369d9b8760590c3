"""`cronexec dev`: servers, companions, instances, jobs, view; started in this order, stopped in reverse.

```
Development ── Servers (RabbitMQ, MongoDB)     private, or given by URL
   ├────────── companions                      what the jobs need, e.g. a receiver of webhooks
   ├────────── Cluster ── cronexec serve …     N processes, started again when killed
   └────────── Watch                           the live view, or a line every few seconds
```

The first SIGINT or SIGTERM stops everything in good order, the second one (and SIGHUP, when the terminal is
gone) kills everything and ends at once. All children are in sessions of their own, so a Ctrl-C of the
terminal reaches only us, and they die with us however we die (`processes`). A start that is under way when
the first signal arrives is cut off, not waited for.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from cronexec.client import Client
from cronexec.connection import Connection
from cronexec.dev.cluster import Cluster, inherited_environment, places, serve_command
from cronexec.dev.devfile import split_command
from cronexec.dev.directory import DataDirectory
from cronexec.dev.processes import ChildProcess
from cronexec.dev.servers import Servers
from cronexec.domain.duration import format_duration
from cronexec.domain.job import JobDocument
from cronexec.domain.term import TermRecord
from cronexec.errors import CronexecError
from cronexec.settings import Settings

T = TypeVar("T")
HOLDER_TIMEOUT = timedelta(seconds=60)
PUT_TIMEOUT = timedelta(seconds=60)
LOOK_INTERVAL = timedelta(milliseconds=100)
COMPANION_STOP_TIMEOUT = timedelta(seconds=3)
SHUTDOWN_GRACE = "5s"
IMPATIENT = {  # what a killed instance ran is to be abandoned while one still looks, and before the next kill
    "baton_lost_after": timedelta(seconds=11),
    "instance_lost_after": timedelta(seconds=12),
}
PUT_AT_ONCE = 500
ENDED_BY_SIGNAL = 130


class DevelopmentError(Exception):
    """`dev` cannot go on: an instance ended by itself, or the jobs could not be put. The message says why."""


class StopRequestedError(Exception):
    """A signal asks to stop."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to start.

    `app`: MODULE:NAME, found in `folder`, where `commands` are started too. `config`: a TOML file with
    settings.
    """

    jobs: Sequence[JobDocument] = ()
    instances: int = 3
    app: str | None = None
    commands: Sequence[str] = ()
    folder: Path
    allow_shell: bool = True
    namespace: str | None = None
    config: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Running:
    """What runs, for the watch: the instances, a client, and how to reach the servers."""

    cluster: Cluster
    connection: Connection
    client: Client
    companions: Sequence[ChildProcess]
    env_file: Path


Watching = Callable[[Running], Coroutine[Any, Any, None]]


class Development:
    """One `cronexec dev`. `say` prints a line."""

    def __init__(
        self, plan: Plan, *, directory: DataDirectory, servers: Servers, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._servers = servers
        self._say = say
        self._settings = self._load_settings()
        self._signals = 0
        self._stop_requested = asyncio.Event()
        self._cluster = self._make_cluster()
        self._companions = [
            self._make_companion(number, each) for number, each in enumerate(plan.commands, 1)
        ]
        self.on_stop: Callable[[], None] = lambda: None  # leaves the view, so that what is said can be read

    async def run(self, watch: Watching) -> None:
        """Start everything, `watch` until that returns or a signal comes, stop everything.

        Raises ServerStartError, DevelopmentError, CronexecError.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        loop.add_signal_handler(signal.SIGHUP, self._end_now)
        try:
            with contextlib.suppress(StopRequestedError):
                await self._perform(watch)
        finally:
            await self._stop()

    async def _perform(self, watch: Watching) -> None:
        await self._start_servers()
        for companion in self._companions:
            companion.start()
        self._cluster.start()
        env_file = self._directory.write_environment(self._variables())
        connection = Connection.open(self._settings, name="dev")
        try:
            client = Client(
                store=connection.store,
                broker=connection.broker,
                issued_by="cronexec dev",
                wait=PUT_TIMEOUT.total_seconds(),
            )
            await self._unless_stopped(self._wait_for_holder(connection))
            await self._unless_stopped(self._put_jobs(client))
            self._tell_usage()
            running = Running(
                cluster=self._cluster,
                connection=connection,
                client=client,
                companions=self._companions,
                env_file=env_file,
            )
            await self._unless_stopped(watch(running))
        finally:
            await connection.close()

    async def _start_servers(self) -> None:
        private = [each for each in (self._servers.rabbitmq, self._servers.mongo) if each]
        if not private:
            self._say(f"using the given broker and database, namespace {self._settings.namespace}")
            return
        self._say(f"starting {self._names_of_servers()} in {self._directory.path}")
        began = time.monotonic()
        starting = asyncio.ensure_future(asyncio.to_thread(self._servers.start))
        try:
            await self._unless_stopped(asyncio.shield(starting))
        except StopRequestedError:
            await self._cut_off(starting)
            raise
        self._say(f"{self._names_of_servers()} ready after {time.monotonic() - began:.1f} s")

    async def _cut_off(self, starting: "asyncio.Future[Servers]") -> None:
        """Kill what a start that is under way has started, again and again until it gives up."""
        while not starting.done():
            await asyncio.to_thread(self._servers.kill)
            await asyncio.wait({starting}, timeout=LOOK_INTERVAL.total_seconds())
        if starting.exception() is None:
            await asyncio.to_thread(self._servers.kill)

    def _names_of_servers(self) -> str:
        known = (("RabbitMQ", self._servers.rabbitmq), ("MongoDB", self._servers.mongo))
        return " and ".join(f"{name} {server.version}".strip() for name, server in known if server)

    async def _wait_for_holder(self, connection: Connection) -> None:
        """Wait until the term moves: somebody holds, and it is not only the record of an earlier term.

        Raises DevelopmentError when an instance ends instead, or nobody holds in time.
        """
        self._say("starting the instances " + ", ".join(self._cluster.members))
        began = time.monotonic()
        first: TermRecord | None = None
        problem = ""
        while time.monotonic() - began < HOLDER_TIMEOUT.total_seconds():
            if ended := self._cluster.ended():
                raise DevelopmentError(ended)
            try:
                term = await connection.store.terms.read()
            except CronexecError as error:  # the instances have not made the collections yet
                problem = f" ({error})"
            else:
                first = first or term
                if term.seq != first.seq and term.holder_name:
                    self._say(f"{term.holder_name} holds the baton after {time.monotonic() - began:.1f} s")
                    return
            await asyncio.sleep(LOOK_INTERVAL.total_seconds())
        raise DevelopmentError(
            f"nobody holds the baton after {HOLDER_TIMEOUT.total_seconds():g} s{problem}; "
            f"the instances' logs are in {self._directory.path / 'instances'}"
        )

    async def _put_jobs(self, client: Client) -> None:
        began = time.monotonic()
        for start in range(0, len(self._plan.jobs), PUT_AT_ONCE):
            part = self._plan.jobs[start : start + PUT_AT_ONCE]
            for document, result in zip(part, await client.jobs.put_all(part), strict=True):
                if isinstance(result, BaseException):
                    raise DevelopmentError(f"the job {document.name} could not be put: {result}") from result
        if self._plan.jobs:
            self._say(f"{len(self._plan.jobs)} jobs put in {time.monotonic() - began:.1f} s")

    def _tell_usage(self) -> None:
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in self._variables().items())
        self._say(f"in another terminal:\n  export {exports}\n  cronexec job list")

    async def _stop(self) -> None:
        """Instances first, so that they can record what they finish; then what they use."""
        self._leave_view()
        self._tell("stopping (again to end at once)")
        await asyncio.to_thread(self._cluster.stop)
        for companion in self._companions:
            await asyncio.to_thread(companion.stop, timeout=COMPANION_STOP_TIMEOUT)
        await asyncio.to_thread(self._servers.stop)
        kept = f"; the data is in {self._directory.path}" if self._directory.kept else ""
        self._tell(f"everything has stopped{kept}")

    def _tell(self, line: str) -> None:
        """Print a line while stopping, which goes on when nobody is there to read it."""
        with contextlib.suppress(OSError):
            self._say(line)

    def _leave_view(self) -> None:
        with contextlib.suppress(OSError):
            self.on_stop()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            self._end_now()
        self._stop_requested.set()

    def _end_now(self) -> None:
        """Kill everything and end. Not by an exception: threads that wait for a child would hold us."""
        try:
            self._cluster.kill_all()
            for companion in self._companions:
                companion.kill()
            self._servers.kill()
            self._directory.close()
            self._leave_view()
            sys.stdout.flush()
        finally:
            os._exit(ENDED_BY_SIGNAL)

    async def _unless_stopped(self, work: Awaitable[T]) -> T:
        """Return what `work` returns. Raises StopRequestedError as soon as a signal asks to stop."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop_requested.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise StopRequestedError
        finally:
            stop.cancel()
            task.cancel()
            await asyncio.wait({task})

    def _load_settings(self) -> Settings:
        return Settings.load(
            self._plan.config,
            amqp_urls=self._servers.amqp_url,
            mongo_url=self._servers.mongo_url,
            namespace=self._plan.namespace,
        )

    def _variables(self) -> dict[str, str]:
        variables = {
            "CRONEXEC_AMQP_URL": self._servers.amqp_url,
            "CRONEXEC_MONGO_URL": self._servers.mongo_url,
        }
        namespace = {"CRONEXEC_NAMESPACE": self._plan.namespace} if self._plan.namespace else {}
        return variables | namespace

    def _environment(self) -> dict[str, str]:
        """Return what all children have: where the servers are, the modules of `folder`, our Python."""
        paths = [str(self._plan.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        programs = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        config = {"CRONEXEC_CONFIG": str(self._plan.config.absolute())} if self._plan.config else {}
        return {
            **self._variables(),
            **config,
            "PYTHONPATH": os.pathsep.join(paths),
            "PATH": os.pathsep.join(programs),
            "PYTHONUNBUFFERED": "1",
        }

    def _make_cluster(self) -> Cluster:
        own = {
            "CRONEXEC_ALLOW_SHELL": "true" if self._plan.allow_shell else "false",
            "CRONEXEC_SHUTDOWN_GRACE": SHUTDOWN_GRACE,
            **self._impatience(),
        }
        return Cluster(
            places(self._plan.instances),
            command=serve_command(self._plan.app),
            environment=self._environment() | own,
            directory=self._directory.path / "instances",
        )

    def _impatience(self) -> dict[str, str]:
        """Return `IMPATIENT` as variables, or nothing where one of these, or the lease, is set already."""
        defaults = Settings.model_fields
        if any(getattr(self._settings, name) != defaults[name].default for name in ("lease", *IMPATIENT)):
            return {}
        return {f"CRONEXEC_{name.upper()}": format_duration(length) for name, length in IMPATIENT.items()}

    def _make_companion(self, number: int, command: str) -> ChildProcess:
        words = split_command(command)
        name = f"with-{number}"
        environment = inherited_environment(self._environment())
        return ChildProcess(
            name, words, log=self._directory.path / f"{name}.log", env=environment, cwd=self._plan.folder
        )
