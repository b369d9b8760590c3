"""pika's records, as an application that embeds us should see them.

pika reports every failure to connect through its loggers as well, at level ERROR. An application that
configures no logging would get them on stderr by Python's last resort, beside our own error; a handler that
does nothing on the logger `pika` prevents that.

It also tells each step of every healthy connection at level INFO, and calls it an ERROR when we close a
socket ourselves. Both are expected, and said better by our own events, so they are left out: records of a
connection of ours (of the thread that works with it) only, and only as long as the application has set no
level for `pika` itself. What goes wrong is never left out.
"""

import logging
import threading

OWN_CLOSE = "closed by this instance"


class _Expected(logging.Filter):
    """Leaves out what is expected of connections that were opened in `threads`."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread not in self.threads or logging.getLogger("pika").level != logging.NOTSET:
            return True
        return record.levelno > logging.INFO and OWN_CLOSE not in record.getMessage()


_expected = _Expected()


def calm_pika() -> None:
    """Have pika tell of this thread's connections what an operator must know. Idempotent."""
    logger = logging.getLogger("pika")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    _expected.threads.add(threading.get_ident())
    for name, each in list(logging.root.manager.loggerDict.items()):
        if isinstance(each, logging.Logger) and name.startswith("pika."):
            each.addFilter(_expected)
