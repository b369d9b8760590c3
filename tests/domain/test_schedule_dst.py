"""Both nights of a change of offset, as tables of local times with their offsets, as they happen."""

from datetime import UTC, datetime

import pytest

from cronexec.domain.schedule import Schedule

AMSTERDAM, NEW_YORK, LORD_HOWE = "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe"
CAIRO, SAO_PAULO, APIA, KOLKATA = "Africa/Cairo", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kolkata"

# (zone, cron, after, the slots that follow)
FIXED_TIMES = [
    # Amsterdam, 29 March 2026: 02:00 +01:00 becomes 03:00 +02:00
    (AMSTERDAM, "0 2 * * *", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
    (AMSTERDAM, "59 2 * * *", "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:59+02:00"]),
    (AMSTERDAM, "0,30 2-3 * * *", "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00", "2026-03-30T02:00+02:00"]),
    (AMSTERDAM, "*/20 2 * * *", "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
    (AMSTERDAM, "30 1 * * *", "2026-03-28T12:00+01:00", ["2026-03-29T01:30+01:00", "2026-03-30T01:30+02:00"]),
    (AMSTERDAM, "15,45 30 2 * * *", "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2026-03-30T02:30:15+02:00"]),
    (AMSTERDAM, "30 2 29 3 *", "2026-03-28T12:00+01:00",
     ["2026-03-29T03:00+02:00", "2027-03-29T02:30+02:00"]),
    # Amsterdam, 25 October 2026: 03:00 +02:00 becomes 02:00 +01:00
    (AMSTERDAM, "30 2 * * *", "2026-10-24T12:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
    (AMSTERDAM, "0,30 2-3 * * *", "2026-10-24T12:00+02:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T03:00+01:00",
      "2026-10-25T03:30+01:00"]),
    (AMSTERDAM, "30 2 * * *", "2026-10-25T02:15+01:00", ["2026-10-26T02:30+01:00"]),
    (AMSTERDAM, "0 3 * * *", "2026-10-25T02:15+01:00", ["2026-10-25T03:00+01:00"]),
    # New York, 8 March and 1 November 2026
    (NEW_YORK, "30 2 * * *", "2026-03-07T12:00-05:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
    (NEW_YORK, "0 1,2 * * *", "2026-10-31T12:00-04:00",
     ["2026-11-01T01:00-04:00", "2026-11-01T02:00-05:00", "2026-11-02T01:00-05:00"]),
    # Lord Howe moves by half an hour: 4 October 2026 02:00 becomes 02:30, 5 April 2026 02:00 becomes 01:30
    (LORD_HOWE, "15 2 * * *", "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
    (LORD_HOWE, "0,45 2 * * *", "2026-10-03T12:00+10:30",
     ["2026-10-04T02:30+11:00", "2026-10-04T02:45+11:00", "2026-10-05T02:00+11:00"]),
    (LORD_HOWE, "45 1 * * *", "2026-04-04T12:00+11:00", ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
    # Where the gap or the fold is at midnight
    (CAIRO, "0 0 * * *", "2026-04-23T12:00+02:00", ["2026-04-24T01:00+03:00", "2026-04-25T00:00+03:00"]),
    (CAIRO, "30 23 * * *", "2026-10-29T12:00+03:00", ["2026-10-29T23:30+03:00", "2026-10-30T23:30+02:00"]),
    (SAO_PAULO, "0 0 * * *", "2018-11-03T12:00-03:00", ["2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"]),
    (SAO_PAULO, "0 0 * * *", "2018-02-17T12:00-02:00", ["2018-02-18T00:00-03:00", "2018-02-19T00:00-03:00"]),
    (SAO_PAULO, "30 23 * * *", "2018-02-17T12:00-02:00",
     ["2018-02-17T23:30-02:00", "2018-02-18T23:30-03:00"]),
    # Samoa left out 30 December 2011
    (APIA, "0 9 * * *", "2011-12-29T12:00-10:00", ["2011-12-31T00:00+14:00", "2011-12-31T09:00+14:00"]),
    (APIA, "0 0 30 12 *", "2011-12-01T12:00-10:00", ["2011-12-31T00:00+14:00", "2012-12-30T00:00+14:00"]),
    # No change at all, at an offset of half an hour
    (KOLKATA, "0 3 * * *", "2026-03-28T12:00+05:30", ["2026-03-29T03:00+05:30", "2026-03-30T03:00+05:30"]),
]  # fmt: skip
REAL_TIME = [
    (AMSTERDAM, "30 * * * *", "2026-03-29T00:45+01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
    (AMSTERDAM, "30 * * * *", "2026-10-25T01:45+02:00",
     ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"]),
    (AMSTERDAM, "0 */2 * * *", "2026-03-29T00:45+01:00", ["2026-03-29T04:00+02:00"]),
    (AMSTERDAM, "0 */2 * * *", "2026-10-25T01:45+02:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T04:00+01:00"]),
    (AMSTERDAM, "0 2-4/2 * * *", "2026-10-25T01:45+02:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00"]),
    (AMSTERDAM, "@hourly", "2026-10-25T01:45+02:00",
     ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]),
    (NEW_YORK, "*/30 * * * *", "2026-11-01T01:15-04:00",
     ["2026-11-01T01:30-04:00", "2026-11-01T01:00-05:00", "2026-11-01T01:30-05:00",
      "2026-11-01T02:00-05:00"]),
    (LORD_HOWE, "*/15 * * * *", "2026-10-04T01:40+10:30",
     ["2026-10-04T01:45+10:30", "2026-10-04T02:30+11:00"]),
    (LORD_HOWE, "40 * * * *", "2026-04-05T01:35+11:00",
     ["2026-04-05T01:40+11:00", "2026-04-05T01:40+10:30", "2026-04-05T02:40+10:30"]),
    (CAIRO, "0 * * * *", "2026-04-23T22:30+02:00", ["2026-04-23T23:00+02:00", "2026-04-24T01:00+03:00"]),
    (CAIRO, "0 * * * *", "2026-10-29T22:30+03:00",
     ["2026-10-29T23:00+03:00", "2026-10-29T23:00+02:00", "2026-10-30T00:00+02:00"]),
    (SAO_PAULO, "0 * 4 * *", "2018-11-03T23:30-03:00", ["2018-11-04T01:00-02:00", "2018-11-04T02:00-02:00"]),
    (APIA, "0 */12 * * *", "2011-12-29T11:00-10:00", ["2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00"]),
    (KOLKATA, "0 * * * *", "2026-03-29T00:30+05:30", ["2026-03-29T01:00+05:30", "2026-03-29T02:00+05:30"]),
]  # fmt: skip


def assert_slots(timezone: str, cron: str, after: str, expected: list[str]) -> None:
    schedule = Schedule.from_document({"cron": cron, "timezone": timezone}, name="job")
    instants = [datetime.fromisoformat(instant) for instant in expected]
    found = list(schedule.slots(datetime.fromisoformat(after), instants[-1]))
    assert found == instants
    assert all(slot.tzinfo is UTC for slot in found)


@pytest.mark.parametrize(("timezone", "cron", "after", "expected"), FIXED_TIMES)
def test_a_fixed_time_runs_once_and_at_the_end_of_a_gap(
    timezone: str, cron: str, after: str, expected: list[str]
) -> None:
    assert_slots(timezone, cron, after, expected)


@pytest.mark.parametrize(("timezone", "cron", "after", "expected"), REAL_TIME)
def test_a_star_or_step_in_the_hours_runs_on_every_real_occurrence(
    timezone: str, cron: str, after: str, expected: list[str]
) -> None:
    assert_slots(timezone, cron, after, expected)


def test_an_interval_takes_no_notice_of_a_change_of_offset() -> None:
    schedule = Schedule.from_document({"every": "45m"}, name="job")
    found = schedule.slots(datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC))
    assert {instant.timestamp() % 2700 for instant in found} == {0}


@pytest.mark.parametrize(
    ("local", "instant"),
    [
        ("2026-03-29T02:30", "2026-03-29T03:00+02:00"),
        ("2026-10-25T02:30", "2026-10-25T02:30+02:00"),
        ("2026-06-01T02:30", "2026-06-01T02:30+02:00"),
    ],
)
def test_an_instant_given_in_local_time_is_its_first_occurrence(local: str, instant: str) -> None:
    schedule = Schedule.from_document({"at": local, "timezone": AMSTERDAM}, name="job")
    assert schedule == Schedule.from_document({"at": instant}, name="job")
