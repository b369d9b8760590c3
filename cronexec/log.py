"""Log events: constant dotted names with fields (`baton.acquired`, `run.claimed`, `term.ended reason=…`).

The library only binds loggers. An application that configures structlog gets events its own way; one that
does not gets them as lines of the standard logger `cronexec`, and prints them or not. So ask for a logger
when there is something to log, not at import. `configure` is for processes of our own (`cronexec serve`,
`cronexec dev`).

Events of warning and error level are counted by their names, where somebody counts (`count_with`): whatever
an instance does, in whichever part, it does in the context of its start. They are counted before the
application's processors see them, whether or not its logging shows them; what a wrapper class drops
(structlog's filtering logger above `warning`) is not.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Log = structlog.stdlib.BoundLogger

_PLAIN: list[
    Any
] = [  # where the application has not configured structlog: lines of key=value for its standard logging
    structlog.stdlib.filter_by_level,
    structlog.processors.format_exc_info,
    structlog.processors.LogfmtRenderer(key_order=["event"]),
]
logging.getLogger("cronexec").addHandler(logging.NullHandler())
_COUNTED = {"warning", "warn", "error", "exception", "critical", "fatal"}  # names of a logger's methods

Count = Callable[[str], None]
_count: ContextVar[Count | None] = ContextVar("cronexec_count", default=None)


class _Counted:
    """The processors of a logger, the first of which counts; the others are as configured at each event."""

    def __init__(self, count: Count, processors: Callable[[], Iterable[Processor]]) -> None:
        self._counting = counting(count)
        self._processors = processors

    def __iter__(self) -> Iterator[Processor]:
        yield self._counting
        yield from self._processors()


def counting(count: Count) -> Processor:
    """Return a processor that calls `count` with the name of each event of warning or error level."""

    def see(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if method in _COUNTED:
            count(str(event.get("event")))
        return event

    return see


def count_with(count: Count) -> None:
    """Have `count` called with the name of each event of warning or error level, on any thread.

    It counts for loggers that are got from now on, in this context and in the tasks that it begins.
    """
    _count.set(count)


def get_logger(**fields: Any) -> Log:
    """Return a logger whose events carry `fields`."""
    count = _count.get()
    if structlog.is_configured():
        logger: Log = structlog.wrap_logger(
            None,
            processors=None if count is None else _Counted(count, _configured),
            logger_factory_args=("cronexec",),
            **fields,
        )
    else:
        logger = structlog.wrap_logger(
            logging.getLogger("cronexec"),
            processors=_PLAIN if count is None else _Counted(count, lambda: _PLAIN),
            wrapper_class=structlog.stdlib.BoundLogger,
            **fields,
        )
    return logger


def _configured() -> list[Processor]:
    processors: list[Processor] = structlog.get_config()["processors"]
    return processors


def configure(*, level: str = "info", fmt: str = "auto") -> None:
    """Write events to standard error.

    `console` for people, `json` for programs, `auto` by whether it is a terminal.
    """
    as_json = fmt == "json" or (fmt == "auto" and not sys.stderr.isatty())
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(pad_event_to=28)
    )
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format="%(message)s")
    # pika reports every failed connection attempt with a traceback; we say it in one sentence ourselves.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
