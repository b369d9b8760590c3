"""Schedules: strictly increasing sequences of slots, each a whole second in UTC.

A schedule is a cron expression on the wall clock of a time zone, an interval on a fixed phase, or one
instant. It is a value: equal definitions are equal schedules, and the next slot depends on nothing but the
definition and the instant asked about. So every instance computes the same slots, a failover never shifts
them, and `slots(a, b)` is the same however (a, b] is cut up.

`start` and `end` bound a schedule, both inclusive. A schedule that could never have a slot is refused when
it is read, as is every field that is unknown or not built yet. What is excluded stays a slot, which is not
to run.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from cronexec.domain.clock_change import ChangedSlot, find_clock_change
from cronexec.domain.duration import format_duration
from cronexec.domain.exclusion import Exclusions
from cronexec.domain.instants import to_datetime, to_seconds, to_text
from cronexec.domain.jitter import draw_delay
from cronexec.domain.recurrence import At, Cron, Recurrence
from cronexec.domain.schedule_error import ScheduleError
from cronexec.domain.schedule_reader import read_schedule
from cronexec.domain.zone import EARLIEST, LATEST

__all__ = ["Schedule", "ScheduleError"]

_FIRST_WINDOW = 64  # seconds; doubled until enough slots are found


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due. Made by `from_document`; equal and hashed by its definition."""

    _recurrence: Recurrence
    _start: int | None
    _end: int | None
    _exclusions: Exclusions | None = None
    _jitter: timedelta | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, name: str) -> Self:
        """Read the `schedule` of the document of the job called `name`; None counts as absent.

        Exactly one of `cron` (with `timezone`, default UTC), `every` (with `anchor`, default the epoch) and
        `at` (with `timezone` where it has no offset). `start` and `end` are inclusive; `exclude` as in
        `exclusion`, `jitter` as in `jitter`, `dst` as in `zone`. H in `cron` is resolved by `name`.

        Raises ScheduleError for the first wrong field, with the further ones in its `others`.
        """
        parts = read_schedule(document, name)
        schedule = cls(parts.recurrence, parts.start, parts.end, parts.exclusions, parts.jitter)
        problems = parts.problems or list(schedule._find_emptiness())
        if problems:
            first, *others = problems
            raise ScheduleError(first.field, str(first), others=tuple(others))
        return schedule

    def to_document(self) -> dict[str, Any]:
        """Return the canonical document, JSON-able; read again, it makes an equal schedule."""
        bounds = {"start": self._start, "end": self._end}
        exclude = {"exclude": self._exclusions.to_document()} if self._exclusions else {}
        jitter = {} if self._jitter is None else {"jitter": format_duration(self._jitter)}
        return (
            self._recurrence.to_document()
            | {key: to_text(instant) for key, instant in bounds.items() if instant is not None}
            | exclude
            | jitter
        )

    def describe(self) -> str:
        """Return the schedule in one line, for people."""
        start = "" if self._start is None else f" from {to_text(self._start)}"
        end = "" if self._end is None else f" until {to_text(self._end)}"
        jitter = "" if self._jitter is None else f" jitter {format_duration(self._jitter)}"
        exclusions = " with exclusions" if self.has_exclusions else ""
        return f"{self._recurrence.describe()}{start}{end}{jitter}{exclusions}"

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot strictly after `instant` (aware), or None if there are no more."""
        found = self._next_after(to_seconds(instant))
        return None if found is None else to_datetime(found)

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the slots in (after, until], ascending, each computed when it is asked for."""
        return map(to_datetime, self._between(to_seconds(after), to_seconds(until)))

    def last_slots(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """Return the newest `count` slots in (after, until], ascending, without going through all of them."""
        since, to = max(to_seconds(after), self._floor), min(to_seconds(until), self._ceiling)
        found: list[int] = []
        window = _FIRST_WINDOW
        while len(found) < count and since < to:
            left = max(since, to - window)
            found = [*deque(self._between(left, to), maxlen=count - len(found)), *found]
            to, window = left, 2 * window
        return [to_datetime(slot) for slot in found]

    @property
    def has_exclusions(self) -> bool:
        """Whether any slot may be excluded; without, `excluded` need not be asked."""
        return self._exclusions is not None

    def excluded(self, slot: datetime) -> str | None:
        """Return what excludes `slot`, as people write it ("2026-12-24"); None where it is to run."""
        return None if self._exclusions is None else self._exclusions.find(to_seconds(slot))

    def excluded_until(self, slot: datetime) -> tuple[str | None, datetime]:
        """Return what excludes `slot`, or None, and an instant up to which the same is true of every slot."""
        if self._exclusions is None:
            return None, to_datetime(LATEST)
        found, until = self._exclusions.find_until(to_seconds(slot))
        return found, to_datetime(min(until, LATEST))

    def starts_at(self, slot: datetime, *, job: str) -> datetime | None:
        """Return the instant before which jitter keeps the run of `job` for `slot`; None without jitter."""
        if self._jitter is None:
            return None
        return slot + draw_delay(self._jitter, job, to_seconds(slot))

    def clock_change(self, slot: datetime) -> ChangedSlot | None:
        """Return what a change of the clocks did to `slot`; None on all other nights."""
        recurrence = self._recurrence
        return find_clock_change(recurrence, to_seconds(slot)) if isinstance(recurrence, Cron) else None

    @property
    def timezone(self) -> str:
        """The time zone of its wall clock; UTC where it has none."""
        return self._recurrence.timezone

    @property
    def instant(self) -> datetime | None:
        """The one slot of an `at` schedule; None for the others."""
        return to_datetime(self._recurrence.at) if isinstance(self._recurrence, At) else None

    @property
    def _floor(self) -> int:
        return EARLIEST if self._start is None else self._start - 1

    @property
    def _ceiling(self) -> int:
        return LATEST if self._end is None else self._end

    def _next_after(self, instant: int) -> int | None:
        found = self._recurrence.next_after(max(instant, self._floor))
        return found if found is not None and found <= self._ceiling else None

    def _between(self, after: int, until: int) -> Iterator[int]:
        slot = self._next_after(after)
        while slot is not None and slot <= until:
            yield slot
            slot = self._next_after(slot)

    def _find_emptiness(self) -> Iterator[ScheduleError]:
        if self._start is None and self._end is None:
            return  # a recurrence without bounds has a slot, or it would have been refused
        if self._start is not None and self._end is not None and self._start > self._end:
            yield ScheduleError(
                "end", f"end {to_text(self._end)} is before start {to_text(self._start)}; swap them."
            )
        elif self._next_after(EARLIEST) is None:
            yield ScheduleError("end", f"{self.describe()!r} has no slot; move start or end.")
