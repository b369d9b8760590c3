"""The guard of a term: the one place that says whether this instance may still act as the holder.

It is asked before every claim and every start, and it is told by everybody who learns otherwise: the link
(connection, channel or consumer gone), the fence (another epoch), the watchdog (the event loop stands still),
the stop of the instance. The first reason wins. It also ends by itself, when no fenced write was acknowledged
for `lease` on the monotonic clock: a process that was stopped and continued finds its lease over before it
does anything (invariant I5).
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from cronexec.domain.term import Lease


class TermGuard:
    """Thread-safe. `ended` is a level, not an event: once over, a term is over."""

    def __init__(self, *, lease: timedelta, monotonic: Callable[[], float], renewed_at: float) -> None:
        self._monotonic = monotonic
        self._lease = Lease(length=lease, renewed_at=renewed_at)
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    @property
    def lease(self) -> timedelta:
        """For how long the term outlasts the start of its last acknowledged write."""
        return self._lease.length

    @property
    def reason(self) -> str | None:
        """Why the term is over; None while it is not known to be."""
        return self._reason

    def holds(self) -> bool:
        """Whether this instance may act as the holder, now."""
        if self._reason is None and not self._lease.holds(self._monotonic()):
            self.end("lease_expired")
        return self._reason is None

    def renew(self, started_at: float) -> None:
        """Take note of an acknowledged fenced write that was started at `started_at` (monotonic seconds)."""
        self._lease = self._lease.renewed(started_at)

    def remaining(self) -> float:
        """Return the seconds left of the lease."""
        return self._lease.renewed_at + self._lease.length.total_seconds() - self._monotonic()

    def end(self, reason: str) -> None:
        """End the term. Callable from any thread, any number of times."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)

    async def wait_ended(self) -> str:
        """Wait until the term is over; returns the reason."""
        while self.holds():
            # Nobody may be left to notice the end of the lease: the scheduler hangs in a write, say.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.remaining()):
                    await self._ended.wait()
        return self._reason or "ended"
