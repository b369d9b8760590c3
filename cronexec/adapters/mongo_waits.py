"""A wait in pymongo that a cancellation breaks on Python 3.11, and how it is mended.

Whoever looks for a server waits on a condition of pymongo's, with `asyncio.wait_for` around it. Up to Python
3.11 that runs the wait in a task of its own. After the timeout this task takes the condition's lock again; a
caller that is cancelled at that moment leaves without it. So he releases a lock that is another's ("Lock is
not acquired", says the other's release), and the task that he left behind takes it and keeps it. From then on
every call of this client waits for ever, without an error, and the instance is as good as dead. Terms that
end while the database is away cancel many such waits.

Since Python 3.12 `wait_for` waits in the caller's own task, and this cannot happen. `mend_waits` gives
pymongo one that does so too.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

from pymongo import lock

T = TypeVar("T")


def mend_waits() -> None:
    """Have pymongo wait in the caller's own task. Idempotent; nothing is done where Python does it."""
    if sys.version_info < (3, 12):
        vars(lock)["wait_for"] = _wait_for


async def _wait_for(waited_for: Awaitable[T], timeout: float | None) -> T:
    async with asyncio.timeout(timeout):
        return await waited_for
