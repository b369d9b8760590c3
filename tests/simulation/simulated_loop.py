"""One event loop for all instances: its time is made up, and each instance on it is a process of its own.

Whatever an instance does, it does in handles that carry its context. So a process can be stopped between any
two of them, which is at any await: its handles are parked in the order in which they came up, while time and
the others go on; continued, it finds all of them at once, as after SIGSTOP and SIGCONT. A dead one's handles
are dropped. Servers and the network have no process.

Nothing depends on memory addresses: tasks hash by their number, because the order of a set of tasks decides
who is woken first.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

MOST_AT_ONE_INSTANT = 50_000  # handles, beyond which time will never go on


class StandstillError(AssertionError):
    """Nothing would ever happen any more, or time stands still while everything happens."""


class Process:
    """An instance's process. `trap`: called before the step `trap_at`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_stopped = False
        self.is_dead = False
        self.parked: list[asyncio.Handle] = []
        self.steps = 0
        self.trap_at = -1
        self.trap: Callable[[], None] = lambda: None
        self.continued_at = -1.0
        self.context = copy_context()
        self.context.run(_process.set, self)

    @property
    def is_running(self) -> bool:
        return not self.is_stopped and not self.is_dead

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function as this process does: the tasks that it creates belong to it."""
        return self.context.copy().run(function, *args)

    def die(self) -> None:
        self.is_dead = True
        self.parked.clear()


_process: ContextVar[Process | None] = ContextVar("process", default=None)
NOBODY = Context()  # of servers and of the network


class NumberedTask(asyncio.Task[Any]):
    """A task that hashes by its number."""

    def __init__(self, number: int, coro: Any, **kwargs: Any) -> None:
        self._number = number
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.BaseEventLoop):
    """Without a socket, a thread or a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serial = itertools.count()
        self._at_this_instant = 0
        self.tasks: list[asyncio.Task[Any]] = []  # kept: the end of a dead process's task is no event
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._serial), timer))
        return timer

    def resume(self, process: Process) -> None:
        """Let a stopped process go on with everything that came up meanwhile."""
        process.is_stopped = False
        process.continued_at = self._now
        self._ready.extend(process.parked)
        process.parked = []

    def _new_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = NumberedTask(len(self.tasks), coro, loop=loop, **kwargs)
        self.tasks.append(task)
        return task

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the heap; it is thrown away when its time has come."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken from."""

    def _run_once(self) -> None:
        ready = self._ready
        if not ready:
            self._jump()
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:
                process = handle._context.get(_process)
                if process is None:
                    handle._run()
                else:
                    _step(process, handle)
            self._at_this_instant += 1
            if self._stopping:
                return
        if self._at_this_instant > MOST_AT_ONE_INSTANT:
            raise StandstillError(f"time stands still at {self._now:.3f}")

    def _jump(self) -> None:
        """Go on to the next timer, with all that are due then."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise StandstillError("nothing would ever happen any more")
        if timers[0][0] > self._now:
            self._now = timers[0][0]
            self._at_this_instant = 0
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])


def _step(process: Process, handle: asyncio.Handle) -> None:
    process.steps += 1
    if process.steps == process.trap_at:
        process.trap()
    if process.is_dead:
        return
    if process.is_stopped:
        process.parked.append(handle)
    else:
        handle._run()
