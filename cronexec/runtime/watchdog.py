"""The watchdog: a thread that ends the term when the engine's own event loop stands still.

The loop beats; when it has not for `limit`, nothing on it can notice anything, the lease included. The thread
then ends the term (the flag is checked before every claim and start, should the loop come back) and shuts the
link's socket down, so that the broker hands the baton on without waiting for heartbeats to be missed.

Shorter stalls are measured and logged: who embeds cronexec in a process that is short of processor time finds
here why slots are late.
"""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from cronexec.log import Log

LOOK_INTERVAL = 0.5
BEAT_INTERVAL = 0.5
STALL = 0.5  # seconds beyond the interval; of these the log tells


class Watched(Protocol):
    """What the watchdog can end from outside the loop."""

    def end_term(self, reason: str) -> None: ...


class Watchdog:
    """Starts with the engine, ends with it."""

    def __init__(
        self, watched: Watched, *, limit: timedelta, monotonic: Callable[[], float], log: Log
    ) -> None:
        self._watched = watched
        self._limit = limit.total_seconds()
        self._monotonic = monotonic
        self._log = log
        self._beat_at = monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """Say that the loop is alive; called from the loop every `BEAT_INTERVAL` seconds."""
        now = self._monotonic()
        stalled = now - self._beat_at - BEAT_INTERVAL
        self._beat_at = now
        if stalled > STALL:
            self._log.warning("engine.stalled", seconds=round(stalled, 2))

    def start(self) -> None:
        self._beat_at = self._monotonic()
        self._thread = threading.Thread(target=self._watch, name="cronexec-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2 * LOOK_INTERVAL)

    def _watch(self) -> None:
        barked = False
        while not self._stop.wait(LOOK_INTERVAL):
            silent = self._monotonic() - self._beat_at
            if silent <= self._limit:
                barked = False
            elif not barked:
                barked = True
                self._log.error("engine.blocked", seconds=round(silent, 1))
                self._watched.end_term("engine_blocked")
