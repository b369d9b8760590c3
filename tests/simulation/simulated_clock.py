"""The clocks of one instance: the real `SystemClock` on a monotonic clock that drifts, a wall that steps."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cronexec.adapters.clock import READINGS, Reading, SystemClock

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the true instant so many seconds after noon, when every history begins; whole milliseconds."""
    return NOON + timedelta(milliseconds=int(seconds * 1000 + 0.001))


class ServerClock:
    """The database's clock: true time."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time

    def now(self) -> datetime:
        return at(self._time())

    def monotonic(self) -> float:
        return self._time()

    def measured(self, server_time: datetime, asked_at: float, answered_at: float) -> None:
        """Take no notice."""

    @property
    def offset(self) -> timedelta:
        return timedelta()


class SimulatedClock(SystemClock):
    """`drift`: how much faster than time; `wrong_by`: how far the wall clock is ahead."""

    def __init__(self, time: Callable[[], float], *, drift: float, wrong_by: timedelta) -> None:
        self._time = time
        self._rate = 1.0 + drift
        self.wrong_by = wrong_by
        start = Reading(server_time=self.wall(), at=self.monotonic(), round_trip=float("inf"))
        self._readings = deque([start], maxlen=READINGS)
        self._best = start

    def monotonic(self) -> float:
        return 1000.0 + self._time() * self._rate

    @property
    def offset(self) -> timedelta:
        return self._best.instant(self.monotonic()) - self.wall()

    def step(self, by: timedelta) -> None:
        """Set the wall clock."""
        self.wrong_by += by

    def wall(self) -> datetime:
        return at(self._time()) + self.wrong_by
