"""`dst`: what fixed times do in gaps and folds where the defaults are overridden, against three oracles."""

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schedule_windows import WINDOWS, bounds, expressions, first_occurrence, has_fixed_hour, local_matches

from cronexec.domain.schedule import Schedule, ScheduleError

AMSTERDAM, NEW_YORK, LORD_HOWE = "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe"
CAIRO, APIA = "Africa/Cairo", "Pacific/Apia"
SKIP, SECOND, BOTH = {"gap": "skip"}, {"fold": "second"}, {"fold": "both"}
REAL = {"gap": "skip", "fold": "both"}
RULES = [{"gap": gap, "fold": fold} for gap in ("run", "skip") for fold in ("first", "second", "both")]

# (zone, cron, dst, after, the slots that follow)
TABLE = [
    (AMSTERDAM, "30 2 * * *", SKIP, "2026-03-28T12:00+01:00",
     ["2026-03-30T02:30+02:00", "2026-03-31T02:30+02:00"]),
    (AMSTERDAM, "0,30 2-3 * * *", SKIP, "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00", "2026-03-30T02:00+02:00"]),
    (AMSTERDAM, "30 2 29 3 *", SKIP, "2026-03-28T12:00+01:00", ["2027-03-29T02:30+02:00"]),
    (AMSTERDAM, "30 2 * * *", SKIP, "2026-10-24T12:00+02:00",
     ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    (AMSTERDAM, "30 2 * * *", SECOND, "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    (AMSTERDAM, "30 2 * * *", SECOND, "2026-10-24T12:00+02:00",
     ["2026-10-25T02:30+01:00", "2026-10-26T02:30+01:00"]),
    (AMSTERDAM, "0,30 1-3 * * *", SECOND, "2026-10-25T00:00+02:00",
     ["2026-10-25T01:00+02:00", "2026-10-25T01:30+02:00", "2026-10-25T02:00+01:00",
      "2026-10-25T02:30+01:00", "2026-10-25T03:00+01:00"]),
    (AMSTERDAM, "30 2 * * *", BOTH, "2026-10-24T12:00+02:00",
     ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-26T02:30+01:00"]),
    (AMSTERDAM, "30 2 * * *", BOTH, "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
    (NEW_YORK, "30 1 * * *", SECOND, "2026-10-31T12:00-04:00",
     ["2026-11-01T01:30-05:00", "2026-11-02T01:30-05:00"]),
    (NEW_YORK, "30 2 * * *", REAL, "2026-03-07T12:00-05:00", ["2026-03-09T02:30-04:00"]),
    (LORD_HOWE, "15 2 * * *", SKIP, "2026-10-03T12:00+10:30", ["2026-10-05T02:15+11:00"]),
    (LORD_HOWE, "15,45 1 * * *", SECOND, "2026-04-04T12:00+11:00",
     ["2026-04-05T01:15+11:00", "2026-04-05T01:45+10:30", "2026-04-06T01:15+10:30"]),
    (LORD_HOWE, "45 1 * * *", BOTH, "2026-04-04T12:00+11:00",
     ["2026-04-05T01:45+11:00", "2026-04-05T01:45+10:30", "2026-04-06T01:45+10:30"]),
    (CAIRO, "0 0 * * *", SKIP, "2026-04-23T12:00+02:00", ["2026-04-25T00:00+03:00"]),
    (CAIRO, "30 23 * * *", SECOND, "2026-10-29T12:00+03:00",
     ["2026-10-29T23:30+02:00", "2026-10-30T23:30+02:00"]),
    (APIA, "0 9 * * *", SKIP, "2011-12-29T12:00-10:00", ["2011-12-31T09:00+14:00"]),
    (APIA, "0 0 30 12 *", SKIP, "2011-12-01T12:00-10:00", ["2012-12-30T00:00+14:00"]),
]  # fmt: skip


def read(cron: str, timezone: str, dst: dict[str, Any]) -> Schedule:
    return Schedule.from_document({"cron": cron, "timezone": timezone, "dst": dst}, name="job")


@pytest.mark.parametrize(("timezone", "cron", "dst", "after", "expected"), TABLE)
def test_a_fixed_time_follows_the_rules_of_its_schedule(
    timezone: str, cron: str, dst: dict[str, str], after: str, expected: list[str]
) -> None:
    instants = [datetime.fromisoformat(instant) for instant in expected]
    found = read(cron, timezone, dst).slots(datetime.fromisoformat(after), instants[-1])
    assert list(found) == instants


def test_rules_at_their_default_are_left_out() -> None:
    assert read("0 3 * * *", AMSTERDAM, {}) == read("0 3 * * *", AMSTERDAM, {"gap": "run", "fold": "first"})
    assert "dst" not in read("0 3 * * *", AMSTERDAM, {"gap": "run", "fold": None}).to_document()
    assert read("0 3 * * *", AMSTERDAM, REAL).to_document()["dst"] == REAL
    assert read("0 3 * * *", AMSTERDAM, {**SKIP, "fold": "first"}).to_document()["dst"] == SKIP
    assert read("0 3 * * *", AMSTERDAM, SKIP) != read("0 3 * * *", AMSTERDAM, {})
    assert read("0 */3 * * *", AMSTERDAM, {"gap": "run"}) == read("0 */3 * * *", AMSTERDAM, {})


def test_a_schedule_that_has_nothing_but_skipped_times_is_refused() -> None:
    bounds = {"start": "2026-03-29T00:00Z", "end": "2026-03-29T12:00Z"}
    document = {"cron": "30 2 * * *", "timezone": AMSTERDAM, **bounds}
    assert Schedule.from_document(document, name="job").next_after(datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(ScheduleError, match="has no slot"):
        Schedule.from_document({**document, "dst": SKIP}, name="job")


fixed = expressions().filter(has_fixed_hour)
windows = st.sampled_from(list(WINDOWS))
properties = settings(max_examples=150, derandomize=True, deadline=None)


def ours(cron: str, window: str, dst: dict[str, str]) -> list[datetime]:
    timezone, after, until = bounds(window)
    try:
        return list(read(cron, timezone, dst).slots(after, until))
    except ScheduleError:
        assume(False)
        raise


def defined(cron: str, window: str, dst: dict[str, str]) -> list[datetime]:
    """Return the slots by definition, minute by minute of the window, and local time by local time."""
    timezone, after, until = bounds(window)
    zone = ZoneInfo(timezone)
    matches = set(local_matches(cron, after, until))
    found = set()
    for count in range(int((until - after).total_seconds()) // 60 + 1):
        at = after + timedelta(minutes=count)
        shown = at.astimezone(zone)
        first = shown.replace(fold=0).astimezone(UTC)
        second = shown.replace(fold=1).astimezone(UTC)
        wanted = {"first": {first}, "second": {second}, "both": {first, second}}[dst["fold"]]
        if shown.replace(tzinfo=None, fold=0) in matches and at in wanted:
            found.add(at)
    if dst["gap"] == "run":
        found |= {first_occurrence(local, zone) for local in matches if not exists(local, zone)}
    return sorted(at for at in found if after < at <= until)


def exists(local: datetime, zone: ZoneInfo) -> bool:
    return local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local


@given(fixed, windows, st.sampled_from(RULES))
@properties
def test_slots_are_those_of_the_definition_under_every_rule(
    cron: str, window: str, dst: dict[str, str]
) -> None:
    assert ours(cron, window, dst) == defined(cron, window, dst)


@given(fixed, windows)
@properties
def test_real_occurrences_are_those_of_cronsim_with_seconds(cron: str, window: str) -> None:
    # With seconds cronsim follows real time whatever the hours are. It steps by whole hours, and is wrong
    # where the offset moves by half of one, or where midnight is in a gap (see test_schedule_oracle).
    assume(not window.startswith(("half-hour", "midnight spring", "skipped")))
    timezone, after, until = bounds(window)
    theirs = CronSim(f"0 {cron}", after.astimezone(ZoneInfo(timezone)))
    expected = list(takewhile(lambda slot: slot <= until, (slot.astimezone(UTC) for slot in theirs)))
    assert ours(cron, window, REAL) == expected


@given(fixed, windows, st.sampled_from(RULES))
@properties
def test_rules_change_nothing_but_what_is_in_gaps_and_folds(
    cron: str, window: str, dst: dict[str, str]
) -> None:
    timezone, after, until = bounds(window)
    zone = ZoneInfo(timezone)
    try:
        plain = set(
            Schedule.from_document({"cron": cron, "timezone": timezone}, name="job").slots(after, until)
        )
    except ScheduleError:
        assume(False)
        raise
    for slot in plain ^ set(ours(cron, window, dst)):
        shown = slot.astimezone(zone)
        ambiguous = shown.replace(fold=0).utcoffset() != shown.replace(fold=1).utcoffset()
        before = (slot - timedelta(seconds=1)).astimezone(zone).utcoffset()
        assert ambiguous or before != shown.utcoffset()
