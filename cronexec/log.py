"""Log events: constant dotted names with fields (`baton.acquired`, `run.claimed`, `term.ended reason=…`).

The library only binds loggers. An application that configures structlog gets events its own way; one that
does not gets them as lines of the standard logger `cronexec`, and prints them or not. So ask for a logger
when there is something to log, not at import. `configure` is for processes of our own (`cronexec serve`,
`cronexec dev`).
"""

import logging
import sys
from typing import Any

import structlog

Log = structlog.stdlib.BoundLogger

_PLAIN: list[
    Any
] = [  # where the application has not configured structlog: lines of key=value for its standard logging
    structlog.stdlib.filter_by_level,
    structlog.processors.format_exc_info,
    structlog.processors.LogfmtRenderer(key_order=["event"]),
]
logging.getLogger("cronexec").addHandler(logging.NullHandler())


def get_logger(**fields: Any) -> Log:
    """Return a logger whose events carry `fields`."""
    if structlog.is_configured():
        logger: Log = structlog.stdlib.get_logger("cronexec", **fields)
    else:
        logger = structlog.wrap_logger(
            logging.getLogger("cronexec"),
            processors=_PLAIN,
            wrapper_class=structlog.stdlib.BoundLogger,
            **fields,
        )
    return logger


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
