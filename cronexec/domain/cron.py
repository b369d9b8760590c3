"""Cron expressions: croniter reads them and finds the days, the time of day is counted here.

An expression is matched against the local wall clock, as a count of seconds (see `zone`). Whether a day
matches does not depend on the time of day, so croniter is asked only for the next matching day, once per
day; within a day the times are a table. That is what makes planning cheap: croniter needs some 30 us for a
slot, the table 1 us.

Day-of-month together with day-of-week follows Debian's cron: either may match, unless one of the two fields
begins with `*`, in which case both must. Where croniter would drop half of an expression in silence (`1 *
mon#1`), or reads a range such as `3-3` as the whole field, the expression is refused or put right here.
"""

import copy
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from croniter import croniter
from croniter.croniter import DOW_ALPHAS, M_ALPHAS

from cronexec.domain.hashed import is_hashed
from cronexec.domain.schedule_error import ScheduleError, did_you_mean
from cronexec.domain.zone import DAY, LATEST

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ACCEPTED = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day of month": "1-31 or L for the last",
    "month": "1-12 or jan-dec",
    "day of week": "0-7 or sun-sat, fri#2 for the second friday, L5 for the last, not mixed with others",
}
_WITHOUT_SECONDS = 5
_WITH_SECONDS = 6
_READABLE = ["0", "0", "0", "*", "*", "*"]
_MEASURED_FROM = 30 * 365  # 1999: any day would do, the calendar repeats and croniter looks 50 years ahead
_RANDOM = re.compile(r"(?:^|,)r(?:$|[,/(])", re.IGNORECASE)
_NEAREST_WEEKDAY = re.compile(r"(?:^|,)(?:\d+w|w\d+|lw)(?:$|,)", re.IGNORECASE)
_RANGE = re.compile(r"(?<![^,])(\w+)-(\w+)(?:/\d+)?(?![^,])", re.ASCII)
_NAMES: list[Mapping[str, object]] = [{}, {}, {}, {"l": 31}, M_ALPHAS, DOW_ALPHAS]


class CronExpression:
    """A cron expression on the local wall clock, shared by all schedules with its text and by threads."""

    __slots__ = ("_days", "_first", "_last", "_minutes", "_seconds", "fixed_time", "text")

    def __init__(self, text: str) -> None:
        """Read `text`; raises ScheduleError (cron) unless a next slot can be computed."""
        self.text = text
        fields = _split(text)
        expanded = _expand(text, fields)
        hours, minutes = _members(expanded[1], 24), _members(expanded[0], 60)
        self._seconds = _members(expanded[5], 60)
        self._minutes = array("H", (60 * hour + minute for hour in hours for minute in minutes))
        self._first = 60 * self._minutes[0] + self._seconds[0]
        self._last = 60 * self._minutes[-1] + self._seconds[-1]
        self._days = _get_days(" ".join(fields[3:]))
        # A star or a step in the hours means every real occurrence; else the hours are times of day.
        self.fixed_time = not re.search(r"[*/]", fields[2])
        if self._days.first_from(_MEASURED_FROM) is None:
            raise ScheduleError(
                "cron", f"{text!r} never fires: no year has such a day. Check its day and its month."
            )

    def next_after(self, local: int) -> int | None:
        """Return the first match after `local` (wall-clock seconds both), or None if there is none."""
        day, time = divmod(local, DAY)
        if time < self._last and self._days.first_from(day) == day:
            return day * DAY + self._time_after(time)
        found = self._days.first_from(day + 1)
        return None if found is None else found * DAY + self._first

    def matches_until(self, local: int) -> int:
        """Return a second of the same day up to which all match, from `local` on, which does."""
        minute, second = divmod(local % DAY, 60)
        last = _last_in_a_row(self._seconds, second)
        if last < 59 or len(self._seconds) < 60:  # noqa: PLR2004  seconds of a minute
            return local - second + last
        return local - local % DAY + 60 * _last_in_a_row(self._minutes, minute) + 59

    def shortest_gap(self) -> int | None:
        """Return the seconds between the two matches that are nearest; None where no day has two."""
        times = [60 * minute + second for minute in self._minutes for second in self._seconds]
        if self._days.every_day:
            times.append(times[0] + DAY)
        return min((later - sooner for sooner, later in pairwise(times)), default=None)

    def _time_after(self, time: int) -> int:
        minute, second = divmod(time, 60)
        index = bisect_left(self._minutes, minute)
        if self._minutes[index] == minute:
            if second < self._seconds[-1]:
                return 60 * minute + self._seconds[bisect_right(self._seconds, second)]
            index += 1
        return 60 * self._minutes[index] + self._seconds[0]


class _Days:
    """The days that match a day of month, a month and a day of week, counted from the epoch."""

    __slots__ = ("_croniter", "_span", "every_day")

    def __init__(self, fields: str) -> None:
        self.every_day = fields == "* * *"
        self._croniter = croniter(f"0 0 {fields}", 0.0, implement_cron_bug=True)
        self._span = (0, -1)  # the last question and its answer, replaced whole

    def first_from(self, day: int) -> int | None:
        """Return the first matching day from `day` on; the answer holds for all days between the two."""
        if self.every_day:
            return day if day * DAY < LATEST else None
        since, found = self._span
        if since <= day <= found:
            return found
        # croniter keeps its position in itself; with a copy (2 us) threads can share this object.
        finder = copy.copy(self._croniter)
        try:
            found = int(finder.get_next(float, start_time=float(day * DAY - 1))) // DAY
        except (ValueError, OverflowError):  # CroniterBadDateError, and datetime's own at the year 9999
            return None
        if found * DAY >= LATEST:
            return None
        self._span = (day, found)
        return found


@lru_cache(maxsize=20_000)
def _get_days(fields: str) -> _Days:
    """Return the days of these three fields; expressions that have them in common share the search."""
    return _Days(fields)


@lru_cache(maxsize=20_000)
def parse_cron(text: str) -> CronExpression:
    """Return the expression; raises ScheduleError (cron) saying what is wrong and what is accepted.

    `text` is as `canonical_cron` returns it, so that equal expressions share one object.
    """
    return CronExpression(text)


def canonical_cron(text: str) -> str:
    """Return `text` with single spaces, its spelling otherwise kept."""
    return " ".join(text.split())


def _split(text: str) -> list[str]:
    """Return the six fields, seconds first."""
    if text.startswith("@"):
        text = _resolve_alias(text)
    fields = text.split()
    if len(fields) == _WITHOUT_SECONDS:
        fields = ["0", *fields]
    if len(fields) != _WITH_SECONDS:
        raise ScheduleError(
            "cron",
            f"{text!r} has {len(fields)} field{'' if len(fields) == 1 else 's'}; write 5 (minute, hour, "
            "day of month, month, day of week), or 6 with the seconds first.",
        )
    fields = ["*" if field == "?" and index in (3, 5) else field for index, field in enumerate(fields)]
    _refuse_unsupported(text, fields)
    return [_put_ranges_right(field, names) for field, names in zip(fields, _NAMES, strict=True)]


def _put_ranges_right(field: str, names: Mapping[str, object]) -> str:
    """Write N for N-N, however its ends are written; croniter would take it for the whole field."""

    def put_right(span: re.Match[str]) -> str:
        low, high = (str(names.get(end.lower(), end)).lstrip("0") for end in span.groups())
        return span[1] if low == high else span[0]

    return _RANGE.sub(put_right, field)


def _resolve_alias(text: str) -> str:
    if text.lower() == "@reboot":
        raise ScheduleError(
            "cron",
            "@reboot is no time: instances start and stop at will. Run it from the application's own start.",
        )
    if text.lower() not in ALIASES:
        hint = did_you_mean(text, ALIASES) or f"; known are {', '.join(ALIASES)}."
        raise ScheduleError("cron", f"{text!r} is no known schedule{hint}")
    return ALIASES[text.lower()]


def _refuse_unsupported(text: str, fields: list[str]) -> None:
    day, weekday = fields[3], fields[5]
    if any(is_hashed(field) for field in fields):
        raise ScheduleError(
            "cron", f"{text!r}: H is for a job's own time, there is none here; write the time."
        )
    if any(_RANDOM.search(field) for field in fields):
        raise ScheduleError(
            "cron", f"{text!r}: R, another time in every process, is not available; write H, the job's own."
        )
    if _NEAREST_WEEKDAY.search(day):
        raise ScheduleError(
            "cron", f"{text!r}: W (the nearest weekday) is not available; write the days themselves."
        )
    counted = re.search(r"#|l", weekday, re.IGNORECASE)
    if counted and "*" in weekday:
        raise ScheduleError(
            "cron", f"{text!r}: * and # or L in one day of week do not go together; leave * out."
        )
    if counted and not day.startswith("*"):
        raise ScheduleError(
            "cron",
            f"{text!r}: a day of month and # or L in the day of week do not go together; write two jobs.",
        )


def _expand(text: str, fields: list[str]) -> list[list[int | str]]:
    expanded = _read(fields)
    if expanded is None:
        wrong = "; ".join(_find_wrong(fields)) or "its fields do not go together"
        raise ScheduleError("cron", f"{text!r} cannot be read: {wrong}.")
    return expanded


def _find_wrong(fields: list[str]) -> Iterator[str]:
    """Say which fields cannot be read: each is tried on its own among fields that can."""
    for index, ((name, accepted), field) in enumerate(zip(_ACCEPTED.items(), fields, strict=True)):
        if _read([*_READABLE[:index], field, *_READABLE[index + 1 :]]) is None:
            yield f"{name} {field!r} (accepted: {accepted}; lists, ranges and steps of them)"


def _read(fields: list[str]) -> list[list[int | str]] | None:
    try:
        expanded: list[list[int | str]] = croniter.expand(" ".join(fields), second_at_beginning=True)[0]
    except (ValueError, TypeError, KeyError, IndexError):  # croniter's own errors are ValueErrors
        return None
    return expanded


def _last_in_a_row(members: Sequence[int], first: int) -> int:
    """Return the last of the members that follow `first`, which is one, without a gap."""
    place = bisect_left(members, first)
    beyond = bisect_right(range(len(members)), first - place, lo=place, key=lambda at: members[at] - at)
    return members[beyond - 1]


def _members(values: Iterable[int | str], count: int) -> tuple[int, ...]:
    members = tuple(sorted(value for value in values if isinstance(value, int)))
    return tuple(range(count)) if "*" in values else members
