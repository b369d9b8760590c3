"""One call of a handler: what the engine, which waits for it, and the loop or thread that performs it share.

`done` and everything about reporting belong to the engine's loop; `task` to the handler loop.
"""

import asyncio
import contextlib
import contextvars
import traceback
from collections.abc import Callable
from typing import Any

from cronexec.domain.redaction import redact_url
from cronexec.domain.run import Outcome, RunState
from cronexec.ports import Execution
from cronexec.targets import identity
from cronexec.targets.handler_run import Run

REPORT_INTERVAL = 0.1  # seconds between two progress reports of a run that go on to the engine
MOST_ERROR = 2000  # characters
MOST_RESULT = 16 * 1024
MOST_TRACEBACK = 64 * 1024

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
            self._execution.output.write(_as_text(result)[:MOST_RESULT] + "\n")

    def raised(self, error: BaseException) -> None:
        """Make an exception the outcome. The traceback, without our own frame, goes into the output."""
        sentence = redact_url(f"{type(error).__name__}: {_message(error)}".rstrip(": "))
        self.outcome = Outcome(
            state=RunState.FAILED, error=sentence[:MOST_ERROR], exceptions=names_of(type(error))
        )
        tb = error.__traceback__
        lines = traceback.format_exception(type(error), error, tb.tb_next if tb else None)
        self._execution.output.write(redact_url("".join(lines)[-MOST_TRACEBACK:]))


def names_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the names of an exception's class and its bases, as `Outcome.exceptions` has them."""
    return tuple(
        each.__qualname__ if each.__module__ == "builtins" else f"{each.__module__}.{each.__qualname__}"
        for each in kind.__mro__
        if each not in (object, BaseException)
    )


def _as_text(result: Any) -> str:
    try:
        return identity.to_json(result)
    except Exception:  # noqa: BLE001  it has a __str__ of its own
        return f"a {type(result).__name__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  it has a __str__ of its own
        return "(its message cannot be printed)"
