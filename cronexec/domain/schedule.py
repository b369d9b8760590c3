"""Schedules: strictly increasing sequences of slots, each a whole second in UTC.

A schedule is a cron expression on the wall clock of a time zone, an interval on a fixed phase, or one
instant. It is a value: equal definitions are equal schedules, and the next slot depends on nothing but the
definition and the instant asked about. So every instance computes the same slots, a failover never shifts
them, and `slots(a, b)` is the same however (a, b] is cut up.

`start` and `end` bound a schedule, both inclusive. A schedule that could never have a slot is refused when
it is read, as is every field that is unknown or not built yet.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self, TypeVar

from cronexec.domain.cron import CronExpression, canonical_cron, parse_cron
from cronexec.domain.duration import format_duration, parse_duration
from cronexec.domain.schedule_error import ScheduleError, did_you_mean
from cronexec.domain.zone import EARLIEST, EPOCH, LATEST, Zone, get_zone

__all__ = ["Schedule", "ScheduleError"]

_Value = TypeVar("_Value")

_SECOND = timedelta(seconds=1)
_KINDS = ("cron", "every", "at")
_FIELDS = {
    "cron": ("cron", "timezone", "start", "end"),
    "every": ("every", "anchor", "start", "end"),
    "at": ("at", "timezone"),
}
_NOT_BUILT = ("exclude", "jitter", "dst")
_REFUSED = {
    (
        "every",
        "timezone",
    ): "every counts elapsed time, on which a time zone has no effect; use cron for local times.",
    ("at", "start"): "at is one instant and takes no start; leave it out.",
    ("at", "end"): "at is one instant and takes no end; leave it out.",
}
_FIRST_WINDOW = 64  # seconds; doubled until enough slots are found


class _Recurrence(Protocol):
    """The slots without their bounds, in seconds since the epoch."""

    def next_after(self, instant: int) -> int | None: ...

    def to_document(self) -> dict[str, Any]: ...

    def describe(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Cron:
    cron: str
    timezone: str
    expression: CronExpression = field(compare=False, repr=False)
    zone: Zone = field(compare=False, repr=False)

    def next_after(self, instant: int) -> int | None:
        if self.expression.fixed_time:
            return self.zone.next_first_occurrence(self.expression.next_after, instant)
        return self.zone.next_occurrence(self.expression.next_after, instant)

    def to_document(self) -> dict[str, Any]:
        return {"cron": self.cron, "timezone": self.timezone}

    def describe(self) -> str:
        return f"{self.cron} {self.timezone}"


@dataclass(frozen=True, slots=True)
class _Every:
    every: int
    anchor: int

    def next_after(self, instant: int) -> int:
        return instant + self.every - (instant - self.anchor) % self.every

    def to_document(self) -> dict[str, Any]:
        anchor = {"anchor": _to_text(self.anchor)} if self.anchor else {}
        return {"every": format_duration(self.every * _SECOND), **anchor}

    def describe(self) -> str:
        return f"every {format_duration(self.every * _SECOND)}"


@dataclass(frozen=True, slots=True)
class _At:
    at: int

    def next_after(self, instant: int) -> int | None:
        return self.at if instant < self.at else None

    def to_document(self) -> dict[str, Any]:
        return {"at": _to_text(self.at)}

    def describe(self) -> str:
        return f"at {_to_text(self.at)}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due. Made by `from_document`; equal and hashed by its definition."""

    _recurrence: _Recurrence
    _start: int | None
    _end: int | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, name: str) -> Self:  # noqa: ARG003  H will hash it
        """Read the `schedule` of the document of the job called `name`; None counts as absent.

        Exactly one of `cron` (with `timezone`, default UTC), `every` (with `anchor`, default the epoch) and
        `at` (with `timezone` where it has no offset); `start` and `end` are inclusive. Raises ScheduleError
        for the first wrong field, with the further ones in its `others`.
        """
        given = {key: value for key, value in document.items() if value is not None}
        kind = _read_kind(given)
        problems = list(_refuse_unknown(kind, given))
        reader = _Reader(given, problems)
        recurrence = reader.read_recurrence(kind)
        schedule = cls(recurrence, reader.read_instant("start"), reader.read_instant("end"))
        if not problems:
            problems.extend(schedule._find_emptiness())
        if problems:
            first, *others = problems
            raise ScheduleError(first.field, str(first), others=tuple(others))
        return schedule

    def to_document(self) -> dict[str, Any]:
        """Return the canonical document, JSON-able; read again, it makes an equal schedule."""
        bounds = {"start": self._start, "end": self._end}
        return self._recurrence.to_document() | {
            key: _to_text(instant) for key, instant in bounds.items() if instant is not None
        }

    def describe(self) -> str:
        """Return the schedule in one line, for people."""
        start = "" if self._start is None else f" from {_to_text(self._start)}"
        end = "" if self._end is None else f" until {_to_text(self._end)}"
        return f"{self._recurrence.describe()}{start}{end}"

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot strictly after `instant` (aware), or None if there are no more."""
        found = self._next_after(_to_seconds(instant))
        return None if found is None else _to_datetime(found)

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the slots in (after, until], ascending, each computed when it is asked for."""
        return map(_to_datetime, self._between(_to_seconds(after), _to_seconds(until)))

    def last_slots(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """Return the newest `count` slots in (after, until], ascending, without going through all of them."""
        since, to = max(_to_seconds(after), self._floor), min(_to_seconds(until), self._ceiling)
        found: list[int] = []
        window = _FIRST_WINDOW
        while len(found) < count and since < to:
            left = max(since, to - window)
            found = [*deque(self._between(left, to), maxlen=count - len(found)), *found]
            to, window = left, 2 * window
        return [_to_datetime(slot) for slot in found]

    @property
    def instant(self) -> datetime | None:
        """The one slot of an `at` schedule; None for the others."""
        return _to_datetime(self._recurrence.at) if isinstance(self._recurrence, _At) else None

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
                "end", f"end {_to_text(self._end)} is before start {_to_text(self._start)}; swap them."
            )
        elif self._next_after(EARLIEST) is None:
            yield ScheduleError("end", f"{self.describe()!r} has no slot; move start or end.")


class _Reader:
    """Reads the fields of one document, and keeps what is wrong with them; what is wrong is read as None."""

    def __init__(self, given: Mapping[str, Any], problems: list[ScheduleError]) -> None:
        self._given = given
        self._problems = problems
        self._zone = self._attempt(self._read_zone) or (get_zone("UTC") if "timezone" in given else None)

    def read_recurrence(self, kind: str) -> Any:
        read = {"cron": self._read_cron, "every": self._read_every, "at": self._read_at}[kind]
        return self._attempt(read)

    def read_instant(self, name: str) -> int | None:
        return self._attempt(lambda: self._read_instant(name)) if name in self._given else None

    def _attempt(self, read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except ScheduleError as error:
            self._problems.append(error)
            return None

    def _read_zone(self) -> Zone | None:
        timezone = self._given.get("timezone")
        if timezone is None:
            return None
        if not isinstance(timezone, str):
            raise ScheduleError(
                "timezone", f"{timezone!r} is no time zone; use a name such as Europe/Amsterdam."
            )
        return get_zone(timezone)

    def _read_cron(self) -> _Cron:
        if not isinstance(self._given["cron"], str):
            raise ScheduleError("cron", f'{self._given["cron"]!r} is no text; write cron as "0 3 * * *".')
        text = canonical_cron(self._given["cron"])
        zone = self._zone or get_zone("UTC")
        return _Cron(text, zone.name, parse_cron(text), zone)

    def _read_every(self) -> _Every:
        try:
            every = parse_duration(self._given["every"])
        except ValueError as error:
            raise ScheduleError("every", str(error)) from None
        if every < _SECOND or every % _SECOND:
            raise ScheduleError(
                "every", f"every {format_duration(every)}: give at least 1s, in whole seconds."
            )
        return _Every(every // _SECOND, self.read_instant("anchor") or 0)

    def _read_at(self) -> _At:
        return _At(self._read_instant("at"))

    def _read_instant(self, name: str) -> int:
        instant = _parse_instant(name, self._given[name])
        if instant.microsecond:
            raise ScheduleError(name, f"{name} {instant.isoformat()} has a fraction; give whole seconds.")
        if instant.utcoffset() is not None:
            return _check_range(name, _to_seconds(instant))
        if self._zone is None:
            raise ScheduleError(
                name,
                f"{name} {instant.isoformat()} has no offset; add one (as in {instant.isoformat()}+01:00).",
            )
        return _check_range(name, self._zone.first_occurrence(_to_seconds(instant.replace(tzinfo=UTC))))


def _read_kind(given: Mapping[str, Any]) -> str:
    kinds = [kind for kind in _KINDS if kind in given]
    if len(kinds) != 1:
        said = " and ".join(kinds) or "none"
        raise ScheduleError(
            kinds[-1] if kinds else "cron",
            f"A schedule is exactly one of cron, every and at; given: {said}.",
        )
    return kinds[0]


def _refuse_unknown(kind: str, given: Mapping[str, Any]) -> Iterator[ScheduleError]:
    for key in given:
        if key in _NOT_BUILT:
            yield ScheduleError(key, f"{key} is not available yet; leave it out.")
        elif (kind, key) in _REFUSED:
            yield ScheduleError(key, _REFUSED[kind, key])
        elif key not in _FIELDS[kind]:
            hint = did_you_mean(key, _FIELDS[kind]) or f"; it takes {', '.join(_FIELDS[kind])}."
            yield ScheduleError(key, f"A schedule with {kind} has no field {key!r}{hint}")


def _parse_instant(name: str, value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ScheduleError(
            name, f"{name} {value!r} is no instant; write it as 2026-12-24T18:00:00+01:00."
        ) from None


def _check_range(name: str, instant: int) -> int:
    if not EARLIEST < instant <= LATEST:
        raise ScheduleError(
            name, f"{name} is beyond what a calendar is computed for; give a year from 100 to 9900."
        )
    return instant


def _to_seconds(instant: datetime) -> int:
    return (instant - EPOCH) // _SECOND


def _to_datetime(seconds: int) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def _to_text(seconds: int) -> str:
    return _to_datetime(seconds).isoformat().replace("+00:00", "Z")
