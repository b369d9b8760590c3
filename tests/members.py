"""The instances of one namespace as processes on real servers: what cluster tests and benchmarks start.

A member is a program that embeds cronexec. Its log is a file of JSON lines; what it is asked on standard
input it answers on standard output. Whoever starts the members is a client in yet another process: it sends
commands, and reads the database only to know what has come about.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from patience import PATIENCE

from cronexec.client import Client
from cronexec.connection import Connection
from cronexec.domain.job import JobDocument
from cronexec.domain.run import RunState
from cronexec.domain.term import TermRecord
from cronexec.ports import RunFilter
from cronexec.settings import Settings

STOP_TIMEOUT = 5.0  # seconds
KEEPS_UP = 3.0  # seconds: a holder whose watermark is further behind has not decided anything yet
UNSETTLED = (RunState.QUEUED, RunState.RUNNING)

T = TypeVar("T")
C = TypeVar("C", bound="Cluster")


@dataclass
class Member:
    """One instance: its process and its log."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log events with that name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def require_alive(self) -> None:
        """Raise RuntimeError, with the end of its log, if it has ended by itself."""
        if (code := self.process.poll()) is not None:
            raise RuntimeError(f"{self.name} ended with {code}: …{self.log.read_text()[-1000:]}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Cluster:
    """`members` are those that live, by name."""

    settings: Settings
    directory: Path
    client: Client
    connection: Connection
    environ: dict[str, str]
    members: dict[str, Member] = field(default_factory=dict)
    dead: list[Member] = field(default_factory=list)

    def launch(self, name: str, program: Path, *arguments: str, **variables: str) -> Member:
        """Start a member: the program, with these arguments and environment variables."""
        log = self.directory / f"{self.settings.namespace}-{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, str(program), *arguments],
                env=self.environ | {"CRONEXEC_INSTANCE": name} | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.members[name] = Member(name, process, log)
        return self.members[name]

    async def holder(self, *, other_than: str | None = None, timeout: float = PATIENCE) -> TermRecord:
        """Wait for a living holder (other than `other_than`) that keeps up with the time."""

        async def holds() -> TermRecord | None:
            record = await self.connection.store.terms.read()
            wanted = record.holder_name in self.members and record.holder_name != other_than
            return record if wanted and record.lag.total_seconds() < KEEPS_UP else None

        return await wait_for(holds, "a holder", timeout=timeout)

    async def put(self, documents: Sequence[dict[str, Any]]) -> float:
        """Put jobs through the command queue; returns the seconds that it took until all were answered."""
        parsed = [JobDocument.parse(document) for document in documents]
        started_at = time.perf_counter()
        results = await self.client.jobs.put_all(parsed)
        took = time.perf_counter() - started_at
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return took

    async def settled(self, until: datetime | None = None, *, timeout: float = 120) -> None:
        """Wait until every slot up to `until` is decided, and no run is queued or running."""

        async def is_settled() -> bool:
            if until is not None and (await self.connection.store.terms.read()).watermark < until:
                return False
            return not await self.client.runs.list(RunFilter(states=UNSETTLED, limit=1))

        await wait_for(is_settled, "every run to be settled", timeout=timeout, interval=0.5)

    async def ended(self, member: Member, *, timeout: float = PATIENCE) -> int:
        """Wait for the end of a member that was told to end; returns its exit code."""

        async def has_ended() -> bool:
            return member.process.poll() is not None

        await wait_for(has_ended, f"the end of {member.name}", timeout=timeout)
        return member.process.wait()

    def stop(self) -> None:
        """End all members in good order, those by force that take too long.

        One that is killed inside a transaction keeps its locks for a minute, and whoever drops the
        collections waiting.
        """
        for member in self.members.values():
            member.process.terminate()
        until = time.monotonic() + STOP_TIMEOUT
        for member in self.members.values():
            with suppress(subprocess.TimeoutExpired):
                member.process.wait(max(0.0, until - time.monotonic()))
        for member in [*self.members.values(), *self.dead]:
            member.end()


@asynccontextmanager
async def open_cluster(
    kind: type[C], directory: Path, *, wait: float = 30.0, **settings: str
) -> AsyncIterator[C]:
    """Yield a cluster without members; all that are started are dead afterwards.

    `wait`: how many seconds its client waits for the answer to a command.
    """
    environ = {f"CRONEXEC_{name}": value for name, value in settings.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRONEXEC_")}
    loaded = Settings.load(environ=environ)
    connection = Connection.open(loaded, name=f"cluster-{secrets.token_hex(2)}")
    client = Client(store=connection.store, broker=connection.broker, issued_by="cluster", wait=wait)
    cluster = kind(loaded, directory, client, connection, inherited | environ)
    try:
        if await connection.store.terms.prepare():
            await client.baton.reinsert()
        yield cluster
    finally:
        cluster.stop()
        await connection.close()


async def wait_for(
    condition: Callable[[], Awaitable[T | None]],
    what: str,
    *,
    timeout: float = PATIENCE,
    interval: float = 0.05,
) -> T:
    """Wait until `condition` returns something true, and return that.

    Raises TimeoutError, which says what was seen last.
    """
    seen: T | None = None
    try:
        async with asyncio.timeout(timeout):
            while not (seen := await condition()):  # noqa: ASYNC110  another process's doing is awaited
                await asyncio.sleep(interval)
    except TimeoutError:
        raise TimeoutError(f"waited {timeout:g} s for {what}; last seen: {seen!r}") from None
    return seen
