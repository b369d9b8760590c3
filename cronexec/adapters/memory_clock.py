"""A clock that moves only when it is told to, for the in-memory store and for runtimes driven by hand."""

from datetime import datetime, timedelta


class ManualClock:
    """Implements `ports.Clock`; begins at `now` (aware, whole ms); both its times go together."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._monotonic = 0.0
        self._offset = timedelta()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def measured(self, server_time: datetime, asked_at: float, answered_at: float) -> None:
        """Take no notice: this clock is the database's."""

    @property
    def offset(self) -> timedelta:
        return self._offset

    def advance(self, by: timedelta) -> None:
        self._now += by
        self._monotonic += by.total_seconds()

    def advance_to(self, instant: datetime) -> None:
        self.advance(instant - self._now)

    def set_offset(self, offset: timedelta) -> None:
        """Pretend that this machine's wall clock differs from the database's."""
        self._offset = offset
