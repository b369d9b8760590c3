"""Where other handlers run: a bounded number of threads.

Threads of our own and not an executor's, which the interpreter waits for when it exits: a handler that never
returns would keep its process from ending. A thread is started when a call finds none idle, and kept.
"""

import asyncio
import contextlib
import inspect
import threading
from queue import SimpleQueue
from typing import Any

from cronexec.targets.handler_call import Call


class HandlerThreads:
    """Performs calls of handlers that are not asynchronous, `limit` at a time. Made on the engine's loop."""

    def __init__(self, limit: int) -> None:
        self._engine = asyncio.get_running_loop()
        self._limit = limit
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def start(self, call: Call) -> None:
        """Perform a call, as soon as there is a thread for it."""
        self._calls.put(call)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._limit:
            name = f"cronexec-handler-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._serve, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more for us
                self._do_without(call, error)
            else:
                self._threads.append(thread)

    def _do_without(self, call: Call, error: RuntimeError) -> None:
        """Leave the call to those there are, when they have time, or fail it."""
        if not self._threads:
            self._calls.get()
            call.raised(error)
            call.finish()

    def close(self) -> None:
        """Let idle threads end; the others do when their handlers return."""
        for _ in self._threads:
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.cancelled:
                call.context.run(_perform, call)
            self._idle.release()
            with contextlib.suppress(RuntimeError):  # the engine's loop is closed: nobody waits any more
                self._engine.call_soon_threadsafe(call.finish)


def _perform(call: Call) -> None:
    try:
        call.returned(_checked(call.function(call.run)))
    except BaseException as error:  # noqa: BLE001  SystemExit too ends the run and not the thread
        call.raised(error)


def _checked(result: Any) -> Any:
    """Refuse an awaitable: nobody would await it, and the run would have succeeded without having begun."""
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()
    raise TypeError("the handler returned something to await: declare it with 'async def'")
