"""Schedules against two oracles: their definition, minute by minute, and cronsim, with its differences."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cronexec.domain.schedule import Schedule, ScheduleError

# Windows that begin and end at noon UTC, well away from every change of offset.
WINDOWS = {
    "spring Amsterdam": ("Europe/Amsterdam", "2026-03-27", "2026-03-31"),
    "autumn Amsterdam": ("Europe/Amsterdam", "2026-10-23", "2026-10-27"),
    "ordinary Amsterdam": ("Europe/Amsterdam", "2026-06-01", "2026-06-08"),
    "spring New York": ("America/New_York", "2026-03-06", "2026-03-10"),
    "autumn New York": ("America/New_York", "2026-10-30", "2026-11-03"),
    "autumn Casablanca, in February": ("Africa/Casablanca", "2026-02-13", "2026-02-17"),
    "spring Casablanca": ("Africa/Casablanca", "2026-03-20", "2026-03-24"),
    "half-hour spring Lord Howe": ("Australia/Lord_Howe", "2026-10-02", "2026-10-06"),
    "half-hour autumn Lord Howe": ("Australia/Lord_Howe", "2026-04-03", "2026-04-07"),
    "midnight spring Cairo": ("Africa/Cairo", "2026-04-22", "2026-04-26"),
    "midnight autumn Cairo": ("Africa/Cairo", "2026-10-28", "2026-11-01"),
    "midnight spring Sao Paulo": ("America/Sao_Paulo", "2018-11-02", "2018-11-06"),
    "midnight autumn Sao Paulo": ("America/Sao_Paulo", "2018-02-16", "2018-02-20"),
    "no change Kolkata": ("Asia/Kolkata", "2026-02-26", "2026-03-03"),
    "skipped day Apia": ("Pacific/Apia", "2011-12-28", "2012-01-02"),
    "UTC": ("UTC", "2024-02-27", "2024-03-03"),
}


@dataclass(frozen=True)
class Difference:
    """Where cronsim and we disagree on purpose; `applies` says whether an expression in a window may."""

    reason: str
    applies: Callable[[str, str], bool]
    cron: str
    window: str
    ours: int
    theirs: int


def has_fixed_hour(cron: str) -> bool:
    return not set("*/") & set(cron.split()[-4])


DIFFERENCES = (
    Difference(
        "a star in the minutes makes a wildcard for Debian's cron and cronsim, which does not run in a gap; "
        "we look at the hours only, so it runs once, at the gap's end",
        lambda cron, window: cron.split()[-5].startswith("*") and has_fixed_hour(cron) and window != "UTC",
        cron="*/5 2 * * *",
        window="spring Amsterdam",
        ours=3 * 12 + 1,
        theirs=3 * 12,
    ),
    Difference(
        "the same in a fold: they run in both passes, we in the first",
        lambda cron, window: cron.split()[-5].startswith("*") and has_fixed_hour(cron) and window != "UTC",
        cron="*/5 2 * * *",
        window="autumn Amsterdam",
        ours=4 * 12,
        theirs=5 * 12,
    ),
    Difference(
        "a step in the hours is real time to us however it is written, to them only after a star",
        lambda cron, window: (
            not has_fixed_hour(cron) and not cron.split()[-4].startswith("*") and window != "UTC"
        ),
        cron="0 0-8/2 * * *",
        window="spring Amsterdam",
        ours=4 * 5 - 1,
        theirs=4 * 5,
    ),
    Difference(
        "with seconds they always follow real time; to us seconds change nothing",
        lambda cron, _: len(cron.split()) == 6 and has_fixed_hour(cron),
        cron="0 30 2 * * *",
        window="spring Amsterdam",
        ours=4,
        theirs=3,
    ),
    Difference(
        "N-N/step is N to us, as to Debian's cron; cronsim reads it as N/step",
        lambda cron, _: re.search(r"\b(\d+)-\1/", cron) is not None,
        cron="0 12-12/4 * * *",
        window="ordinary Amsterdam",
        ours=7,
        theirs=7 * 3,
    ),
    Difference(
        "N/step in the day of week ends on Saturday in croniter, and on Sunday, as 7, in cronsim",
        lambda cron, _: "/" in cron.split()[-1] and not cron.split()[-1].startswith("*"),
        cron="0 12 * * 1/2",
        window="ordinary Amsterdam",
        ours=3,
        theirs=4,
    ),
    Difference(
        "cronsim steps by whole hours, and passes over half of one where the offset moves by that",
        lambda cron, window: not has_fixed_hour(cron) and window.startswith("half-hour"),
        cron="0 */2 * * *",
        window="half-hour autumn Lord Howe",
        ours=4 * 12,
        theirs=4 * 12 - 1,
    ),
    Difference(
        "where midnight is in a gap cronsim takes the gap's end for hour 0 of the next matching day",
        lambda cron, window: not has_fixed_hour(cron) and window.startswith(("midnight spring", "skipped")),
        cron="0 */2 * * 0",
        window="midnight spring Sao Paulo",
        ours=11,
        theirs=12,
    ),
)


def bounds(window: str) -> tuple[str, datetime, datetime]:
    timezone, after, until = WINDOWS[window]
    noon = timedelta(hours=12)
    return (
        timezone,
        datetime.fromisoformat(after).replace(tzinfo=UTC) + noon,
        datetime.fromisoformat(until).replace(tzinfo=UTC) + noon,
    )


def slots_of(cron: str, window: str) -> list[datetime]:
    timezone, after, until = bounds(window)
    schedule = Schedule.from_document({"cron": cron, "timezone": timezone}, name="job")
    return list(schedule.slots(after, until))


def cronsim_slots(cron: str, window: str) -> list[datetime]:
    timezone, after, until = bounds(window)
    found = (slot.astimezone(UTC) for slot in CronSim(cron, after.astimezone(ZoneInfo(timezone))))
    return list(takewhile(lambda slot: slot <= until, found))


def local_matches(cron: str, after: datetime, until: datetime) -> Iterator[datetime]:
    start = after.replace(tzinfo=None) - timedelta(days=2)
    end = until.replace(tzinfo=None) + timedelta(days=2)
    return takewhile(lambda local: local <= end, CronSim(cron, start))


def first_occurrence(local: datetime, zone: ZoneInfo) -> datetime:
    while local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
        local += timedelta(minutes=1)
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def defined_slots(cron: str, window: str) -> list[datetime]:
    timezone, after, until = bounds(window)
    zone = ZoneInfo(timezone)
    matches = set(local_matches(cron, after, until))
    if has_fixed_hour(cron):
        occurrences = {first_occurrence(local, zone) for local in matches}
    else:
        minutes = (
            after + timedelta(minutes=n) for n in range(int((until - after).total_seconds()) // 60 + 1)
        )
        occurrences = {at for at in minutes if at.astimezone(zone).replace(tzinfo=None) in matches}
    return sorted(at for at in occurrences if after < at <= until)


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    single = st.integers(low, high).map(str)
    pairs = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    span = pairs.map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.tuples(st.one_of(span, st.just("*")), st.integers(1, high)).map(
        lambda pair: f"{pair[0]}/{pair[1]}"
    )
    start = st.tuples(single, st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    listed = st.lists(st.one_of(single, span), min_size=2, max_size=3).map(",".join)
    return st.one_of(st.just("*"), single, span, step, start, listed)


MINUTES = st.one_of(st.sampled_from(["0", "30", "0,30", "*/15", "59", "*/7"]), numbers(0, 59))
HOURS = st.one_of(st.sampled_from(["*", "2", "0", "1-3", "*/2", "0,1,2,3", "23"]), numbers(0, 23))
DAYS = st.one_of(st.just("*"), st.just("*"), st.just("L"), numbers(1, 31))
MONTHS = st.one_of(st.just("*"), st.just("*"), st.just("jan-jun,OCT-dec"), numbers(1, 12))
WEEKDAYS = st.one_of(
    st.just("*"),
    st.just("*"),
    st.sampled_from(["sun", "MON-FRI", "0", "7", "5-7", "0#1", "sun#5"]),
    numbers(0, 6),
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    cron = " ".join(draw(st.tuples(MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS)))
    day, _, weekday = cron.split()[2:]
    assume("#" not in weekday or day.startswith("*"))
    assume("/" not in weekday or weekday.startswith("*"))
    return cron


def ours_or_nothing(cron: str, window: str) -> list[datetime]:
    try:
        return slots_of(cron, window)
    except ScheduleError:
        assume(False)
        raise


@given(expressions(), st.sampled_from(list(WINDOWS)))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_slots_are_those_of_the_definition(cron: str, window: str) -> None:
    assert ours_or_nothing(cron, window) == defined_slots(cron, window)


@given(expressions(), st.sampled_from(list(WINDOWS)))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_slots_are_those_of_cronsim_but_for_the_known_differences(cron: str, window: str) -> None:
    assume(not any(difference.applies(cron, window) for difference in DIFFERENCES))
    assert ours_or_nothing(cron, window) == cronsim_slots(cron, window)


@pytest.mark.parametrize("window", ["spring Amsterdam", "autumn New York", "autumn Casablanca, in February"])
@pytest.mark.parametrize("cron", ["*/20 */30 * * * *", "15 0 */2 * * *", "0,59 7 * * * sun"])
def test_slots_with_seconds_are_those_of_cronsim(cron: str, window: str) -> None:
    slots = slots_of(cron, window)
    assert slots
    assert slots == cronsim_slots(cron, window)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.reason[:60])
def test_a_known_difference_from_cronsim_is_as_described(difference: Difference) -> None:
    assert difference.applies(difference.cron, difference.window)
    assert len(slots_of(difference.cron, difference.window)) == difference.ours
    assert len(cronsim_slots(difference.cron, difference.window)) == difference.theirs
