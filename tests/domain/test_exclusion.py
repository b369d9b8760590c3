"""What a schedule excludes: days, stretches, cron expressions and calendars, on its own wall clock."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import decided, job

from cronexec.domain.job import JobDocument, JobVersion
from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.run import RunState
from cronexec.domain.schedule import Schedule
from cronexec.domain.verification import verify_job

AMSTERDAM, CAIRO, SAO_PAULO = "Europe/Amsterdam", "Africa/Cairo", "America/Sao_Paulo"
HAVANA = "America/Havana"


def read(*exclude: Any, timezone: str = AMSTERDAM, cron: str = "*/30 * * * *") -> Schedule:
    document = {"cron": cron, "timezone": timezone, "exclude": list(exclude)}
    return Schedule.from_document(document, name="job")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# (zone, what is excluded, the first and the last instant that are, and one before and after that are not)
EDGES = [
    (AMSTERDAM, "2026-12-24", "2026-12-24T00:00+01:00", "2026-12-24T23:59:59+01:00"),
    (AMSTERDAM, "2026-12-24/2027-01-02", "2026-12-24T00:00+01:00", "2027-01-02T23:59:59+01:00"),
    (AMSTERDAM, {"from": "2026-12-24", "to": "2027-01-02"},
     "2026-12-24T00:00+01:00", "2027-01-02T23:59:59+01:00"),
    (AMSTERDAM, "2026-03-29", "2026-03-29T00:00+01:00", "2026-03-29T23:59:59+02:00"),
    (AMSTERDAM, "2026-10-25", "2026-10-25T00:00+02:00", "2026-10-25T23:59:59+01:00"),
    (AMSTERDAM, "2026-12-24T18:00Z/2026-12-24T20:00Z", "2026-12-24T18:00Z", "2026-12-24T20:00Z"),
    (AMSTERDAM, {"from": "2026-12-24T18:00", "to": "2026-12-26"},
     "2026-12-24T18:00+01:00", "2026-12-26T23:59:59+01:00"),
    (AMSTERDAM, {"from": "2026-12-24", "to": "2026-12-24T12:00+00:00"},
     "2026-12-24T00:00+01:00", "2026-12-24T13:00+01:00"),
    (AMSTERDAM, "2026-12-24T18:00:00Z", "2026-12-24T18:00Z", "2026-12-24T18:00Z"),
    (AMSTERDAM, date(2026, 12, 24), "2026-12-24T00:00+01:00", "2026-12-24T23:59:59+01:00"),
    (AMSTERDAM, {"calendar": ["2026-12-26", "2026-12-25"]},
     "2026-12-25T00:00+01:00", "2026-12-26T23:59:59+01:00"),
    (AMSTERDAM, {"cron": "* * 24-26 12 *"}, "2026-12-24T00:00+01:00", "2026-12-26T23:59:59+01:00"),
    (AMSTERDAM, {"cron": "* 12-13 24 12 *"}, "2026-12-24T12:00+01:00", "2026-12-24T13:59:59+01:00"),
    (AMSTERDAM, {"cron": "10-19 0 0 24 12 *"}, "2026-12-24T00:00:10+01:00", "2026-12-24T00:00:19+01:00"),
    ("UTC", "2026-12-24", "2026-12-24T00:00Z", "2026-12-24T23:59:59Z"),
    # Where midnight is in a gap or a fold
    (CAIRO, "2026-04-24", "2026-04-24T01:00+03:00", "2026-04-24T23:59:59+03:00"),
    (CAIRO, "2026-10-29", "2026-10-29T00:00+03:00", "2026-10-29T23:59:59+02:00"),
    (SAO_PAULO, {"calendar": ["2018-11-04"]}, "2018-11-04T01:00-02:00", "2018-11-04T23:59:59-02:00"),
    (HAVANA, "2026-11-01", "2026-11-01T00:00-04:00", "2026-11-01T23:59:59-05:00"),
]  # fmt: skip


@pytest.mark.parametrize(("timezone", "exclude", "first", "last"), EDGES)
def test_an_exclusion_has_its_edges_on_the_wall_clock(
    timezone: str, exclude: Any, first: str, last: str
) -> None:
    schedule, second = read(exclude, timezone=timezone), timedelta(seconds=1)
    assert [bool(schedule.excluded(at(instant))) for instant in (first, last)] == [True, True]
    assert schedule.excluded(at(first) - second) is None
    assert schedule.excluded(at(last) + second) is None


def test_a_slot_is_told_what_excludes_it() -> None:
    schedule = read("2026-12-24/2027-01-02", {"cron": "* * * * sun"}, {"calendar": ["2026-12-09"]})
    asked = ["2026-12-24T12:00Z", "2026-12-06T12:00Z", "2026-12-09T12:00Z", "2026-12-07T12:00Z"]
    assert [schedule.excluded(at(instant)) for instant in asked] == [
        "2026-12-24/2027-01-02",
        "* * * * sun",
        "calendar",
        None,
    ]


def test_an_excluded_slot_stays_a_slot() -> None:
    plain, schedule = read(), read("2026-12-24")
    after, until = at("2026-12-23T00:00Z"), at("2026-12-26T00:00Z")
    assert list(schedule.slots(after, until)) == list(plain.slots(after, until))
    assert (schedule.has_exclusions, plain.has_exclusions) == (True, False)


CANONICAL: list[tuple[list[Any], list[Any]]] = [
    ([" 2026-12-24 / 2027-01-02 "], ["2026-12-24/2027-01-02"]),
    ([{"from": "2026-12-24", "to": date(2026, 12, 24)}], ["2026-12-24"]),
    ([{"from": "2026-12-24", "to": "2026-12-24T12:00Z"}], ["2026-12-23T23:00:00Z/2026-12-24T12:00:00Z"]),
    ([{"cron": " *  12 * * sun", "from": None}], [{"cron": "* 12 * * sun"}]),
    (
        [{"calendar": ["2027-01-01", "2026-12-25", "2027-01-01"]}],
        [{"calendar": ["2026-12-25", "2027-01-01"]}],
    ),
]


@pytest.mark.parametrize(("exclude", "canonical"), CANONICAL)
def test_exclusions_are_written_again_in_one_form(exclude: list[Any], canonical: list[Any]) -> None:
    schedule = read(*exclude)
    assert schedule.to_document()["exclude"] == canonical
    assert Schedule.from_document(schedule.to_document(), name="job") == schedule
    assert "exclude" not in read().to_document()


@pytest.mark.parametrize(
    ("exclude", "canonical"),
    [
        ({"from": "2026-12-24T18:00:00Z", "to": "9999-12-31"}, "2026-12-24T18:00:00Z/9964-09-09T00:00:00Z"),
        ({"from": "0001-01-01", "to": "2026-12-24T18:00:00Z"}, "0066-01-22T00:00:01Z/2026-12-24T18:00:00Z"),
    ],
)
@pytest.mark.parametrize("timezone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_an_exclusion_for_ever_is_written_so_that_it_can_be_read_again(
    exclude: Any, canonical: str, timezone: str
) -> None:
    read = Schedule.from_document({"every": "1m", "timezone": timezone, "exclude": [exclude]}, name="a")
    assert read.to_document()["exclude"] == [canonical]
    assert Schedule.from_document(read.to_document(), name="a") == read


def test_equal_exclusions_are_equal_and_different_ones_are_not() -> None:
    assert read("2026-12-24") == read({"from": "2026-12-24", "to": "2026-12-24"})
    assert read("2026-12-24") != read("2026-12-25")
    assert read("2026-12-24") != read()
    assert read({"cron": "* 12 * * *"}) != read({"cron": "* 13 * * *"})
    assert len({read("2026-12-24"), read("2026-12-24"), read({"calendar": ["2026-12-24"]})}) == 2


def test_an_interval_has_a_time_zone_for_what_it_excludes() -> None:
    document = {"every": "1h", "timezone": AMSTERDAM, "exclude": ["2026-12-24"]}
    schedule = Schedule.from_document(document, name="job")
    assert schedule.to_document() == document
    assert schedule.excluded(at("2026-12-23T23:00Z"))
    assert schedule.excluded(at("2026-12-24T23:00Z")) is None
    assert schedule != Schedule.from_document({**document, "timezone": "UTC"}, name="job")


def test_equal_schedules_with_exclusions_share_one_object() -> None:
    def schedule_of(name: str, day: str) -> Schedule:
        schedule = {"cron": "0 3 * * *", "exclude": [day, {"cron": "* * * * sun"}], "dst": {"gap": "skip"}}
        target = {"type": "shell", "command": "true"}
        return JobDocument.parse({"name": name, "schedule": schedule, "target": target}).schedule

    assert schedule_of("a", "2026-12-24") is schedule_of("b", "2026-12-24")
    assert schedule_of("a", "2026-12-24") is not schedule_of("b", "2026-12-25")


days = st.dates(date(2026, 1, 1), date(2027, 12, 31))
instants = st.builds(
    lambda day, second: datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second),
    days,
    st.integers(0, 86_399),
)
zones = st.sampled_from(["UTC", AMSTERDAM, "America/New_York", "Australia/Lord_Howe", CAIRO])
properties = settings(max_examples=200, derandomize=True, deadline=None)


@given(st.lists(days, min_size=1, max_size=5), instants, zones)
@properties
def test_a_calendar_excludes_what_people_see_on_its_days(
    calendar: list[date], instant: datetime, timezone: str
) -> None:
    shown = instant.astimezone(ZoneInfo(timezone)).date()
    schedule = read({"calendar": [day.isoformat() for day in calendar]}, timezone=timezone)
    assert bool(schedule.excluded(instant)) == (shown in calendar)
    days_alone = read(*(day.isoformat() for day in calendar), timezone=timezone)
    assert bool(days_alone.excluded(instant)) == (shown in calendar)


@given(instants, zones, st.sampled_from(["* 9-17 * * mon-fri", "*/10 * * * *", "30 2 * * *", "* * L * *"]))
@properties
def test_a_slot_is_excluded_where_its_own_schedule_would_be_due(
    instant: datetime, timezone: str, cron: str
) -> None:
    schedule = read({"cron": cron}, timezone=timezone)
    shown = instant.astimezone(ZoneInfo(timezone)).replace(second=0, tzinfo=UTC)
    same_clock = Schedule.from_document({"cron": cron}, name="job")
    assert bool(schedule.excluded(instant)) == (same_clock.next_after(shown - timedelta(seconds=1)) == shown)


NIGHTS = [at("2026-03-29T00:00Z"), at("2026-10-25T00:00Z"), at("2026-04-04T14:00Z"), at("2026-12-24T22:00Z")]
entries = st.sampled_from(
    [
        "2026-03-29",
        "2026-10-25/2026-10-26",
        "2026-12-24T22:30:00Z/2026-12-25T05:00:00Z",
        {"calendar": ["2026-03-28", "2026-03-29", "2026-04-05", "2026-12-25"]},
        {"cron": "* 2 * * *"},
        {"cron": "10-20,40-59 * * * *"},
        {"cron": "5-20 */7 1-3 * * *"},
        {"cron": "* * 24-26 12 *"},
        {"cron": "* * * * sun"},
    ]
)


@given(
    st.lists(entries, min_size=1, max_size=3),
    zones,
    st.sampled_from(NIGHTS),
    st.integers(0, 4 * 3_600),
    st.data(),
)
@properties
def test_what_excludes_a_slot_excludes_all_up_to_the_instant_that_is_told(
    exclude: list[Any], timezone: str, night: datetime, second: int, data: st.DataObject
) -> None:
    schedule = read(*exclude, timezone=timezone)
    slot = night + timedelta(seconds=second)
    by, until = schedule.excluded_until(slot)
    assert until >= slot
    assert by == schedule.excluded(slot) == schedule.excluded(until)
    within = data.draw(st.integers(0, min(int((until - slot).total_seconds()), 90_000)))
    assert schedule.excluded(slot + timedelta(seconds=within)) == by


def test_excluded_slots_are_in_the_ledger_with_their_reason_and_verify() -> None:
    after, until = at("2026-12-23T12:00Z"), at("2026-12-26T12:00Z")
    planned = job(
        {"every": "6h", "exclude": ["2026-12-24", "2026-12-25T06:00Z"]},
        from_at=after,
        misfire={"policy": "all"},
        overlap="allow",
    )
    due = Due(job=planned, first=after + timedelta(hours=6), after=after)
    entries = decided(claim(due, Claiming(epoch=1, until=until, judged_at=until), Occupancy()))
    skipped = [entry for entry in entries if entry.state is RunState.SKIPPED]
    assert [(entry.slot, entry.until, entry.reason) for entry in skipped] == [
        (at("2026-12-24T00:00Z"), at("2026-12-24T18:00Z"), "excluded"),
        (at("2026-12-25T06:00Z"), None, "excluded"),
    ]
    version = JobVersion(name="backup", version=1, document=planned.document, from_at=after, to_at=None)
    found = verify_job([version], entries, watermark=until, since=after)
    assert (found.due, found.run, found.skips, found.ok) == (12, 7, {"excluded": 5}, True)
