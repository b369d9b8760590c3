"""Instances as processes on real servers, a namespace for each measurement.

The benchmark itself is a client in yet another process. What handlers noted is asked from the members;
the database is only read to know when to ask.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pika
from pymongo import AsyncMongoClient

from cronexec.client import Client
from cronexec.connection import Connection
from cronexec.domain.job import JobDocument
from cronexec.domain.run import RunState
from cronexec.domain.term import TermRecord
from cronexec.ports import RunFilter
from cronexec.settings import Settings

MEMBER = Path(__file__).with_name("member.py")
QUEUES = ("baton", "commands", "commands.rejected")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
WARM_UP = 2.0  # seconds from an instance's first heartbeat until it surely stands by
COMMAND_WAIT = 300.0  # seconds: how long a command may take is measured, not limited

T = TypeVar("T")


class Noted(NamedTuple):
    """What a handler noted at its first line: `slot` and `begun_at` in seconds since 1970."""

    job: str
    slot: float
    attempt: int
    begun_at: float

    @property
    def lateness(self) -> float:
        return self.begun_at - self.slot


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

    async def noted(self) -> list[Noted]:
        """Return what its handlers noted since this was asked last."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> list[Noted]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("evidence\n")
        stdin.flush()
        return [Noted(*values) for values in json.loads(stdout.readline())]

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def resident_mb(self) -> float:
        """Return the memory that the process has in use (Linux), in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kib) * 1024 / 1e6

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

    def start(self, name: str) -> Member:
        log = self.directory / f"{self.settings.namespace}-{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, str(MEMBER)],
                env=self.environ | {"CRONEXEC_INSTANCE": name},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.members[name] = Member(name, process, log)
        return self.members[name]

    async def start_three(self) -> Member:
        """Start a holder, and two standbys once it holds. Returns the holder."""
        self.start("a")
        holder = await self.holder()
        self.start("b")
        self.start("c")
        await self.standing_by()
        return holder

    async def holder(self) -> Member:
        """Wait for a living holder that keeps up with the time."""

        async def holds() -> Member | None:
            record = await self.connection.store.terms.read()
            member = self.members.get(record.holder_name or "")
            return member if record.lag.total_seconds() < 3 else None

        return await wait_for(holds, "a holder")

    async def standing_by(self) -> None:
        """Wait until every member has announced itself and had the time to connect and to read the jobs.

        The broker does not tell how many stand by: behind a single active consumer it counts one.
        """

        async def announced() -> bool:
            there = {record.executor.name for record in await self.client.instances()}
            for member in self.members.values():
                member.require_alive()
            missing.clear()
            missing.update(self.members.keys() - there)
            return not missing

        missing: set[str] = set()
        await wait_for(announced, "all members", missing)
        await asyncio.sleep(WARM_UP)

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

    async def settled(self, until: datetime | None = None) -> None:
        """Wait until every slot up to `until` is decided, and no run is queued or running."""

        async def is_settled() -> bool:
            record = await self.connection.store.terms.read()
            states = (RunState.QUEUED, RunState.RUNNING)
            unsettled = await self.client.runs.list(RunFilter(states=states, limit=1))
            return (until is None or record.watermark >= until) and not unsettled

        await wait_for(is_settled, "every run to be settled", interval=0.5)

    async def noted(self) -> list[Noted]:
        """Return what the handlers of all members noted since this was asked last."""
        return [line for member in self.members.values() for line in await member.noted()]

    async def sleep_until(self, instant: datetime) -> None:
        await asyncio.sleep(max(0.0, (instant - self.connection.clock.now()).total_seconds()))

    async def watch_term(self, changed: Callable[[TermRecord], bool]) -> TermRecord:
        """Read the term document in quick succession until it is as wanted."""

        async def look() -> TermRecord | None:
            record = await self.connection.store.terms.read()
            return record if changed(record) else None

        return await wait_for(look, "a change of the term document", interval=0.01)

    def stop(self) -> None:
        for member in [*self.members.values(), *self.dead]:
            member.end()


@asynccontextmanager
async def open_cluster(
    amqp_url: str, mongo_url: str, directory: Path, *, members_mongo_url: str | None = None, **given: str
) -> AsyncIterator[Cluster]:
    """Yield a cluster without members, in a namespace that is deleted afterwards.

    `members_mongo_url`: where the members find the database, if not where the benchmark does.
    """
    namespace = f"bench{secrets.token_hex(3)}"
    variables = {"AMQP_URL": amqp_url, "MONGO_URL": mongo_url, "NAMESPACE": namespace} | given
    environ = {f"CRONEXEC_{name}": value for name, value in variables.items()}
    settings = Settings.load(environ=environ)
    connection = Connection.open(settings, name="benchmark")
    client = Client(
        store=connection.store, broker=connection.broker, issued_by="benchmark", wait=COMMAND_WAIT
    )
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CRONEXEC_")}
    members_environ = inherited | environ | {"CRONEXEC_MONGO_URL": members_mongo_url or mongo_url}
    cluster = Cluster(settings, directory, client, connection, members_environ)
    try:
        await connection.store.terms.prepare()
        await client.baton.reinsert()
        yield cluster
    finally:
        cluster.stop()
        await connection.close()
        delete_queues(amqp_url, namespace)
        await drop_collections(mongo_url, settings)


def delete_queues(amqp_url: str, namespace: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(f"{namespace}.{queue}")


async def drop_collections(mongo_url: str, settings: Settings) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        database = client[settings.mongo_database]
        for name in await database.list_collection_names(filter={"name": {"$regex": settings.namespace}}):
            await database.drop_collection(name)


async def wait_for(
    condition: Callable[[], Awaitable[T | None]],
    what: str,
    missing: Any = None,
    *,
    interval: float = 0.05,
    timeout: float = 120,
) -> T:
    """Wait until `condition` returns something true, and return that.

    Raises TimeoutError, which says what was `missing` last.
    """
    seen: T | None = None
    try:
        async with asyncio.timeout(timeout):
            while not (seen := await condition()):  # noqa: ASYNC110  another process's doing is awaited
                await asyncio.sleep(interval)
    except TimeoutError:
        raise TimeoutError(f"waited {timeout:g} s for {what}; last: {missing or seen!r}") from None
    return seen
