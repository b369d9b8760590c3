"""What becomes of the connections to MongoDB: one that breaks in use is told of.

pymongo asks for the answer to a commit again by itself, on another connection, and tells nobody: without this
an answer that was lost and found again would be silent (invariant I7). A connection also closes for reasons
that are nobody's trouble: it was idle, the pool was emptied because of another one, or whoever used it was
cancelled. These are not told of, and neither is one that never came about: the call that wanted it says so.
"""

import asyncio
from typing import Any

from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionClosedReason,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

from cronexec.log import get_logger

Key = tuple[Any, int]  # address, number


class BrokenConnections(ConnectionPoolListener):
    """Belongs to one client; called by it, in the task that uses the connection."""

    def __init__(self) -> None:
        self._ready: set[Key] = set()

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        self._ready.add((event.address, event.connection_id))

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        """Tell of one that was used and broke."""
        key = (event.address, event.connection_id)
        was_ready = key in self._ready
        self._ready.discard(key)
        if was_ready and event.reason == ConnectionClosedReason.ERROR and not _is_cancelled():
            host, port = event.address
            get_logger().warning(
                "database.connection_lost",
                server=f"{host}:{port}",
                why="it broke while it was used; what was not answered is asked again, or told of",
            )

    # Nothing is made of these.

    def pool_created(self, event: PoolCreatedEvent) -> None: ...

    def pool_ready(self, event: PoolReadyEvent) -> None: ...

    def pool_cleared(self, event: PoolClearedEvent) -> None: ...

    def pool_closed(self, event: PoolClosedEvent) -> None: ...

    def connection_created(self, event: ConnectionCreatedEvent) -> None: ...

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None: ...

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None: ...

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None: ...

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None: ...


def _is_cancelled() -> bool:
    """Whether the task that uses the connection is being cancelled: then it is left, not broken."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
