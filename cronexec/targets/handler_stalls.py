"""Measures whether the handler loop stands still: an asynchronous handler blocks it, and all others on it.

While handlers run, the engine asks the loop for a sign twice a second. No sign for `STALL` seconds is told
once, with the line at which the loop's thread stands; that the loop turns again, once more. Nobody's term is
at stake: the engine's own loop is another, which the watchdog measures.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from traceback import extract_stack
from types import FrameType

from cronexec.log import get_logger

ASK_INTERVAL = 0.5
STALL = 1.0  # seconds without a sign
LATE = 0.5  # seconds by which the engine itself may be late: the process stood still, not the handlers


class StallWatch:
    """Made and used on the engine's loop. `is_busy`: whether there are handlers to wait for."""

    def __init__(
        self,
        engine: asyncio.AbstractEventLoop,
        watched: asyncio.AbstractEventLoop,
        is_busy: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._watched = watched
        self._is_busy = is_busy
        self._log = get_logger()
        self._timer: asyncio.TimerHandle | None = None
        self._asked_at = 0.0
        self._sign_given = False
        self._thread: int | None = None
        self._told = False

    def wake(self) -> None:
        """Begin to ask, as long as there are handlers."""
        if self._timer is None:
            self._ask()

    def stop(self) -> None:
        """Ask no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self) -> None:
        self._asked_at, self._sign_given, self._told = self._engine.time(), False, False
        try:
            self._watched.call_soon_threadsafe(self._give_sign)
        except RuntimeError:  # it is closed
            self._timer = None
            return
        self._look_later()

    def _give_sign(self) -> None:
        """Run on the loop that is watched."""
        self._thread = threading.get_ident()
        self._sign_given = True

    def _look_later(self) -> None:
        self._look_at = self._engine.time() + ASK_INTERVAL
        self._timer = self._engine.call_at(self._look_at, self._look)

    def _look(self) -> None:
        now = self._engine.time()
        silent = now - self._asked_at
        if self._sign_given:
            if self._told:
                self._log.info("handlers.resumed", seconds=round(silent, 1))
            self._timer = None
            if self._is_busy():
                self._ask()
        elif now - self._look_at > LATE and not self._told:
            self._ask()
        else:
            if silent >= STALL and not self._told:
                self._told = True
                self._log.warning("handlers.stalled", seconds=round(silent, 1), at=self._stands_at())
            self._look_later()

    def _stands_at(self) -> str | None:
        """Return the line that the loop's thread has come to, where that is known: FILE:LINE FUNCTION."""
        frame: FrameType | None = sys._current_frames().get(self._thread or 0)  # noqa: SLF001  made for this
        if frame is None:
            return None
        last = extract_stack(frame, limit=1)[-1]
        return f"{last.filename}:{last.lineno} {last.name}"
