"""Instances on a broker and a database in memory, in one event loop with made-up time.

A `Bench` is the namespace: what the instances share. A `Member` is one instance, with the faults of its ports
and its own scripted targets. `evidence` has a line for every attempt that any target began.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from faults import Faults, Faulty, faulty_store
from virtual_time import NOON, LoopClock

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.adapters.memory_hub import BATON, COMMANDS, MemoryHub, MemoryMessage
from cronexec.adapters.memory_store import MemoryDatabase, MemoryStore
from cronexec.domain.job import Job, JobDocument, JobVersion
from cronexec.domain.run import Executor, Outcome, Run, RunState
from cronexec.log import Count, Log, counting
from cronexec.ports import Execution
from cronexec.runtime.context import Context
from cronexec.runtime.instance import Instance
from cronexec.runtime.tally import Tally
from cronexec.settings import Settings
from cronexec.targets.output import BoundedOutput
from cronexec.verify import Verified, verify_ledger

T = TypeVar("T")
SECOND = timedelta(seconds=1)
SUCCEEDED = Outcome(state=RunState.SUCCEEDED)
QUICKLY = {
    "lease": timedelta(seconds=10),
    "baton_lost_after": timedelta(seconds=15),
    "instance_lost_after": timedelta(seconds=60),
    "catch_up_rate": 100_000,  # where the pace is not what is looked at
}


def at(seconds: float) -> datetime:
    """Return the instant so many seconds after noon, when every test begins."""
    return NOON + timedelta(seconds=seconds)


def slot_id(job: str, seconds: int) -> str:
    return f"{job}@{at(seconds):%Y-%m-%dT%H:%M:%SZ}"


def document(name: str, schedule: Mapping[str, Any] | None = None, **fields: Any) -> JobDocument:
    """Return a job that runs every ten seconds, with a handler of its own name."""
    base = {
        "name": name,
        "schedule": schedule or {"every": "10s"},
        "target": {"type": "handler", "name": name},
    }
    return JobDocument.parse(base | fields)


def recording_log(events: list[dict[str, Any]], count: Count = lambda _: None, **fields: Any) -> Log:
    """Return a logger that keeps its events, and counts them."""

    def record(_: Any, level: str, event: Any) -> Any:
        events.append({"level": level, **event})
        raise structlog.DropEvent

    log: Log = structlog.wrap_logger(
        None, processors=[counting(count), record], wrapper_class=structlog.stdlib.BoundLogger
    )
    return log.bind(**fields)


async def until(condition: Callable[[], T | None], seen: Callable[[], object], within: float = 60.0) -> T:
    """Return what the condition gives as soon as it holds; fail with what was seen instead.

    Time is made up, so looking again a millisecond later waits for nothing but the others' turns.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not (found := condition()):
        assert loop.time() < deadline, f"not within {within:g} s; seen: {seen()!r}"
        await asyncio.sleep(0.001)
    return found


@dataclass(frozen=True, kw_only=True)
class Line:
    """An attempt that a target began."""

    instance: str
    run: str
    attempt: int
    at: datetime
    version: int
    command: Mapping[str, Any] = field(default_factory=dict)


class ScriptedTargets:
    """Implements `ports.Targets`. Runs succeed at once, unless their handler is held, absent or scripted."""

    def __init__(self, instance: str, clock: LoopClock, evidence: list[Line]) -> None:
        self._instance = instance
        self._clock = clock
        self._evidence = evidence
        self.absent: set[str] = set()
        self.held: set[str] = set()
        self.scripts: dict[str, Callable[[Execution], Awaitable[Outcome]]] = {}
        self.running: dict[str, asyncio.Future[Outcome]] = {}
        self.cancelled: list[str] = []
        self.gone = False

    def handlers(self) -> list[str]:
        return []

    def pool_of(self, target: Any) -> str:
        return "handlers" if target.type == "handler" else "webhooks"

    def new_output(self) -> BoundedOutput:
        return BoundedOutput()

    def unavailable(self, target: Any) -> str | None:
        if target.type == "handler" and target.name in self.absent:
            return f"the handler {target.name} is not registered on this instance"
        return None

    async def execute(self, execution: Execution) -> Outcome:
        run, name = execution.run, execution.run.job
        if self.gone:
            await asyncio.get_running_loop().create_future()
        self._evidence.append(
            Line(
                instance=self._instance,
                run=run.id,
                attempt=run.attempt,
                at=self._clock.now(),
                version=run.version,
                command=dict(execution.params),
            )
        )
        if name in self.scripts:
            return await self.scripts[name](execution)
        return await self._held(run) if name in self.held else SUCCEEDED

    async def _held(self, run: Run) -> Outcome:
        self.running[run.id] = asyncio.get_running_loop().create_future()
        try:
            return await self.running[run.id]
        except asyncio.CancelledError:
            self.cancelled.append(run.id)
            raise
        finally:
            del self.running[run.id]

    def end(self, run_id: str, outcome: Outcome = SUCCEEDED) -> None:
        self.running[run_id].set_result(outcome)

    async def began(self, run_id: str, within: float = 60.0) -> None:
        await until(lambda: run_id in self.running, lambda: [line.run for line in self._evidence], within)


@dataclass(kw_only=True)
class Member:
    """One instance. `faults` are of its ports: of its store, and `broker.…` and `publisher.…`."""

    name: str
    context: Context
    instance: Instance
    targets: ScriptedTargets
    broker: MemoryBroker
    faults: Faults
    events: list[dict[str, Any]]
    alive: bool = True

    @property
    def holds(self) -> bool:
        holder = self.instance.candidate.holder
        return self.alive and holder is not None and holder.guard.reason is None

    @property
    def term(self) -> int | None:
        """The epoch of the term, once its first write is committed."""
        holder = self.instance.candidate.holder
        term = holder.committed_term if holder else None
        return term.epoch if term else None

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the log events of that name."""
        return [each for each in self.events if each["event"] == event]

    def end_term(self, reason: str = "somebody said so") -> None:
        holder = self.instance.candidate.holder
        assert holder is not None
        holder.guard.end(reason)

    def starts_apart(self) -> None:
        """Have runs start in writes of their own, as those do for which there was no place when claimed."""
        self.instance.dispatcher.most_reserved = 0

    async def holding(self, within: float = 60.0) -> None:
        """Wait until this instance holds and has made its first write of all parts."""
        await until(lambda: self.term is not None, lambda: self.events[-5:], within)

    async def stop(self, grace: float = 25.0) -> bool:
        self.alive = False
        finished: bool = await self.instance.stop(grace)
        return finished


class Bench:
    """A namespace and its instances."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.database = MemoryDatabase(self.clock)
        self.hub = MemoryHub()
        self.store = MemoryStore(self.database).store
        self.evidence: list[Line] = []
        self.members: list[Member] = []
        self._requests = MemoryBroker(self.hub, clock=self.clock)
        self._commands = 0

    def make(self, name: str, **settings: Any) -> Member:
        """Make an instance that is not started."""
        events: list[dict[str, Any]] = []
        faults = Faults()
        broker = MemoryBroker(self.hub, clock=self.clock)
        targets = ScriptedTargets(name, self.clock, self.evidence)
        tally = Tally(self.clock.now)
        context = Context(
            executor=Executor(id=f"i-{name}-{len(self.members)}", name=name, datacenter="east"),
            settings=Settings(instance=name, **(QUICKLY | settings)),
            clock=self.clock,
            store=faulty_store(MemoryStore(self.database).store, faults),
            broker=Faulty(broker, "broker", faults),
            publisher=Faulty(broker.publisher(), "publisher", faults),
            targets=targets,
            log=recording_log(events, tally.count, instance=name),
            tally=tally,
        )
        member = Member(
            name=name,
            context=context,
            instance=Instance(context),
            targets=targets,
            broker=broker,
            faults=faults,
            events=events,
        )
        self.members.append(member)
        return member

    def start(self, name: str, **settings: Any) -> Member:
        member = self.make(name, **settings)
        member.instance.start()
        return member

    async def holder(self, name: str = "anna", **settings: Any) -> Member:
        """Start an instance and wait until it holds."""
        member = self.start(name, **settings)
        await member.holding()
        return member

    # --- what is there before anybody holds ---

    async def prepare(self, *, watermark: datetime | None = None) -> None:
        """Create the namespace with its first baton."""
        if await self.store.terms.prepare():
            self.insert_baton()
        if watermark is not None:
            assert self.database.term is not None
            self.database.term = replace(self.database.term, watermark=watermark)

    def insert_baton(self) -> None:
        self.hub.queues[BATON].put(MemoryMessage(body=b"{}", message_id="by-hand"))

    async def seed(self, *documents: JobDocument, from_at: datetime | None = None) -> None:
        """Have these jobs in the namespace, since the watermark or `from_at`."""
        await self.prepare()
        assert self.database.term is not None
        since = from_at or self.database.term.watermark
        for each in documents:
            revision = self.database.term.revision + 1
            job = Job(document=each, version=1, revision=revision, from_at=since, updated_at=since)
            self.database.jobs[job.name] = job
            self.database.versions[job.name, 1] = JobVersion(
                name=job.name, version=1, document=each, from_at=since, to_at=None
            )
            self.database.term = replace(self.database.term, revision=revision)

    def seed_run(self, job: str, seconds: int, *, epoch: int = 0, **fields: Any) -> Run:
        """Have a queued run in the ledger."""
        given: dict[str, Any] = {"version": 1, "state": RunState.QUEUED, "claimed_at": at(seconds)} | fields
        run = Run(id=slot_id(job, seconds), job=job, slot=at(seconds), epoch=epoch, **given)
        self.database.runs[run.id] = run
        return run

    # --- what is done to them ---

    def send(self, kind: str, *, id: str | None = None, reply_to: str | None = None, **fields: Any) -> str:  # noqa: A002  the field's name
        """Put a command into the queue, and wait for nothing."""
        self._commands += 1
        command_id = id or f"c{self._commands}"
        self.send_raw({"schema": 1, "id": command_id, "type": kind, **fields}, reply_to=reply_to)
        return command_id

    def send_raw(self, body: Any, *, reply_to: str | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.hub.queues[COMMANDS].put(MemoryMessage(body=data, message_id="m", reply_to=reply_to))

    async def request(self, kind: str, *, id: str | None = None, **fields: Any) -> Mapping[str, Any]:  # noqa: A002  the field's name
        """Send a command and wait for the reply."""
        self._commands += 1
        command_id = id or f"c{self._commands}"
        body = json.dumps({"schema": 1, "id": command_id, "type": kind, **fields}).encode()
        reply: Mapping[str, Any] = await self._requests.request(body, command_id=command_id, wait=60.0)
        return reply

    async def put(self, *documents: JobDocument) -> None:
        for each in documents:
            reply = await self.request("job.put", job=each.to_document())
            assert reply["ok"], reply

    # --- what is seen ---

    def run(self, run_id: str) -> Run:
        return self.database.runs[run_id]

    def state(self, run_id: str) -> RunState | None:
        run = self.database.runs.get(run_id)
        return run.state if run else None

    async def reaches(self, run_id: str, *states: RunState, within: float = 60.0) -> Run:
        """Wait until the run is in one of the states."""
        await until(lambda: self.state(run_id) in states, lambda: self.database.runs.get(run_id), within)
        return self.run(run_id)

    async def verified(self) -> Verified:
        """Recompute what was due; everything must be accounted for once, and no attempt begun twice."""
        verified = await verify_ledger(self.store, retention=timedelta(days=365))
        assert verified.total.ok, verified.total.findings
        begun = Counter((line.run, line.attempt) for line in self.evidence)
        assert not [line for line, times in begun.items() if times > 1]
        return verified

    def begun(self, job: str | None = None) -> list[str]:
        """Return the runs whose targets began, in that order."""
        return [line.run for line in self.evidence if job is None or line.run.startswith(f"{job}@")]

    async def close(self) -> None:
        """Stop who still lives."""
        self.database.unreachable, self.hub.down = False, False
        for member in self.members:
            member.faults._always.clear()
            if member.alive:
                await member.stop(grace=0)


async def pass_time(seconds: float) -> None:
    """Let everything go on for so many seconds of made-up time."""
    await asyncio.sleep(seconds)


def vanish(member: Member) -> None:
    """Let an instance be gone at once, as by kill -9: no call is answered, its connections break."""
    member.alive = False
    member.instance.watchdog.stop()
    member.faults.gone = True
    member.targets.gone = True
    for link in member.broker._links:
        link._lose("the process is gone")
