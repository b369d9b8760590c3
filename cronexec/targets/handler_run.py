"""What a handler is given, `Run`, which is a public name of cronexec.

It is used on the handler's thread or loop, never on the engine's.
"""

import copy
import math
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from cronexec.domain.run import Cause
from cronexec.domain.run import Run as Entry
from cronexec.ports import OutputSink

MESSAGE_AT_MOST = 1000  # characters
INT64 = 2**63
_IDENTITY = frozenset({"job", "slot", "run_id", "attempt", "event"})


class Cancelled:
    """Whether the run was cancelled, has timed out, or its instance is stopping.

    Like a `threading.Event` that is only read. It costs nothing until somebody waits for it.
    """

    __slots__ = ("_event", "_is_set")

    _making = threading.Lock()

    def __init__(self) -> None:
        self._is_set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        return self._is_set

    __bool__ = is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until it is set, or for `timeout` seconds. Returns whether it is."""
        with self._making:
            if self._event is None:
                self._event = threading.Event()
        if self._is_set:
            return True
        return self._event.wait(timeout)

    def _set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()


class Reported:
    """The answer to `run.progress(...)`: asynchronous handlers may await it, others ignore it.

    Awaiting gives the loop a turn, so that a handler which computes can be cancelled there.
    """

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


_REPORTED = Reported()


class Run:
    """The run that a handler executes.

    `id` is the same at every attempt: use it as an idempotency key. `cancelled` is for handlers that are not
    asynchronous: a thread cannot be stopped, so one that runs for long looks there from time to time.
    """

    __slots__ = (
        "_entry",
        "_log",
        "_output",
        "_params",
        "_params_given",
        "_processors",
        "_report",
        "cancelled",
    )

    def __init__(
        self,
        entry: Entry,
        params: Mapping[str, Any],
        *,
        report: Callable[[float, float | None, str], None],
        output: OutputSink,
        processors: Sequence[Any] | None = None,
    ) -> None:
        """`processors`: of the logger, where they are not those that structlog is configured with."""
        self._entry = entry
        self._processors = processors
        self._params_given = params
        self._params: dict[str, Any] | None = None
        self._report = report
        self._output = output
        self._log: Any = None
        self.cancelled = Cancelled()

    @property
    def id(self) -> str:
        """`JOB@SLOT`, or `JOB#KEY` of a trigger."""
        return self._entry.id

    @property
    def job(self) -> str:
        return self._entry.job

    @property
    def slot(self) -> datetime:
        """The instant the run is for, UTC, whole seconds; of a trigger, when it was applied."""
        return self._entry.slot

    @property
    def attempt(self) -> int:
        """From 1."""
        return self._entry.attempt

    @property
    def epoch(self) -> int:
        """The number of the term that claimed the run; it only rises: a fencing token."""
        return self._entry.epoch

    @property
    def scheduled(self) -> bool:
        """Whether the run is for a slot of the schedule; otherwise somebody triggered it."""
        return self._entry.cause is Cause.SCHEDULE

    @property
    def params(self) -> dict[str, Any]:
        """The job's params, with those of a trigger; a copy of this run's own."""
        if self._params is None:
            self._params = copy.deepcopy(dict(self._params_given))
        return self._params

    @property
    def log(self) -> Any:
        """A structlog logger bound to the run; what it logs is in the run's output as well."""
        if self._log is None:
            processors = self._processors or structlog.get_config()["processors"]
            self._log = structlog.wrap_logger(
                None,
                processors=[self._print, *processors],
                logger_factory_args=("cronexec.run",),
                job=self.job,
                slot=self.slot.isoformat(),
                run_id=self.id,
                attempt=self.attempt,
            )
        return self._log

    def progress(self, done: float, total: float | None = None, message: object = "") -> Reported:
        """Report how far the run is; of a message, its text counts, up to 1000 characters.

        From any thread, as often as you like: of several at a time, the last one counts.

        Raises:
            TypeError: `done` or `total` is no int or float.
            ValueError: it is infinite, not a number, or an int of more than 64 bits.
        """
        self._report(
            _number("done", done), None if total is None else _number("total", total), _text(message)
        )
        return _REPORTED

    def print(self, text: str) -> None:
        """Add a line to the run's output."""
        self._output.write(f"{text}\n")

    def _print(self, _logger: Any, method: str, event: Any) -> Any:
        fields = "".join(f" {key}={value!r}" for key, value in event.items() if key not in _IDENTITY)
        self._output.write(f"{method} {event.get('event', '')}{fields}\n")
        return event


def _number(name: str, value: Any) -> float:
    """Return a plain int or float that the database can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"run.progress: {name} must be an int or a float, not {type(value).__name__}")
    if isinstance(value, int):
        if not -INT64 <= value < INT64:
            raise ValueError(f"run.progress: {name} must fit in 64 bits")
        return int(value)
    if not math.isfinite(value):
        raise ValueError(f"run.progress: {name} must be a finite number, not {value}")
    return float(value)


def _text(message: object) -> str:
    """Return the message as text that UTF-8 can encode: no half of a surrogate pair."""
    text = str(message)[:MESSAGE_AT_MOST]
    return text if text.isascii() else text.encode(errors="replace").decode()
