"""What the tests of the stores share: a database that several instances open, and values to write into it."""

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cronexec.adapters.clock import SystemClock
from cronexec.adapters.memory_store import MemoryDatabase, MemoryStore
from cronexec.adapters.mongo import MongoStore
from cronexec.domain.job import Job, JobDocument, JobVersion
from cronexec.domain.run import Executor, Outcome, Run, RunState, slot_run_id
from cronexec.domain.term import Term
from cronexec.ports import Batch, Store

RETENTION = timedelta(days=30)
SECOND = timedelta(seconds=1)
ANNA = Executor(id="i-anna", name="anna", datacenter="east")
BERT = Executor(id="i-bert", name="bert", datacenter="west")


class Opened(Protocol):
    @property
    def store(self) -> Store: ...
    async def close(self) -> None: ...


class MemoryBench:
    def __init__(self) -> None:
        self.database = MemoryDatabase(SystemClock())

    def open(self) -> Store:
        return MemoryStore(self.database).store

    async def close(self) -> None:
        pass


class MongoBench:
    def __init__(self, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace
        self.opened: list[MongoStore] = []

    def open(self, **settings: Any) -> Store:
        return self.instance(**settings).store

    def instance(self, **settings: Any) -> MongoStore:
        given: dict[str, Any] = {"namespace": self.namespace, "retention": RETENTION} | settings
        self.opened.append(MongoStore(self.url, **given))
        return self.opened[-1]

    async def close(self) -> None:
        for opened in self.opened:
            await opened.close()


Bench = MemoryBench | MongoBench


async def begin(store: Store, executor: Executor = ANNA) -> Term:
    """Prepare the namespace and begin a term."""
    await store.terms.prepare()
    return await store.terms.raise_epoch(executor)


async def write(store: Store, term: Term, **content: Any) -> Term:
    """Commit `content` up to the present watermark."""
    batch = {"until": term.watermark, "revision": term.revision} | content
    return await store.terms.commit(term, Batch(**batch))


def slot_at(seconds: int = 0) -> datetime:
    """Return a slot, `seconds` after some noon."""
    return datetime(2026, 11, 20, 12, tzinfo=UTC) + seconds * SECOND


def entry(job: str, seconds: int = 0, *, epoch: int = 1, **fields: Any) -> Run:
    slot = slot_at(seconds)
    given: dict[str, Any] = {"version": 1, "state": RunState.QUEUED, "claimed_at": slot + SECOND / 2}
    return Run(id=slot_run_id(job, slot), job=job, slot=slot, epoch=epoch, **(given | fields))


def skip(job: str, seconds: int = 0, **fields: Any) -> Run:
    return entry(job, seconds, state=RunState.SKIPPED, reason="misfire", **fields)


def document(name: str, **fields: Any) -> JobDocument:
    base = {"name": name, "schedule": {"cron": "* * * * *"}, "target": {"type": "handler", "name": "tick"}}
    return JobDocument.parse(base | fields)


def job(name: str, revision: int, **fields: Any) -> Job:
    given: dict[str, Any] = {"version": 1, "from_at": slot_at(), "updated_at": slot_at()} | fields
    return Job(document=document(name), revision=revision, **given)


def version(name: str, number: int, since: int, until: int | None = None) -> JobVersion:
    to_at = None if until is None else slot_at(until)
    return JobVersion(
        name=name,
        version=number,
        document=document(name),
        from_at=slot_at(since),
        to_at=to_at,
        issued_by="eve",
    )


def succeeded(**fields: Any) -> Outcome:
    return Outcome(state=RunState.SUCCEEDED, **fields)
