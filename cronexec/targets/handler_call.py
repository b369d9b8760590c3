"""One call of a handler: what the engine, which waits for it, and the loop or thread that performs it share.

`done` and everything about reporting belong to the engine's loop; `task` to the handler loop.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any

from cronexec.domain.run import Outcome, RunState
from cronexec.ports import Execution
from cronexec.targets.handler_outcome import failure, text_of_result
from cronexec.targets.handler_run import Run

REPORT_INTERVAL = 0.1  # seconds between two progress reports of a run that go on to the engine

SUCCEEDED = Outcome(state=RunState.SUCCEEDED)
CANCELLED = Outcome(state=RunState.FAILED, error="CancelledError: the handler was cancelled")


class Call:
    """A handler, called for one execution. `done` resolves to its outcome, on the engine's loop."""

    __slots__ = (
        "_ended",
        "_engine",
        "_execution",
        "_latest",
        "_reporting",
        "cancelled",
        "context",
        "done",
        "function",
        "outcome",
        "run",
        "task",
    )

    def __init__(
        self, function: Callable[[Run], Any], execution: Execution, engine: asyncio.AbstractEventLoop
    ) -> None:
        self.function = function
        self.run = Run(execution.run, execution.params, report=self.report, output=execution.output)
        self.context = contextvars.copy_context()
        self.done: asyncio.Future[Outcome] = engine.create_future()
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self._execution = execution
        self._engine = engine
        self._latest: tuple[float, float | None, str] | None = None
        self._reporting = False
        self._ended = False

    # on the engine's loop

    def cancel(self) -> asyncio.Future[Outcome]:
        """Mark it as cancelled, and return a future for the end of it that is as good as new."""
        self.cancelled = True
        self.run.cancelled._set()  # noqa: SLF001  only read by handlers
        if self.done.cancelled():
            self.done = self._engine.create_future()
            if self._ended:  # after its future was cancelled, before we were told
                self.done.set_result(CANCELLED)
        return self.done

    def finish(self) -> None:
        """Resolve `done`; more than once is once."""
        if not self._ended:
            self._ended = True
            self._report_latest()
        if not self.done.done():
            self.done.set_result(self.outcome or CANCELLED)

    def _pass_on(self) -> None:
        if self._report_latest():
            self._engine.call_later(REPORT_INTERVAL, self._pass_on)
            return
        self._reporting = False
        if self._latest is not None:  # it came in between
            self._reporting = True
            self._engine.call_soon(self._pass_on)

    def _report_latest(self) -> bool:
        latest, self._latest = self._latest, None
        if latest is None:
            return False
        self._execution.report(*latest)
        return True

    # where the handler runs

    def report(self, done: float, total: float | None, message: str) -> None:
        """Take a progress report, on any thread. The engine is woken at most once in `REPORT_INTERVAL`."""
        self._latest = (done, total, message)
        if not self._reporting:
            self._reporting = True
            with contextlib.suppress(RuntimeError):  # the engine is gone, and nobody is there to be told
                self._engine.call_soon_threadsafe(self._pass_on)

    def returned(self, result: Any) -> None:
        self.outcome = SUCCEEDED
        if result is not None:
            self._execution.output.write(text_of_result(result))

    def raised(self, error: BaseException) -> None:
        """Make an exception the outcome. The traceback, without our own frame, goes into the output."""
        self.outcome, text = failure(error)
        self._execution.output.write(text)
