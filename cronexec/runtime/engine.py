"""The engine: a thread with an event loop of its own, in which everything of cronexec runs.

User code never runs on it, so nothing that an application does to its own loop or threads can stall the
baton, the tick or the commands. An engine knows the process that made it: threads do not survive a fork, so
a forked child has none until it starts one. Nobody waits for ever: calls that it cannot answer any more are
cancelled.
"""

import asyncio
import os
import selectors
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")
NOT_STARTED = "cronexec is not started in this process: call start() first"
STOPPED = "cronexec was stopped before the call was answered"

_engine: ContextVar["Engine | None"] = ContextVar("cronexec_engine", default=None)
_engines: "WeakSet[Engine]" = WeakSet()


class Engine:
    """One thread, one loop; it starts once. All methods may be called from any thread."""

    def __init__(self, name: str = "cronexec") -> None:
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._turning: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: dict[Future[Any], Coroutine[Any, Any, Any]] = {}
        self._context = (
            Context()
        )  # not the caller's: whoever starts an engine has nothing to do with its runs
        self._context.run(_engine.set, self)
        _engines.add(self)

    @property
    def is_running(self) -> bool:
        """Whether this very process started it (not the one that forked us) and it has not ended."""
        return self._loop is not None and self._pid == os.getpid()

    @property
    def is_caller(self) -> bool:
        """Whether the calling code runs on behalf of this engine: in a handler of one of its runs."""
        return _engine.get() is self

    def start(self) -> None:
        """Start the thread; returns when the loop turns."""
        self._thread.start()
        self._turning.result()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the engine's loop; raises RuntimeError when there is none."""
        with self._lock:
            if self._loop is None or not self.is_running:
                work.close()
                raise RuntimeError(NOT_STARTED)
            future = self._context.copy().run(asyncio.run_coroutine_threadsafe, work, self._loop)
            self._calls[future] = work
        future.add_done_callback(lambda done: self._calls.pop(done, None))
        return future

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and wait for it, in this thread. Interrupted, it is cancelled."""
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(STOPPED) from None
        except BaseException:
            future.cancel()
            raise

    async def call_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and wait for it, from another loop. Cancelled, it is cancelled."""
        future = self.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RuntimeError(STOPPED) from None

    def stop(self) -> None:
        """Have the loop end, and cancel what is left on it. Idempotent; `join`, `wait_ended` wait for it."""
        with self._lock:
            if self._loop is not None and self.is_running:
                self._loop.call_soon_threadsafe(self._stopping.set)

    def join(self, timeout: float = 5.0) -> None:
        """Wait for the thread to end, at most `timeout` seconds."""
        if self._pid == os.getpid() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    async def wait_ended(self, timeout: float = 5.0) -> None:
        """Wait for the thread to end, from another loop."""
        await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=timeout)

    def disown(self) -> None:
        """Leave the parent's loop alone, in a forked child.

        Both share the kernel's event queue: a connection that is collected here would be taken out of it, and
        the parent would never hear of that connection again.
        """
        loop: Any = self._loop
        self._loop, self._lock = None, threading.Lock()
        if loop is not None:
            loop._selector = selectors.DefaultSelector()  # noqa: SLF001  there is no other way to part them
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  the parent has it

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.call_soon(self._turning.set_result, None)
                runner.run(self._stopping.wait())
        except BaseException as error:
            if not self._turning.done():
                self._turning.set_exception(error)
                return
            raise
        finally:
            self._leave()
            self._ended.set_result(None)

    def _leave(self) -> None:
        """Let go of callers whose work arrived after the last turn of the loop."""
        with self._lock:
            self._loop = None
            left = dict(self._calls)
        for future, work in left.items():
            future.cancel()
            work.close()


def _disown_all() -> None:
    for engine in _engines:
        engine.disown()


os.register_at_fork(after_in_child=_disown_all)
