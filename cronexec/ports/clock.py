"""Time."""

from datetime import datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Time. `now` is the database's clock: a measured offset, advanced by the monotonic clock."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float:
        """Seconds on a clock that no one sets."""
        ...

    def measured(self, server_time: datetime, asked_at: float, answered_at: float) -> None:
        """Take a reading of the database's clock, asked and answered at these monotonic times."""
        ...

    @property
    def offset(self) -> timedelta:
        """The database's clock minus this machine's wall clock."""
        ...
