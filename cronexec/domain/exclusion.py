"""Exclusions: slots that a schedule has and a job is not to run.

`exclude` is a list of

- days and stretches of time, both ends included: `2026-12-24`, `2026-12-24/2027-01-02`, the same with
  instants, or `{from: ..., to: ...}`. A day is one of the wall clock;
- cron expressions, `{cron: "* * 24-26 12 *"}`: a slot is excluded where the wall clock matches it, to the
  minute with five fields and to the second with six;
- calendars, `{calendar: [2026-12-25, 2027-01-01]}`: a list of days.

The wall clock is that of the schedule's time zone. An excluded slot stays a slot: it is due, and accounted
for in the ledger as skipped (I1), so nothing here changes which slots there are.

Every entry says how long its answer stays the same. So a month that is excluded is passed over in a few
steps, whether a job has one slot in it or millions.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Protocol, TypeGuard

from cronexec.domain.cron import CronExpression, canonical_cron, parse_cron
from cronexec.domain.instants import read_instant, to_seconds, to_text
from cronexec.domain.schedule_error import ScheduleError, did_you_mean
from cronexec.domain.zone import DAY, EARLIEST, LATEST, Zone

_FOR_EVER = LATEST - EARLIEST
_MOST = 1000  # entries of a list; a document has at most 64 KiB anyway
_FIELDS = ("from", "to", "cron", "calendar")
_ACCEPTED = (
    "write a day (2026-12-24), a stretch (2026-12-24/2027-01-02, or {from: ..., to: ...}), "
    '{cron: "* * 24-26 12 *"} or {calendar: [2026-12-25]}'
)


class Exclusion(Protocol):
    """One entry of `exclude`; it is asked about an instant, at which the wall clock shows `local`."""

    def covers(self, instant: int, local: int) -> bool: ...

    def lasts(self, instant: int, local: int) -> int:
        """Return for how many seconds more `covers` says the same, at least, while the offset stays."""

    def to_document(self) -> Any: ...

    def describe(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Exclusions:
    """All entries, in the order they were given in, on the wall clock of one time zone."""

    timezone: str
    entries: tuple[Exclusion, ...]
    zone: Zone = field(compare=False, repr=False)

    def find(self, instant: int) -> str | None:
        """Return the first entry that excludes the slot at `instant`, as people write it, or None."""
        local = instant + self.zone.period_at(instant).offset
        return next((entry.describe() for entry in self.entries if entry.covers(instant, local)), None)

    def find_until(self, instant: int) -> tuple[str | None, int]:
        """Return what `find` does, and an instant up to which it says the same of every slot."""
        period = self.zone.period_at(instant)
        local, left = instant + period.offset, period.end - 1 - instant
        for entry in self.entries:
            left = min(left, entry.lasts(instant, local))
            if entry.covers(instant, local):
                return entry.describe(), instant + left
        return None, instant + left

    def to_document(self) -> list[Any]:
        return [entry.to_document() for entry in self.entries]


@dataclass(frozen=True, slots=True)
class _Days:
    """The days of the wall clock from `first` to `last`, counted from the epoch."""

    first: int
    last: int

    def covers(self, instant: int, local: int) -> bool:  # noqa: ARG002  by the wall clock alone
        return self.first <= local // DAY <= self.last

    def lasts(self, instant: int, local: int) -> int:  # noqa: ARG002  by the wall clock alone
        return _left(local, self.first * DAY, self.last * DAY + DAY - 1)

    def to_document(self) -> str:
        return _stretch_text(_day_text(self.first), _day_text(self.last))

    def describe(self) -> str:
        return self.to_document()


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What is between two instants, both included."""

    since: int
    until: int

    def covers(self, instant: int, local: int) -> bool:  # noqa: ARG002  whatever the wall clock shows
        return self.since <= instant <= self.until

    def lasts(self, instant: int, local: int) -> int:  # noqa: ARG002  whatever the wall clock shows
        return _left(instant, self.since, self.until)

    def to_document(self) -> str:
        return _stretch_text(to_text(self.since), to_text(self.until))

    def describe(self) -> str:
        return self.to_document()


@dataclass(frozen=True, slots=True)
class _Matching:
    """What a cron expression matches on the wall clock."""

    cron: str
    expression: CronExpression = field(compare=False, repr=False)

    def covers(self, instant: int, local: int) -> bool:  # noqa: ARG002  by the wall clock alone
        return self.expression.next_after(local - 1) == local

    def lasts(self, instant: int, local: int) -> int:
        if self.covers(instant, local):
            return self.expression.matches_until(local) - local
        following = self.expression.next_after(local)
        return _FOR_EVER if following is None else following - 1 - local

    def to_document(self) -> dict[str, str]:
        return {"cron": self.cron}

    def describe(self) -> str:
        return self.cron


@dataclass(frozen=True, slots=True)
class _Calendar:
    """Days of the wall clock, counted from the epoch, ascending."""

    days: tuple[int, ...]

    def covers(self, instant: int, local: int) -> bool:  # noqa: ARG002  by the wall clock alone
        return self._next(local) == local // DAY

    def lasts(self, instant: int, local: int) -> int:  # noqa: ARG002  by the wall clock alone
        day = self._next(local)
        return _FOR_EVER if day is None else _left(local, day * DAY, day * DAY + DAY - 1)

    def _next(self, local: int) -> int | None:
        place = bisect_left(self.days, local // DAY)
        return self.days[place] if place < len(self.days) else None

    def to_document(self) -> dict[str, list[str]]:
        return {"calendar": [_day_text(day) for day in self.days]}

    def describe(self) -> str:
        return "calendar"


def read_exclusions(given: object, zone: Zone) -> tuple[Exclusions | None, list[ScheduleError]]:
    """Return what `exclude` says (None: nothing), and what is wrong with each of its entries."""
    if not _is_list(given):
        return None, [ScheduleError("exclude", f"exclude takes a list; {_ACCEPTED}.")]
    if len(given) > _MOST:
        return None, [ScheduleError("exclude", f"exclude has {len(given)} entries; give at most {_MOST}.")]
    entries: list[Exclusion] = []
    problems: list[ScheduleError] = []
    for number, each in enumerate(given):
        try:
            entries.append(_read_entry(f"exclude[{number}]", each, zone))
        except ScheduleError as error:
            problems.append(error)
    return (Exclusions(zone.name, tuple(entries), zone) if entries else None), problems


def _read_entry(path: str, given: object, zone: Zone) -> Exclusion:
    if isinstance(given, str):
        first, slash, last = given.partition("/")
        return _read_stretch(path, path, first.strip(), last.strip() if slash else first.strip(), zone)
    if isinstance(given, date):  # an instant is one, too
        return _read_stretch(path, path, given, given, zone)
    if not isinstance(given, Mapping):
        raise ScheduleError(path, f"{given!r} excludes nothing; {_ACCEPTED}.")
    fields = {key: value for key, value in given.items() if value is not None}
    for key in fields:
        if key not in _FIELDS:
            hint = did_you_mean(str(key), _FIELDS) or f"; {_ACCEPTED}."
            raise ScheduleError(f"{path}.{key}", f"An exclusion has no field {key!r}{hint}")
    if set(fields) == {"cron"}:
        return _read_matching(f"{path}.cron", fields["cron"])
    if set(fields) == {"calendar"}:
        return _read_calendar(f"{path}.calendar", fields["calendar"])
    if set(fields) == {"from", "to"}:
        return _read_stretch(f"{path}.from", f"{path}.to", fields["from"], fields["to"], zone)
    raise ScheduleError(path, f"{sorted(fields)} do not make an exclusion; {_ACCEPTED}.")


def _read_stretch(first_path: str, last_path: str, first: object, last: object, zone: Zone) -> Exclusion:
    first_day, last_day = _parse_day(first), _parse_day(last)
    made: _Days | _Stretch
    if first_day is not None and last_day is not None:
        made = _Days(first_day, last_day)
        wrong = last_day < first_day
    else:
        since = read_instant(first_path, first, zone) if first_day is None else _midnight(zone, first_day)
        until = read_instant(last_path, last, zone) if last_day is None else _midnight(zone, last_day + 1) - 1
        # No slot is beyond these; of a day such as 9999-12-31 an instant is made that can be read again.
        made = _Stretch(max(since, EARLIEST + 1), min(until, LATEST))
        wrong = made.until < made.since
    if wrong:
        raise ScheduleError(last_path, f"{made.describe()} ends before it begins; swap its ends.")
    return made


def _read_matching(path: str, given: object) -> _Matching:
    if not isinstance(given, str):
        raise ScheduleError(path, f'{given!r} is no text; write cron as "* * 24-26 12 *".')
    text = canonical_cron(given)
    try:
        five_fields = len(text.split()) == 5  # noqa: PLR2004  without seconds; then any second matches
        return _Matching(text, parse_cron(f"* {text}" if five_fields else text))
    except ScheduleError as error:
        raise ScheduleError(path, str(error)) from None


def _read_calendar(path: str, given: object) -> _Calendar:
    if not _is_list(given) or not given:
        raise ScheduleError(path, f"{path} takes a list of days, such as [2026-12-25, 2027-01-01].")
    return _Calendar(tuple(sorted(set(_days_of(path, given)))))


def _days_of(path: str, given: Sequence[object]) -> Iterator[int]:
    for number, each in enumerate(given):
        day = _parse_day(each)
        if day is None:
            raise ScheduleError(f"{path}[{number}]", f"{each!r} is no day; write it as 2026-12-25.")
        yield day


def _parse_day(given: object) -> int | None:
    """Return the day, counted from the epoch, or None where `given` is none."""
    if isinstance(given, str):
        try:
            given = date.fromisoformat(given)
        except ValueError:
            return None
    if isinstance(given, datetime) or not isinstance(given, date):
        return None
    return to_seconds(datetime(given.year, given.month, given.day, tzinfo=UTC)) // DAY


def _left(now: int, first: int, last: int) -> int:
    """Return how many seconds are left before a stretch begins, or ends; both its ends are in it."""
    if now < first:
        return first - 1 - now
    return last - now if now <= last else _FOR_EVER


def _midnight(zone: Zone, day: int) -> int:
    return zone.first_occurrence(day * DAY)


def _day_text(day: int) -> str:
    return to_text(day * DAY)[:10]


def _stretch_text(first: str, last: str) -> str:
    return first if first == last else f"{first}/{last}"


def _is_list(given: object) -> TypeGuard[Sequence[object]]:
    return isinstance(given, Sequence) and not isinstance(given, (str, bytes))
