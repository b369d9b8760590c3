"""Handlers: functions of the application, called with a `Run`.

Asynchronous ones run on the handler loop, others in threads (`handler_loop`, `handler_threads`); none on the
engine's loop. What a handler returns goes into the run's output as JSON, an exception's traceback likewise.

A cancelled asynchronous handler is cancelled as asyncio does it. One that needs longer than `CANCEL_TIMEOUT`
to end, or swallows the cancellation, keeps its place until it returns (`execution.kept_until`). A thread
cannot be stopped: `run.cancelled` is set, and it keeps its place likewise.
"""

import asyncio
import difflib
import inspect
from collections.abc import Callable
from typing import Any

from cronexec.domain.run import Outcome, RunState
from cronexec.errors import SettingsError
from cronexec.ports import Execution
from cronexec.targets.handler_call import Call
from cronexec.targets.handler_loop import HandlerLoop
from cronexec.targets.handler_run import Run
from cronexec.targets.handler_threads import HandlerThreads

CANCEL_TIMEOUT = 1.0  # seconds that a cancelled handler has to clean up before it counts as keeping its place

Function = Callable[[Run], Any]


class Handlers:
    """The functions of this application, by name.

    Names are registered while modules are imported, before `start()` and after.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}
        self._asynchronous: set[str] = set()

    def register(self, name: str, function: Callable[..., Any]) -> None:
        """Register `function`, which takes a `Run`, or nothing.

        Raises SettingsError when the name is taken by another function or the function wants something else.
        """
        if name in self._functions:
            raise SettingsError(
                f"a handler named {name} is registered already: give one of them another name"
            )
        asynchronous = _is_asynchronous(function)
        self._functions[name] = _taking_run(name, function)
        if asynchronous:
            self._asynchronous.add(name)

    def get(self, name: str) -> Function | None:
        return self._functions.get(name)

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

    def unavailable(self, target: Any) -> str | None:
        return None if self._handlers.get(target.name) else self._handlers.missing(target.name)

    async def execute(self, execution: Execution) -> Outcome:
        name = execution.target.name
        function = self._handlers.get(name)
        if function is None:
            return Outcome(state=RunState.FAILED, error=self._handlers.missing(name))
        call = Call(function, execution, self._engine)
        asynchronous = self._handlers.is_asynchronous(name)
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

    async def _give_up(self, call: Call, execution: Execution, *, asynchronous: bool) -> None:
        ended = call.cancel()
        execution.kept_until = ended
        if asynchronous:
            self._loop.cancel(call)
            await asyncio.wait({ended}, timeout=CANCEL_TIMEOUT)
        if ended.done():
            execution.kept_until = None


def _is_asynchronous(function: Callable[..., Any]) -> bool:
    of_object = getattr(type(function), "__call__", None)  # noqa: B004  its kind is the question, not whether it is there
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(of_object)


def _taking_run(name: str, function: Callable[..., Any]) -> Function:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return function
    for given in ((None,), ()):
        try:
            signature.bind(*given)
        except TypeError:
            continue
        return function if given else lambda _: function()
    raise SettingsError(f"the handler {name} has to take one argument, the run; it takes {signature}")
