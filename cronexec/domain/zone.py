"""Time zones: periods of constant offset, and where a schedule's local times fall among them.

Here instants are whole seconds since the epoch, UTC, and a local time is the same count read off the wall
clock (instant + offset). A zone is a sequence of periods of constant offset. They are found by probing
zoneinfo once a day and bisecting to the second, in blocks of 400 days, each computed when first needed and
kept. (Of all zones' offset changes since 1900 no two are less than three days apart, so none hides between
two probes.) A block overlaps its neighbours by more than any change of offset, so the gap or fold next to
an instant is always in view; where a period is cut off at the end of a block, the next one goes on with the
same offset, which changes no result.

Two ways to carry a local schedule to instants:

- every real occurrence (`next_occurrence`): within a period the slots are the matches of the wall clock.
  Local times in a gap do not occur, those in a fold occur twice.
- first occurrence (`next_first_occurrence`): every local time has exactly one instant. A time in a fold is
  taken the first time round; a time in a gap happens at the gap's end. That mapping never decreases, so the
  next slot is the image of the next match after the greatest local time whose image has been reached, and
  local times with one image are one slot.

`next_by_rule` is the second with other rules for gaps and folds, looked for period by period.
"""

from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from cronexec.domain.schedule_error import ScheduleError, did_you_mean

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
EARLIEST = -1900 * 366 * DAY  # two bounds well inside what datetime can hold, in any zone
LATEST = 8000 * 365 * DAY
_BLOCK = 400 * DAY
_OVERLAP = 2 * DAY  # more than the largest change of an offset, which is a day

NextLocal = Callable[[int], int | None]


class Period(NamedTuple):
    """A stretch [start, end) of constant offset; local times below `passed` have occurred before it."""

    start: int
    end: int
    offset: int
    passed: int


class Gap(StrEnum):
    """What happens to a local time that does not occur: run at the gap's end, or skip it."""

    RUN = "run"
    SKIP = "skip"


class Fold(StrEnum):
    """On which of its two occurrences a local time in a fold runs."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class DstRule(NamedTuple):
    """What a fixed local time does in a gap and in a fold."""

    gap: Gap
    fold: Fold


DEFAULT_RULE = DstRule(Gap.RUN, Fold.FIRST)


class Zone:
    """A time zone's periods, in seconds; the same object for every schedule that names it."""

    __slots__ = ("_blocks", "_info", "_recent", "name")

    def __init__(self, name: str) -> None:
        """Read the zone; raises ScheduleError (timezone) with the nearest known name if there is none."""
        self.name = name
        self._info = _read_zone(name)
        # Threads share a zone: both caches are only ever replaced whole, by what any thread would compute.
        self._blocks: dict[int, tuple[Period, ...]] = {}
        self._recent = (0, 0, Period(0, 0, 0, 0))

    def period_at(self, instant: int) -> Period:
        since, until, period = self._recent
        if since <= instant < until:
            return period
        number = instant // _BLOCK
        periods = self._blocks.get(number)
        if periods is None:
            periods = self._blocks[number] = self._find_periods(number)
        period = periods[bisect_right(periods, instant, key=_start) - 1]
        # Beyond its own block a period would be seen without the gap or fold before it.
        self._recent = (
            max(period.start, number * _BLOCK),
            min(period.end, (number + 1) * _BLOCK),
            period,
        )
        return period

    def first_occurrence(self, local: int) -> int:
        """Return the first instant at which the wall clock shows `local`; in a gap, the gap's end."""
        return self._first_occurrence_from(self.period_at(local - _OVERLAP), local)

    def next_first_occurrence(self, next_local: NextLocal, instant: int) -> int | None:
        """Return the first slot after `instant` of a schedule of which each local time happens once."""
        period = self.period_at(instant)
        reached = max(instant + period.offset, period.passed - 1)
        local = next_local(reached)
        return None if local is None else self._first_occurrence_from(period, local)

    def next_occurrence(self, next_local: NextLocal, instant: int) -> int | None:
        """Return the first slot after `instant` of a schedule that runs on every real occurrence."""
        period = self.period_at(instant)
        local = next_local(instant + period.offset)
        while local is not None and local - period.offset >= period.end:
            ended = period.end  # not where the next one starts: two blocks' periods overlap
            period = self.period_at(ended)
            local = next_local(ended + period.offset - 1)
        return None if local is None else local - period.offset

    def next_by_rule(self, next_local: NextLocal, instant: int, rule: DstRule) -> int | None:
        """Return the first slot after `instant` of a schedule whose local times follow `rule`."""
        period = self.period_at(instant)
        while True:
            if rule.gap is Gap.RUN and instant < period.start and self._is_in_gap(next_local, period):
                return period.start
            low, high = self._local_range(period, instant, rule.fold)
            local = next_local(low)
            if local is None or local < high:
                return None if local is None else local - period.offset
            instant = max(instant, period.end - 1)
            period = self.period_at(period.end)

    def _is_in_gap(self, next_local: NextLocal, period: Period) -> bool:
        local = next_local(period.passed - 1)
        return local is not None and local < period.start + period.offset

    def _local_range(self, period: Period, instant: int, fold: Fold) -> tuple[int, int]:
        """Return the local times (low, high) of a period that are after `instant` and not left to another."""
        low = max(instant, period.start - 1) + period.offset
        high = period.end + period.offset
        if fold is Fold.FIRST:
            low = max(low, period.passed - 1)
        elif fold is Fold.SECOND:
            high = min(high, period.end + self.period_at(period.end).offset)
        return low, high

    def _first_occurrence_from(self, period: Period, local: int) -> int:
        while local >= period.end + period.offset:
            # No period that ends two days before a local time can show it: offsets are smaller than that.
            period = self.period_at(max(period.end, local - _OVERLAP))
        return max(local - period.offset, period.start)

    def _find_periods(self, number: int) -> tuple[Period, ...]:
        start, end = number * _BLOCK - _OVERLAP, (number + 1) * _BLOCK + _OVERLAP
        probes = [(at, self._offset_at(at)) for at in range(start, end + 1, DAY)]
        changes = [start]
        for (left, before), (right, after) in pairwise(probes):
            if before != after:
                changes.append(self._find_change(left, right))
        periods = []
        passed = start - _OVERLAP
        for since, until in pairwise([*changes, end]):
            periods.append(Period(since, until, self._offset_at(since), passed))
            passed = max(passed, until + periods[-1].offset)
        return tuple(periods)

    def _find_change(self, left: int, right: int) -> int:
        before = self._offset_at(left)
        while right - left > 1:
            middle = (left + right) // 2
            if self._offset_at(middle) == before:
                left = middle
            else:
                right = middle
        return right

    def _offset_at(self, instant: int) -> int:
        at = EPOCH + timedelta(seconds=min(max(instant, EARLIEST), LATEST))
        return int((at.astimezone(self._info).utcoffset() or timedelta()).total_seconds())


def _start(period: Period) -> int:
    return period.start


@lru_cache(maxsize=1024)
def get_zone(name: str) -> Zone:
    """Return the zone; raises ScheduleError (timezone) with the nearest known name if there is none."""
    return Zone(name)


def _read_zone(name: str) -> ZoneInfo:
    # ZoneInfo opens more than zones everybody has: "localtime" is another zone on every machine, "right/..."
    # counts leap seconds.
    known = _known_zones()
    if name not in known:
        hint = did_you_mean(name, known) or "; use a name such as Europe/Amsterdam or UTC."
        raise ScheduleError("timezone", f"{name!r} is no time zone{hint}")
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})
