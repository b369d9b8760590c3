"""Handlers: functions of the application, called with a `Run`.

Asynchronous ones run on the handler loop, others in threads (`handler_loop`, `handler_threads`); none on the
engine's loop. Where the document says `isolation: process`, either kind runs in a process of its own
(`handler_processes`), which can be ended. What a handler returns goes into the run's output as JSON, an
exception's traceback likewise.

A cancelled asynchronous handler is cancelled as asyncio does it. One that needs longer than `CANCEL_TIMEOUT`
to end, or swallows the cancellation, keeps its place until it returns (`execution.kept_until`). A thread
cannot be stopped: `run.cancelled` is set, and it keeps its place likewise.
"""

import asyncio
import difflib
from collections.abc import Callable
from typing import Any

from cronexec.domain.run import Outcome, RunState
from cronexec.errors import SettingsError
from cronexec.ports import Execution
from cronexec.targets.handler_call import Call
from cronexec.targets.handler_functions import (
    Function,
    UnreachableFunctionError,
    check_reachable,
    is_asynchronous,
    refer_to,
    taking_run,
)
from cronexec.targets.handler_loop import HandlerLoop
from cronexec.targets.handler_processes import HandlerProcesses
from cronexec.targets.handler_threads import HandlerThreads

CANCEL_TIMEOUT = 1.0  # seconds that a cancelled handler has to clean up before it counts as keeping its place


class Handlers:
    """The functions of this application, by name.

    Names are registered while modules are imported, before `start()` and after.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}
        self._given: dict[str, Callable[..., Any]] = {}
        self._asynchronous: set[str] = set()

    def register(self, name: str, function: Callable[..., Any], *, isolated: bool = False) -> None:
        """Register `function`, which takes a `Run`, or nothing. `isolated`: for a process of its own.

        Raises SettingsError when the name is taken by another function, the function wants something else, or
        another process could not import it.
        """
        if name in self._functions:
            raise SettingsError(
                f"a handler named {name} is registered already: give one of them another name"
            )
        if isolated:
            _require_reachable(name, function)
        asynchronous = is_asynchronous(function)
        self._functions[name] = taking_run(name, function)
        self._given[name] = function
        if asynchronous:
            self._asynchronous.add(name)

    def get(self, name: str) -> Function | None:
        return self._functions.get(name)

    def given(self, name: str) -> Callable[..., Any]:
        """Return the function as it was registered."""
        return self._given[name]

    def is_asynchronous(self, name: str) -> bool:
        return name in self._asynchronous

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._functions))

    def missing(self, name: str) -> str:
        """Return a sentence that says that there is no such handler, and which one was probably meant."""
        near = difflib.get_close_matches(name, self._functions, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"no handler named {name} is registered on this instance{hint}"


class HandlerTarget:
    """Calls handlers. To be made on the engine's loop.

    `threads`: how many that are not asynchronous run at a time. `loop`: the application's, for asynchronous
    ones; None for one of our own.
    """

    def __init__(
        self, handlers: Handlers, *, threads: int = 32, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._handlers = handlers
        self._engine = asyncio.get_running_loop()
        self._loop = HandlerLoop(loop)
        self._threads = HandlerThreads(threads)
        self._processes: HandlerProcesses | None = None

    def unavailable(self, target: Any) -> str | None:
        if self._handlers.get(target.name) is None:
            return self._handlers.missing(target.name)
        if target.isolation is None:
            return None
        try:
            refer_to(self._handlers.given(target.name))
        except UnreachableFunctionError as error:
            return _unreachable(target.name, error)
        return None

    async def execute(self, execution: Execution) -> Outcome:
        name = execution.target.name
        function = self._handlers.get(name)
        if function is None:
            return Outcome(state=RunState.FAILED, error=self._handlers.missing(name))
        asynchronous = self._handlers.is_asynchronous(name)
        if execution.target.isolation is not None:
            return await self._execute_isolated(execution, asynchronous=asynchronous)
        call = Call(function, execution, self._engine)
        if asynchronous and self._loop.is_closed:
            return Outcome(state=RunState.FAILED, error="the application's event loop is closed")
        (self._loop if asynchronous else self._threads).start(call)
        try:
            return await call.done
        except asyncio.CancelledError:
            await self._give_up(call, execution, asynchronous=asynchronous)
            raise

    async def close(self) -> None:
        self._threads.close()
        await self._loop.close()
        if self._processes is not None:
            await self._processes.close()

    async def _execute_isolated(self, execution: Execution, *, asynchronous: bool) -> Outcome:
        name = execution.target.name
        try:
            reference = refer_to(self._handlers.given(name))
        except UnreachableFunctionError as error:
            return Outcome(state=RunState.FAILED, error=_unreachable(name, error))
        if self._processes is None:
            self._processes = HandlerProcesses()
        return await self._processes.execute(name, reference, execution, asynchronous=asynchronous)

    async def _give_up(self, call: Call, execution: Execution, *, asynchronous: bool) -> None:
        ended = call.cancel()
        execution.kept_until = ended
        if asynchronous:
            self._loop.cancel(call)
            await asyncio.wait({ended}, timeout=CANCEL_TIMEOUT)
        if ended.done():
            execution.kept_until = None


def _require_reachable(name: str, function: Callable[..., Any]) -> None:
    try:
        check_reachable(function)
    except UnreachableFunctionError as error:
        raise SettingsError(_unreachable(name, error)) from None


def _unreachable(name: str, error: UnreachableFunctionError) -> str:
    return f"the handler {name} cannot run in a process of its own: {error}"
