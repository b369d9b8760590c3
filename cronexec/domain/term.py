"""Terms: who holds, since when, under which number, and for how long that may be believed.

A *term* is one uninterrupted holding of the baton. Its number, the *epoch*, always rises and is kept in the
database with a sequence number that every fenced write changes: a write that names an (epoch, seq) which is
not there any more does nothing (invariant I3). The holder itself believes in its term only while a fenced
write was acknowledged within the last `lease`, counted from the write's start (I5).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class TermRecord:
    """The term document as an observer reads it. All instants are UTC.

    `read_at` is the database's clock at the read.
    """

    epoch: int
    seq: int
    watermark: datetime
    revision: int
    holder_id: str | None
    holder_name: str | None
    datacenter: str | None
    since_at: datetime | None
    read_at: datetime
    catching_up: bool = False

    @property
    def lag(self) -> timedelta:
        """How far the schedule is behind the database's clock."""
        return self.read_at - self.watermark


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """This instance's own term: what a fenced write must find. `seq` is the one that the next write expects.

    `session` names the database session of all the term's transactions, so that a successor can end it.
    """

    epoch: int
    seq: int
    watermark: datetime
    revision: int
    since_at: datetime
    session: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """Until when a term may be believed, on the monotonic clock (seconds)."""

    length: timedelta
    renewed_at: float

    def renewed(self, started_at: float) -> "Lease":
        """Return the lease after a fenced write, acknowledged, that was *started* at `started_at`."""
        return Lease(length=self.length, renewed_at=max(self.renewed_at, started_at))

    def holds(self, monotonic: float) -> bool:
        return monotonic < self.renewed_at + self.length.total_seconds()
