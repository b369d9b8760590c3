"""The engine: a thread with an event loop of its own, in which everything of cronexec runs.

User code never runs on it, so nothing that an application does to its own loop or threads can stall the
baton, the tick or the commands. A forked child has no engine until it starts one: threads do not survive a
fork, and an engine knows the process that made it.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Engine:
    """One thread, one loop. `start` returns when the loop turns."""

    def __init__(self, name: str = "cronexec") -> None:
        self._name = name
        self._pid: int | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_running(self) -> bool:
        """Whether this very process started it (not the one that forked us) and it has not been stopped."""
        return self._loop is not None and self._pid == os.getpid()

    def start(self) -> None:
        """Start the thread."""
        ready = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            self._stopped = asyncio.Event()
            self._loop = loop
            loop.call_soon(ready.set)
            runner.run(self._stopped.wait())

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` on the engine's loop. Callable from any thread."""
        if self._loop is None or not self.is_running:
            work.close()
            raise RuntimeError("cronexec is not started in this process: call start() first")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run `work` on the engine's loop and wait for it, in this thread."""
        return self.submit(work).result(timeout)

    async def call_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the engine's loop and wait for it, from another loop."""
        return await asyncio.wrap_future(self.submit(work))

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop, without waiting."""
        if self._loop is not None and self.is_running:
            self._loop.call_soon_threadsafe(function, *args)

    def stop(self, timeout: float = 5.0) -> None:
        """End the loop and the thread. Idempotent."""
        if self._loop is None or not self.is_running or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopped.set)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._loop = None
