"""Instances that compete for the baton of a real broker, with their database in memory, in one event loop.

A `Schedule` is the namespace: it has one job, every second, so that a baton that is lost, or held by nobody
who acts, is seen as slots that run late. A `Contender` is one instance: everything of it is real but the
database. Terms are counted by the epoch, which only a new term raises.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pika
import structlog
from patience import PATIENCE

from cronexec.adapters.clock import SystemClock
from cronexec.adapters.memory_store import MemoryDatabase, MemoryStore
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.adapters.rabbitmq_topology import QueueType
from cronexec.domain.job import Job, JobDocument, JobVersion
from cronexec.domain.run import Executor, Outcome, RunState
from cronexec.log import Count, Log, counting
from cronexec.ports import Execution
from cronexec.runtime.context import Context
from cronexec.runtime.instance import Instance
from cronexec.runtime.tally import Tally
from cronexec.settings import Settings
from cronexec.targets.output import BoundedOutput
from cronexec.verify import verify_ledger

T = TypeVar("T")
QUEUES = ("baton", "commands", "commands.newer", "commands.rejected")
LOOK_INTERVAL = 0.02
TICK = {"name": "tick", "schedule": {"every": "1s"}, "target": {"type": "handler", "name": "tick"}}
QUICKLY: dict[str, Any] = {
    "lease": timedelta(seconds=3),
    "baton_lost_after": timedelta(seconds=4),
    "heartbeat": timedelta(seconds=5),
    "catch_up_rate": 100_000,
}


class Succeeding:
    """Implements `ports.Targets`: every run succeeds at once."""

    def handlers(self) -> Sequence[str]:
        return ["tick"]

    def pool_of(self, target: Any) -> str:
        return f"{target.type}s"

    def new_output(self) -> BoundedOutput:
        return BoundedOutput()

    def unavailable(self, target: Any) -> str | None:  # noqa: ARG002  the port's
        return None

    async def execute(self, execution: Execution) -> Outcome:  # noqa: ARG002  the port's
        return Outcome(state=RunState.SUCCEEDED)


class Contender:
    """One instance. `events` are what it logged."""

    def __init__(self, schedule: "Schedule", name: str, **settings: Any) -> None:
        self.name = name
        self.events: list[dict[str, Any]] = []
        self.broker = RabbitMQ(
            [schedule.url],
            namespace=schedule.namespace,
            connection_name=f"{schedule.namespace} {name}",
            heartbeat=timedelta(seconds=5),
            queue_type=schedule.queue_type,
        )
        tally = Tally(schedule.clock.now)
        context = Context(
            executor=Executor(id=f"i-{name}", name=name, datacenter="east"),
            settings=Settings(instance=name, namespace=schedule.namespace, **(QUICKLY | settings)),
            clock=schedule.clock,
            store=MemoryStore(schedule.database).store,
            broker=self.broker,
            publisher=self.broker.publisher(),
            targets=Succeeding(),
            log=_recording_log(self.events, tally.count),
            tally=tally,
        )
        self.instance = Instance(context)

    @property
    def term(self) -> int | None:
        """The epoch of the term, once its first write is committed; None when this instance does not hold."""
        holder = self.instance.candidate.holder
        if holder is None or holder.guard.reason or holder.committed_term is None:
            return None
        return holder.committed_term.epoch

    @property
    def stands_by(self) -> bool:
        candidate = self.instance.candidate
        return (
            candidate.is_linked and candidate.holder is None and self._last_said() == "candidate.standing_by"
        )

    def _last_said(self) -> str:
        """Return which of the two was said last: that a term ended, or that it stands by."""
        said = (each["event"] for each in reversed(self.events))
        return next((each for each in said if each in {"term.ended", "candidate.standing_by"}), "nothing")

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["event"] == event]

    def end_term(self, reason: str) -> None:
        """End the term: in good order where the reason is `released`."""
        holder = self.instance.candidate.holder
        assert holder is not None
        holder.guard.end(reason)

    def sever(self) -> None:
        """Cut the baton's connection, as the end of the process would."""
        link = self.instance.candidate._link
        assert link is not None
        link.sever()


class Schedule:
    """A namespace of its own on the broker at `url`, and its contenders."""

    def __init__(self, url: str, queue_type: QueueType) -> None:
        self.url = url
        self.queue_type = queue_type
        self.namespace = f"b{secrets.token_hex(4)}"
        self.clock = SystemClock()
        self.database = MemoryDatabase(self.clock)
        self.store = MemoryStore(self.database).store
        self.contenders: list[Contender] = []

    @property
    def epoch(self) -> int:
        return self.database.term.epoch if self.database.term else 0

    async def compete(self, *names: str, **settings: Any) -> Contender:
        """Start instances of these names and return the one that holds first."""
        is_new = await self.store.terms.prepare()
        if is_new:
            self._declare_tick()
        for name in names:
            self.contenders.append(Contender(self, name, **settings))
            self.contenders[-1].instance.start()
        if is_new:
            await self.until(lambda: self.said("candidate.standing_by"), "contender")
            await self.insert_baton()
        return await self.holder()

    async def join(self, name: str) -> Contender:
        """Start an instance and return it once it stands by."""
        self.contenders.append(joined := Contender(self, name))
        joined.instance.start()
        await self.until(lambda: joined.said("candidate.standing_by"), "contender")
        return joined

    async def hand_over(self, holder: Contender) -> Contender:
        """Have the holder release, once all others stand by: else it might be the next one itself."""
        others = [each for each in self.contenders if each is not holder]
        await self.until(lambda: all(each.stands_by for each in others), "contenders that stand by")
        holder.end_term("released")
        return await self.holder(other_than=holder)

    async def vanish(self, contender: Contender) -> None:
        """Cut an instance's connections without a word, as kill -9 does; it does not come back."""
        contender.instance.candidate._stopping.set()
        if contender.instance.candidate.is_linked:
            contender.sever()
        self.contenders.remove(contender)
        await contender.instance.stop(grace=0)
        await contender.broker.close()

    def _declare_tick(self) -> None:
        """Have the job from the beginning, as of the watermark."""
        term = self.database.term
        assert term is not None
        document = JobDocument.parse(TICK)
        given: dict[str, Any] = {"document": document, "version": 1, "from_at": term.watermark}
        self.database.jobs["tick"] = Job(**given, revision=1, updated_at=term.watermark)
        self.database.versions["tick", 1] = JobVersion(**given, name="tick", to_at=None)
        self.database.term = replace(term, revision=1)

    async def holder(self, *, other_than: Contender | None = None, within: float = PATIENCE) -> Contender:
        def holding() -> Contender | None:
            return next((each for each in self.contenders if each.term and each is not other_than), None)

        return await self.until(holding, "a holder", within)

    async def until(self, condition: Callable[[], T | None], what: str, within: float = PATIENCE) -> T:
        """Return what the condition gives as soon as it holds: neither broker nor contender tells us."""
        deadline = asyncio.get_running_loop().time() + within
        while not (found := condition()):
            assert asyncio.get_running_loop().time() < deadline, (
                f"no {what} within {within:g} s; epoch {self.epoch}; {self.last_events()}"
            )
            await asyncio.sleep(LOOK_INTERVAL)
        return found

    def said(self, event: str) -> list[dict[str, Any]]:
        return [each for contender in self.contenders for each in contender.said(event)]

    def last_events(self) -> str:
        return "; ".join(f"{each.name}: {each.events[-4:]}" for each in self.contenders)

    async def slots_run(self, count: int, within: float = PATIENCE) -> None:
        """Wait until so many more slots have run."""
        before = self.succeeded()
        await self.until(lambda: self.succeeded() >= before + count, f"{count} more slots", within)

    def succeeded(self) -> int:
        return sum(run.state is RunState.SUCCEEDED for run in self.database.runs.values())

    def latest(self) -> float:
        """Return by how many seconds the latest slot was claimed after its time."""
        runs = self.database.runs.values()
        return max((run.claimed_at - run.slot).total_seconds() for run in runs if run.slot and run.claimed_at)

    async def verify(self) -> None:
        """Recompute what was due: everything is accounted for once."""
        verified = await verify_ledger(self.store, retention=timedelta(days=365))
        assert verified.total.ok, verified.total.findings
        assert self.succeeded() > 0

    # --- what an operator does ---

    async def operate(self, action: Callable[[Any], T]) -> T:
        """Call `action` with a channel of a connection of its own."""
        return await asyncio.to_thread(self._operate, action)

    def _operate(self, action: Callable[[Any], T]) -> T:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            return action(connection.channel())

    @property
    def baton(self) -> str:
        """The name of the baton queue."""
        return f"{self.namespace}.baton"

    async def insert_baton(self) -> None:
        kept = pika.BasicProperties(delivery_mode=2)
        await self.operate(lambda channel: channel.basic_publish("", self.baton, b"{}", kept))

    async def batons_ready(self) -> int:
        count: int = await self.operate(
            lambda channel: channel.queue_declare(self.baton, passive=True).method.message_count
        )
        return count

    async def send(self, command: dict[str, Any]) -> None:
        body, kept = json.dumps(command), pika.BasicProperties(delivery_mode=2)
        queue = f"{self.namespace}.commands"
        await self.operate(lambda channel: channel.basic_publish("", queue, body.encode(), kept))

    async def stop(self) -> None:
        """Stop all contenders: what they had in hand is back in the queues."""
        await asyncio.gather(*(each.instance.stop(grace=0) for each in self.contenders))
        await asyncio.gather(*(each.broker.close() for each in self.contenders))
        self.contenders.clear()

    async def close(self) -> None:
        await self.stop()
        await asyncio.to_thread(self.delete_queues)

    def delete_queues(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            for queue in QUEUES:
                connection.channel().queue_delete(f"{self.namespace}.{queue}")


def _recording_log(events: list[dict[str, Any]], count: Count) -> Log:
    def record(_: Any, level: str, event: Any) -> Any:
        events.append({"level": level, **event})
        raise structlog.DropEvent

    log: Log = structlog.wrap_logger(
        None, processors=[counting(count), record], wrapper_class=structlog.stdlib.BoundLogger
    )
    return log
