"""Several instances as real processes, on real servers, with faults.

What the cluster tests are written with.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cronexec.client import Client
from cronexec.connection import Connection
from cronexec.domain.job import JobDocument
from cronexec.domain.term import TermRecord
from cronexec.settings import Settings

MEMBER = Path(__file__).with_name("member.py")
Line = tuple[str, str, int]


@dataclass
class Member:
    """One instance: its process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log events with that name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]


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

    @property
    def evidence_file(self) -> Path:
        return self.directory / "evidence"

    def start(self, name: str, *, wall_offset: float = 0.0, **settings: str) -> Member:
        log = self.directory / f"{name}.log"
        environ = self.environ | {"CRONEXEC_INSTANCE": name} | settings
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, str(MEMBER), str(self.evidence_file), str(wall_offset)],
                env=environ,
                stdout=file,
                stderr=file,
            )
        self.members[name] = Member(name, process, log)
        return self.members[name]

    async def holder(self, *, other_than: str | None = None, timeout: float = 30) -> TermRecord:
        """Wait for a living holder (other than `other_than`) that has decided something."""

        async def holds() -> TermRecord | None:
            record = await self.connection.store.terms.read()
            first = record.holder_name in self.members and record.holder_name != other_than
            return record if first and record.lag.total_seconds() < 3 else None

        return await wait_for(holds, timeout, "a holder")

    async def kill_holder(self) -> str:
        """Kill (-9) the holder; it is not started again."""
        record = await self.holder()
        member = self.members.pop(str(record.holder_name))
        member.process.kill()
        member.process.wait()
        self.dead.append(member)
        return member.name

    def terminate(self, name: str) -> Member:
        """Send SIGTERM; `wait_ended` waits for the end."""
        member = self.members.pop(name)
        member.process.send_signal(signal.SIGTERM)
        self.dead.append(member)
        return member

    async def wait_ended(self, member: Member, timeout: float = 60) -> int:
        async def ended() -> int | None:
            code = member.process.poll()
            return None if code is None else code + 1000

        return await wait_for(ended, timeout, f"the end of {member.name}") - 1000

    async def put(self, documents: Sequence[dict[str, Any]]) -> None:
        results = await self.client.jobs.put_all([JobDocument.parse(document) for document in documents])
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def lines(self) -> Counter[Line]:
        """Return the evidence: how often each (job, slot, attempt) was run."""
        if not self.evidence_file.exists():
            return Counter()
        split = (line.split() for line in self.evidence_file.read_text().splitlines())
        return Counter((job, slot, int(attempt)) for job, slot, attempt in split)

    def stop(self) -> None:
        for member in [*self.members.values(), *self.dead]:
            if member.process.poll() is None:
                member.process.kill()
            member.process.wait()


@asynccontextmanager
async def open_cluster(
    amqp_url: str, mongo_url: str, namespace: str, directory: Path, **settings: Any
) -> AsyncIterator[Cluster]:
    """Yield a cluster without members; all that are started are dead afterwards."""
    given = {"AMQP_URL": amqp_url, "MONGO_URL": mongo_url, "NAMESPACE": namespace, "ALLOW_SHELL": "true"}
    environ = {f"CRONEXEC_{name}": value for name, value in (given | settings).items()}
    loaded = Settings.load(environ=environ)
    connection = Connection.open(loaded, name=f"test-{secrets.token_hex(2)}")
    client = Client(store=connection.store, broker=connection.broker, issued_by="test", wait=30)
    cluster = Cluster(loaded, directory, client, connection, dict(os.environ) | environ)
    try:
        await connection.store.terms.prepare() and await client.baton.reinsert()
        yield cluster
    finally:
        cluster.stop()
        await connection.close()


async def wait_for(condition: Callable[[], Awaitable[Any]], timeout: float, what: str) -> Any:
    """Wait until `condition` returns something true, and return that."""
    seen: Any = None
    try:
        async with asyncio.timeout(timeout):
            while not (seen := await condition()):  # noqa: ASYNC110  what is waited for is in other processes
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited {timeout:g} s for {what}; last seen: {seen!r}") from None
    return seen
