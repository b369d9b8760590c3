"""Services: every loop of the runtime has the same shape: starts once, stops when asked, crashes loudly.

A `Service` runs one coroutine; `stop` asks it to end, waits for it, and may be called any number of times. An
unexpected error is logged and told to the owner (the instance, the term), which ends what depends on it
instead of carrying on half alive.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from cronexec.log import Log

CANCEL_AGAIN_AFTER = 10.0


class Wake:
    """A wake-up that cannot be lost: set before the wait began, it ends the wait at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """Forget a wake-up that nobody has taken."""
        self._event.clear()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for `set`, at most `timeout` seconds, and take it. Returns whether it was set."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Service:
    """One coroutine with a name, a stop and a visible crash."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], log: Log) -> None:
        self.name = name
        self._run = run
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def start(self, on_crash: Callable[[str], None] | None = None) -> None:
        """Start the loop; `on_crash` is told the sentence when it ends by an error of its own."""
        if self._task is not None:
            raise RuntimeError(f"the service {self.name} was started twice")
        self._task = asyncio.create_task(self._guarded(on_crash), name=f"cronexec-{self.name}")

    async def _guarded(self, on_crash: Callable[[str], None] | None) -> None:
        try:
            await self._run()
        except (Exception, asyncio.CancelledError) as error:  # a crash is loud, and told to the owner
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                raise
            self._log.exception("service.crashed", service=self.name)
            if on_crash is not None:
                on_crash(f"{self.name}: {_first(error)}")

    async def stop(self) -> None:
        """Cancel the loop and wait until it has ended. Idempotent."""
        if self._task is None:
            return
        while not self._task.done():
            self._task.cancel()  # again, should a driver have swallowed the first
            await asyncio.wait([self._task], timeout=CANCEL_AGAIN_AFTER)

    async def wait(self) -> None:
        """Wait until the loop has ended by itself."""
        if self._task is not None:
            await asyncio.wait([self._task])


def is_cancelled() -> bool:
    """Whether somebody cancels this very task: not so where something that it waited for was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first(error: BaseException) -> str:
    """Return what went wrong, from within the group of a service that has tasks of its own."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


class Backoff:
    """Waits that grow, with full jitter: a thousand instances must not come back in step."""

    def __init__(self, *, first: float = 0.1, most: float = 15.0) -> None:
        self._first = first
        self._most = most
        self._tries = 0

    def reset(self) -> None:
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait before the next try."""
        ceiling = min(self._most, self._first * 2**self._tries)
        self._tries = min(self._tries + 1, 30)
        return random.uniform(self._first / 2, ceiling)  # noqa: S311  jitter, not a secret


class Breather:
    """Gives the event loop a turn when the caller has held it for a slice: nothing holds it over 10 ms."""

    def __init__(self, monotonic: Callable[[], float], slice_s: float = 0.004) -> None:
        self._monotonic = monotonic
        self._slice = slice_s
        self._made_at = self._since = monotonic()

    def age(self) -> float:
        """Return for how many seconds the caller has been at it."""
        return self._monotonic() - self._made_at

    async def breathe(self) -> None:
        """Yield if the slice is used up."""
        if self._monotonic() - self._since > self._slice:
            await asyncio.sleep(0)
            self._since = self._monotonic()
