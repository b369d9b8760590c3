"""The database as one instance reaches it: the in-memory store behind a network, and what becomes of calls.

A call travels to the server, is done there in one step, and its answer travels back. A fenced write that
carries anything is a transaction: it is opened by one call and committed by another, and everything may
happen in between. Whatever is sent may arrive, or be done, or be answered, or not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from history import History
from simulated_clock import SimulatedClock
from simulated_loop import Process
from simulated_network import Network
from watcher import Watcher

from cronexec.adapters.memory_store import MemoryDatabase, MemoryStore, MemoryTermStore
from cronexec.domain.run import Executor
from cronexec.domain.term import Term, TermRecord
from cronexec.errors import CronexecError, UnclearCommitError, UnreachableError
from cronexec.ports import Batch, Store

PORTS = ("jobs", "runs", "commands", "instances")
TOLD = {"terms.raise_epoch", "terms.depose", "runs.give_back"}
LATEST = 6.0
SIGNS_OF_LIFE = {"terms.ping", "instances.beat"}  # who misses them may be taken for gone
WEIGHTS = {
    "terms.open": 3.0,
    "terms.commit": 2.0,
    "terms.raise_epoch": 3.0,
    "terms.depose": 3.0,
    "runs.start": 6.0,
    "runs.give_back": 6.0,
    "runs.finish": 3.0,
    "terms.read": 0.5,
    "instances.list": 0.5,
}


class SimulatedDatabase(MemoryDatabase):
    """The server. `is_gone`: it answers nobody."""

    is_gone = False

    async def reach(self) -> None:
        """Act at once: the network is what takes time."""


class SimulatedTerms(MemoryTermStore):
    """The server's side of the fence. Mutations replace `open` and `write`.

    Every write is shown to the watcher, who has its own opinion of what must not happen.
    """

    def __init__(self, database: MemoryDatabase, watcher: Watcher) -> None:
        super().__init__(database)
        self._watcher = watcher

    async def raise_epoch(self, holder: Executor) -> Term:
        term = await super().raise_epoch(holder)
        self._watcher.epoch_raised(term, holder)
        return term

    async def open(self, term: Term, batch: Batch) -> None:
        """Begin a transaction. It holds nothing: who changes the term document last finds out."""

    async def commit(self, term: Term, batch: Batch) -> Term:
        with self._watcher.fenced_write(term, batch):
            return await self.write(term, batch)

    async def write(self, term: Term, batch: Batch) -> Term:
        return await super().commit(term, batch)


class Fates:
    """What becomes of one instance's calls.

    `chances`: of each kind of fate; larger for the calls on which everything depends.
    """

    KINDS = ("request_lost", "answer_lost", "late", "stopped", "killed", "killed_late")

    def __init__(self, random: Random, chances: dict[str, float]) -> None:
        self._random = random
        self._chances = [(kind, chances[kind]) for kind in self.KINDS if chances.get(kind)]
        self._total = sum(chance for _, chance in self._chances)

    def draw(self, name: str) -> str | None:
        dice = self._random.random() / WEIGHTS.get(name, 1.0)
        if dice >= self._total:
            return None
        for kind, chance in self._chances:
            dice -= chance
            if dice < 0:
                return kind
        return None

    def clear(self) -> None:
        self._total = 0.0


class DatabaseClient:
    """One process's way to the database.

    `on_fate` is told of what befalls the process itself ("stopped", "killed"), or its signs of life.
    """

    def __init__(
        self,
        network: Network,
        database: SimulatedDatabase,
        process: Process,
        *,
        fates: Fates,
        timeout: float,
        history: History,
        on_fate: Callable[[Process, str], None],
    ) -> None:
        self._network = network
        self._database = database
        self._process = process
        self._wire = network.wire(process, "database")
        self._timeout = timeout
        self._history = history
        self._on_fate = on_fate
        self.fates = fates

    async def call(self, name: str, operation: Callable[[], Awaitable[Any]]) -> Any:
        """Have the server do it; raises what it answers, or UnreachableError."""
        future: asyncio.Future[Any] = self._network.loop.create_future()
        fate = self.fates.draw(name)
        if fate is not None:
            self._history.add(self._process.name, f"call.{fate}", call=name)
        timer = self._network.in_process(
            self._process, self._timeout, self._fail, future, "it takes too long"
        )
        if fate == "request_lost":
            self._network.in_process(self._process, self._network.delay(), self._fail, future, "reset")
        else:
            self._network.send(self._wire.up, partial(self._request, name, operation, future, fate))
        if fate in {"stopped", "killed"} or (fate is not None and name in SIGNS_OF_LIFE):
            self._on_fate(self._process, fate)
        try:
            return await future
        finally:
            timer.cancel()

    def _request(
        self,
        name: str,
        operation: Callable[[], Awaitable[Any]],
        future: asyncio.Future[Any],
        fate: str | None,
    ) -> None:
        delay = self._network.delay()
        if fate == "late":
            self._network.in_process(self._process, delay, self._fail, future, "reset")
            delay = self._network.random.uniform(0.2, LATEST)
        self._network.after(delay, self._serve, name, operation, future, fate)

    def _serve(
        self,
        name: str,
        operation: Callable[[], Awaitable[Any]],
        future: asyncio.Future[Any],
        fate: str | None,
    ) -> None:
        result: Any
        if self._database.is_gone:
            result, is_error = UnreachableError("database", "there is no primary", ""), True
        else:
            result, is_error = _perform(operation)
        if name in TOLD:
            self._history.add("db", name, by=self._process.name, gives=_brief(result))
        if fate == "answer_lost":
            result, is_error = UnreachableError("database", "the connection was reset", ""), True
        if fate == "killed_late":
            self._on_fate(self._process, "killed")
        self._network.send(self._wire.down, partial(self._answer, future, result, is_error))

    def _answer(self, future: asyncio.Future[Any], result: Any, is_error: bool) -> None:
        self._network.in_process(
            self._process, self._network.delay(), self._answered, future, result, is_error
        )

    def _answered(self, future: asyncio.Future[Any], result: Any, is_error: bool) -> None:
        if not future.done():
            (future.set_exception if is_error else future.set_result)(result)

    def _fail(self, future: asyncio.Future[Any], why: str) -> None:
        self._answered(future, UnreachableError("database", f"no answer: {why}", ""), True)


def _perform(operation: Callable[[], Awaitable[Any]]) -> tuple[Any, bool]:
    """Run a call of the in-memory store, which waits for nothing, to its end."""
    work: Any = operation()
    try:
        work.send(None)
    except StopIteration as done:
        return done.value, False
    except CronexecError as error:
        return error, True
    raise AssertionError("the in-memory store waited for something")


def _brief(result: Any) -> Any:
    return result.epoch if isinstance(result, Term) else result


class RemotePort:
    """Any of the ports, called over the network."""

    def __init__(self, name: str, port: Any, client: DatabaseClient) -> None:
        self._name = name
        self._port = port
        self._client = client

    def __getattr__(self, method: str) -> Any:
        function, client, name = getattr(self._port, method), self._client, f"{self._name}.{method}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await client.call(name, partial(function, *args, **kwargs))

        setattr(self, method, call)
        return call


class RemoteTerms(RemotePort):
    """The term store, whose answers also tell the database's time, and whose fenced write is in two parts."""

    def __init__(self, terms: SimulatedTerms, client: DatabaseClient, clock: SimulatedClock) -> None:
        super().__init__("terms", terms, client)
        self._clock = clock
        self._asked_at = self.acknowledged_at = -1000.0  # of fenced writes

    async def raise_epoch(self, holder: Executor) -> Term:
        asked_at = self._clock.monotonic()
        term: Term = await self._client.call("terms.raise_epoch", partial(self._port.raise_epoch, holder))
        self._asked_at = self.acknowledged_at = asked_at
        return term

    async def ping(self) -> Any:
        asked_at = self._clock.monotonic()
        now = await self._client.call("terms.ping", self._port.ping)
        self._clock.measured(now, asked_at, self._clock.monotonic())
        return now

    async def read(self) -> TermRecord:
        asked_at = self._clock.monotonic()
        record: TermRecord = await self._client.call("terms.read", self._port.read)
        self._clock.measured(record.read_at, asked_at, self._clock.monotonic())
        self.acknowledged_at = self._asked_at  # an unanswered write may be found done
        return record

    async def commit(self, term: Term, batch: Batch) -> Term:
        self._asked_at = asked_at = self._clock.monotonic()
        written: Term = await asyncio.shield(asyncio.create_task(self._commit(term, batch)))
        self.acknowledged_at = asked_at
        return written

    async def _commit(self, term: Term, batch: Batch) -> Any:
        if has_content(batch):
            await self._client.call("terms.open", partial(self._port.open, term, batch))
        try:
            return await self._client.call("terms.commit", partial(self._port.commit, term, batch))
        except UnreachableError as error:
            raise UnclearCommitError(str(error)) from error


def has_content(batch: Batch) -> bool:
    return batch.adopt or any(
        (batch.entries, batch.jobs, batch.settles, batch.closes, batch.cancels, batch.commands)
    )


def remote_store(
    database: SimulatedDatabase, terms: SimulatedTerms, client: DatabaseClient, clock: SimulatedClock
) -> Store:
    """Return all ports of one instance."""
    near = MemoryStore(database).store
    far = {name: RemotePort(name, getattr(near, name), client) for name in PORTS}
    return replace(near, terms=RemoteTerms(terms, client, clock), **far)  # type: ignore[arg-type]
