"""Schedules against two oracles: their definition, minute by minute, and cronsim, with its differences."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schedule_windows import WINDOWS, bounds, expressions, first_occurrence, has_fixed_hour, local_matches

from cronexec.domain.schedule import Schedule, ScheduleError


@dataclass(frozen=True)
class Difference:
    """Where cronsim and we disagree on purpose; `applies` says whether an expression in a window may."""

    reason: str
    applies: Callable[[str, str], bool]
    cron: str
    window: str
    ours: int
    theirs: int


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


def slots_of(cron: str, window: str) -> list[datetime]:
    timezone, after, until = bounds(window)
    schedule = Schedule.from_document({"cron": cron, "timezone": timezone}, name="job")
    return list(schedule.slots(after, until))


def cronsim_slots(cron: str, window: str) -> list[datetime]:
    timezone, after, until = bounds(window)
    found = (slot.astimezone(UTC) for slot in CronSim(cron, after.astimezone(ZoneInfo(timezone))))
    return list(takewhile(lambda slot: slot <= until, found))


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
