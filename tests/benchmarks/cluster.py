"""Instances whose handlers do nothing, in a namespace for each measurement.

The benchmark itself is a client in yet another process. What handlers noted is asked from the members;
the database is only read to know when to ask.
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import members
import pika
from members import Member, wait_for
from pymongo import AsyncMongoClient

from cronexec.domain.term import TermRecord
from cronexec.settings import Settings

MEMBER = Path(__file__).with_name("member.py")
QUEUES = ("baton", "commands", "commands.newer", "commands.rejected")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
WARM_UP = 2.0  # seconds from an instance's first heartbeat until it surely stands by
COMMAND_WAIT = 300.0  # seconds: how long a command may take is measured, not limited
PATIENCE = 120.0  # seconds: how long 10,000 jobs may take is not this module's to judge


class Noted(NamedTuple):
    """What a handler noted at its first line: `slot` and `begun_at` in seconds since 1970."""

    job: str
    slot: float
    attempt: int
    begun_at: float

    @property
    def lateness(self) -> float:
        return self.begun_at - self.slot


class Cluster(members.Cluster):
    def start(self, name: str) -> Member:
        return self.launch(name, MEMBER)

    async def start_three(self) -> Member:
        """Start a holder, and two standbys once it holds. Returns the holder."""
        self.start("a")
        holder = await self.holding()
        self.start("b")
        self.start("c")
        await self.standing_by()
        return holder

    async def holding(self) -> Member:
        """Wait for a living holder that keeps up with the time."""
        record = await self.holder(timeout=PATIENCE)
        return self.members[str(record.holder_name)]

    async def standing_by(self) -> None:
        """Wait until every member has announced itself and had the time to connect and to read the jobs.

        The broker does not tell how many stand by: behind a single active consumer it counts one.
        """

        async def announced() -> bool:
            there = {record.executor.name for record in await self.client.instances()}
            for member in self.members.values():
                member.require_alive()
            return self.members.keys() <= there

        await wait_for(announced, f"all of {', '.join(self.members)}", timeout=PATIENCE)
        await asyncio.sleep(WARM_UP)

    async def noted(self) -> list[Noted]:
        """Return what the handlers of all members noted since this was asked last."""
        answers = [await asyncio.to_thread(ask, member) for member in self.members.values()]
        return [line for answer in answers for line in answer]

    async def sleep_until(self, instant: datetime) -> None:
        await asyncio.sleep(max(0.0, (instant - self.connection.clock.now()).total_seconds()))

    async def watch_term(self, changed: Callable[[TermRecord], bool]) -> TermRecord:
        """Read the term document in quick succession until it is as wanted."""

        async def look() -> TermRecord | None:
            record = await self.connection.store.terms.read()
            return record if changed(record) else None

        return await wait_for(look, "a change of the term document", timeout=PATIENCE, interval=0.01)


def ask(member: Member) -> list[Noted]:
    """Return what the member's handlers noted since this was asked last."""
    stdin, stdout = member.process.stdin, member.process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write("evidence\n")
    stdin.flush()
    return [Noted(*values) for values in json.loads(stdout.readline())]


def cpu_seconds(member: Member) -> float:
    """Return the processor time that the process has used so far (Linux)."""
    fields = Path(f"/proc/{member.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def resident_mb(member: Member) -> float:
    """Return the memory that the process has in use (Linux), in MB."""
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) * 1024 / 1e6


@asynccontextmanager
async def open_cluster(
    amqp_url: str, mongo_url: str, directory: Path, *, members_mongo_url: str | None = None, **given: str
) -> AsyncIterator[Cluster]:
    """Yield a cluster without members, in a namespace that is deleted afterwards.

    `members_mongo_url`: where the members find the database, if not where the benchmark does.
    """
    namespace = f"bench{secrets.token_hex(3)}"
    variables = {"AMQP_URL": amqp_url, "MONGO_URL": mongo_url, "NAMESPACE": namespace} | given
    async with members.open_cluster(Cluster, directory, wait=COMMAND_WAIT, **variables) as cluster:
        cluster.environ["CRONEXEC_MONGO_URL"] = members_mongo_url or mongo_url
        try:
            yield cluster
        finally:
            cluster.stop()
            delete_queues(amqp_url, namespace)
            await drop_collections(mongo_url, cluster.settings)


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
