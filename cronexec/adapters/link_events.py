"""The events of a link: a queue that ends with `LinkLost`, and then says nothing else any more."""

import asyncio
from collections import deque

from cronexec.ports import LinkEvent, LinkLost


class LinkEvents:
    """What a link tells its reader.

    The loss overtakes and voids everything that was not read yet: none of it is ours any more.
    """

    def __init__(self) -> None:
        self._waiting: deque[LinkEvent] = deque()
        self._changed = asyncio.Event()
        self._lost: LinkLost | None = None

    @property
    def lost(self) -> LinkLost | None:
        return self._lost

    def put(self, event: LinkEvent) -> None:
        if self._lost is None:
            self._waiting.append(event)
            self._changed.set()

    def lose(self, reason: str) -> bool:
        """End the link; returns whether this call was the one that did."""
        if self._lost is not None:
            return False
        self._lost = LinkLost(reason=reason)
        self._waiting.clear()
        self._changed.set()
        return True

    async def next(self) -> LinkEvent:
        """Wait for the next event; safe to cancel. After the loss: the loss, at every call."""
        while not self._waiting and self._lost is None:
            self._changed.clear()
            await self._changed.wait()
        return self._lost or self._waiting.popleft()
