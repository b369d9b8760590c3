"""Log events: constant dotted names with fields (`baton.acquired`, `run.claimed`, `term.ended reason=…`).

The library only binds loggers; an application that embeds cronexec configures structlog or not, as it likes.
`configure` is for processes of our own (`cronexec serve`, `cronexec dev`).
"""

import logging
import sys
from typing import Any

import structlog

Log = structlog.stdlib.BoundLogger


def get_logger(**fields: Any) -> Log:
    """Return a logger whose events carry `fields`."""
    logger: Log = structlog.stdlib.get_logger("cronexec").bind(**fields)
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
