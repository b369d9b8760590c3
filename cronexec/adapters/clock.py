"""The clock of an instance: the database's time, carried on by this machine's monotonic clock.

All instances must agree on what is due, and only the database is common to them. So time is the database's: a
reading of its clock is taken to be true at the middle of its round trip, hence wrong by at most half of it,
and between readings the monotonic clock counts on, which nobody sets. Of the recent readings the one with the
shortest round trip counts. A wall clock that is hours wrong, or is set while the instance runs, changes
nothing but `offset`.

Two readings of one clock differ by no more than half of both round trips. A reading that contradicts the best
one says that something has stepped: another primary with another clock, a database's clock that was set, a
machine that stood still. What was read before is worth nothing then. On Linux the monotonic clock counts the
time in which the machine was suspended, so that a lease passes meanwhile; it is not the clock of the event
loop's timers.

`now` may step back by a few milliseconds with a better reading; whoever needs an order takes it from the
watermark.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

KEPT_FOR = 120.0  # seconds; two machines' clocks drift apart by some ten milliseconds at most in that time
READINGS = 64
TOLERANCE = 0.020  # seconds by which two readings may contradict each other: drift, whole milliseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The database's clock stood at `server_time` at the second `at`, give or take half a round trip."""

    server_time: datetime
    at: float
    round_trip: float

    def instant(self, monotonic: float) -> datetime:
        return self.server_time + timedelta(seconds=monotonic - self.at)

    def contradicts(self, other: "Reading") -> bool:
        """Whether the two cannot be readings of the same clock."""
        differ_by = abs((self.server_time - other.instant(self.at)).total_seconds())
        return differ_by > (self.round_trip + other.round_trip) / 2 + TOLERANCE


class SystemClock:
    """Implements `ports.Clock`. Until the first reading `now` is this machine's wall clock."""

    def __init__(self) -> None:
        start = Reading(server_time=_wall(), at=self.monotonic(), round_trip=float("inf"))
        self._readings: deque[Reading] = deque([start], maxlen=READINGS)
        self._best = start

    def now(self) -> datetime:
        """Return the database's time in whole milliseconds, UTC."""
        return _whole_ms(self._best.instant(self.monotonic()))

    def monotonic(self) -> float:
        """Return the seconds on a clock that nobody sets and, on Linux, that no suspension stops."""
        return _monotonic()

    def measured(self, server_time: datetime, asked_at: float, answered_at: float) -> None:
        middle = (asked_at + answered_at) / 2
        new = Reading(server_time=server_time, at=middle, round_trip=answered_at - asked_at)
        if new.contradicts(self._best):
            self._readings.clear()
        self._readings.append(new)
        recent = [reading for reading in self._readings if reading.at >= answered_at - KEPT_FOR]
        self._best = min(recent or [new], key=lambda reading: reading.round_trip)

    @property
    def offset(self) -> timedelta:
        """The database's clock minus this machine's wall clock; zero until the first reading."""
        return self._best.instant(self.monotonic()) - _wall()


def _monotonic_clock() -> Callable[[], float]:
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if boottime is None else partial(time.clock_gettime, boottime)


_monotonic = _monotonic_clock()


def _wall() -> datetime:
    return datetime.now(UTC)


def _whole_ms(instant: datetime) -> datetime:
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
