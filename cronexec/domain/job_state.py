"""What lets the slots of a job run or not, without being part of its definition.

A pause, the slots that somebody asked to have skipped once, and blackout windows are *state*: no `job.put`
takes them away, and each of them is a statement about instants. So nothing has to be done when one is
over. A pause with an end has its range entry written up to that end, and the schedule goes on behind it; a
window is looked at when a slot comes due. Whoever holds the baton then finds the same in the job.

What is said here counts for slots that are not decided yet: every change of it is made at an instant up to
which everything is.
"""

from dataclasses import dataclass
from datetime import datetime

from cronexec.domain.run import SkipReason

MOST_BLACKOUTS = 100
MOST_SKIPPED_ONCE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """Why a slot is not run: the reason, what was said of it, and who asked."""

    reason: SkipReason
    note: str | None = None
    issued_by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """That a job is paused, and why, where that was said.

    `until_at`: up to which instant, included, slots are skipped; None: until somebody resumes the job.
    `owner`: who answers for it. `range_id`: the range entry in the ledger, which covers the slots since;
    empty where there are none.
    """

    since_at: datetime
    issued_by: str | None
    range_id: str
    reason: str | None = None
    owner: str | None = None
    until_at: datetime | None = None

    def lasts_beyond(self, instant: datetime) -> bool:
        return self.until_at is None or self.until_at > instant

    def skip(self) -> Skip:
        """Return why a slot within it is not run."""
        return Skip(reason=SkipReason.PAUSED, note=self.reason, issued_by=self.owner or self.issued_by)


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedOnce:
    """One of the next slots, which somebody asked to have skipped."""

    slot: datetime
    issued_by: str | None = None
    reason: str | None = None

    def skip(self) -> Skip:
        return Skip(reason=SkipReason.SKIP_NEXT, note=self.reason, issued_by=self.issued_by)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blackout:
    """A window whose slots are skipped, both ends included; whole seconds."""

    start_at: datetime
    end_at: datetime
    issued_by: str | None = None
    reason: str | None = None

    def covers(self, slot: datetime) -> bool:
        return self.start_at <= slot <= self.end_at

    def skip(self) -> Skip:
        return Skip(reason=SkipReason.BLACKOUT, note=self.reason, issued_by=self.issued_by)
