"""An event loop whose time is made up: when nothing can go on now, its clock jumps to the next timer.

So a test that lets an hour pass takes as long as what happens in that hour, and waiting for an event with a
timeout costs nothing until it happens. Tests ask for it with `pytest.mark.virtual_time`.
"""

import asyncio
import selectors
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONGEST = 10 * 86400.0  # seconds of made-up time, beyond which a test waits for what never happens
STANDSTILL = 5.0  # real seconds without any timer, in which another thread may still wake the loop


class _JumpingSelector(selectors.BaseSelector):
    """Looks at the sockets without waiting; where the loop would wait, its time goes on instead."""

    def __init__(self) -> None:
        self._sockets = selectors.DefaultSelector()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._sockets.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None:
            return self._sockets.select(STANDSTILL) or self._stuck("nothing would ever happen any more")
        self.now += timeout
        return self._stuck("far too much time went by") if self.now > LONGEST else []

    def _stuck(self, why: str) -> list[tuple[selectors.SelectorKey, int]]:
        raise AssertionError(why)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._sockets.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._sockets.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._sockets.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._sockets.get_map()

    def close(self) -> None:
        self._sockets.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def freeze(self, seconds: float) -> None:
        """Let time pass while nothing runs, as for a process that is stopped and continued."""
        self._jumping.now += seconds


class LoopClock:
    """Implements `ports.Clock` on the loop's time; it begins at noon."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> datetime:
        return NOON + timedelta(milliseconds=int(self._loop.time() * 1000 + 0.001))

    def monotonic(self) -> float:
        return self._loop.time()

    def measured(self, server_time: datetime, asked_at: float, answered_at: float) -> None:
        """Take no notice: this clock is the database's."""

    @property
    def offset(self) -> timedelta:
        return timedelta()


def freeze(seconds: float) -> None:
    """Freeze the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.freeze(seconds)
