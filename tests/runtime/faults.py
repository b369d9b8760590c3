"""Ports with faults: what a network and a database do to calls, scripted call by call."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from patience import PATIENCE

from cronexec.domain.term import Term
from cronexec.errors import UnclearCommitError, UnreachableError
from cronexec.ports import Batch, Store

Call = Callable[[], Awaitable[Any]]
Fault = Callable[[Call], Awaitable[Any]]
Where = Callable[..., bool]
PORTS = ("terms", "jobs", "runs", "outputs", "commands", "instances")


def claims(_term: Term, batch: Batch) -> bool:
    """Whether a commit writes entries."""
    return bool(batch.entries)


def unclear() -> Exception:
    return UnclearCommitError("the answer was lost")


def away() -> Exception:
    return UnreachableError("database", "the database does not answer", "")


def fails(error: Exception) -> Fault:
    """Return the fault of a call that never arrives."""

    async def fault(_: Call) -> Any:
        raise error

    return fault


def loses_answer(error: Exception) -> Fault:
    """Return the fault of a call that is done, and whose answer is lost."""

    async def fault(call: Call) -> Any:
        await call()
        raise error

    return fault


class Held:
    """The fault of a call that hangs until `release`: before it is done, or before it is answered.

    `error`: what the caller gets in the end instead of the answer.
    """

    def __init__(self, *, done_first: bool = False, error: Exception | None = None) -> None:
        self._done_first = done_first
        self._error = error
        self._arrived = asyncio.Event()
        self._go = asyncio.Event()

    async def __call__(self, call: Call) -> Any:
        answer = await call() if self._done_first else None
        self._arrived.set()
        await self._go.wait()
        if not self._done_first:
            answer = await call()
        if self._error is not None:
            raise self._error
        return answer

    async def arrived(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._arrived.wait()

    def release(self) -> None:
        self._go.set()


class Faults:
    """The faults of one instance's ports, by the name of the call: `terms.commit`.

    `gone`: no call is answered any more.
    """

    def __init__(self) -> None:
        self.gone = False
        self.calls: Counter[str] = Counter()
        self._next: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._where: defaultdict[str, list[tuple[Where, Fault]]] = defaultdict(list)
        self._always: dict[str, Fault] = {}

    def next(self, call: str, *faults: Fault) -> None:
        """Let the next calls meet these faults, one each."""
        self._next[call].extend(faults)

    def always(self, call: str, fault: Fault | None) -> None:
        """Let every call meet this fault; None ends it."""
        self._always.pop(call, None)
        if fault is not None:
            self._always[call] = fault

    def where(self, call: str, where: Where, fault: Fault) -> None:
        """Let the next call whose arguments are such meet this fault."""
        self._where[call].append((where, fault))

    def hold(self, call: str, where: Where = lambda *_: True, **how: Any) -> Held:
        held = Held(**how)
        self.where(call, where, held)
        return held

    async def perform(self, name: str, call: Call, *args: Any) -> Any:
        if self.gone:
            await asyncio.get_running_loop().create_future()
        self.calls[name] += 1
        fault = self._take(name, args)
        return await (call() if fault is None else fault(call))

    def _take(self, name: str, args: tuple[Any, ...]) -> Fault | None:
        for index, (where, fault) in enumerate(self._where[name]):
            if where(*args):
                del self._where[name][index]
                return fault
        scripted = self._next[name]
        return scripted.popleft() if scripted else self._always.get(name)


class Faulty:
    """A port that passes every call on, through the faults."""

    def __init__(self, port: Any, name: str, faults: Faults) -> None:
        self._port = port
        self._name = name
        self._faults = faults

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._port, method)
        if not asyncio.iscoroutinefunction(function):
            return function

        async def call(*args: Any, **kwargs: Any) -> Any:
            name = f"{self._name}.{method}"
            return await self._faults.perform(name, lambda: function(*args, **kwargs), *args)

        return call


def faulty_store(store: Store, faults: Faults) -> Store:
    def faulty(name: str) -> Any:
        return Faulty(getattr(store, name), name, faults)

    return replace(store, **{name: faulty(name) for name in PORTS})
