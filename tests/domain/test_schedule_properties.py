"""What holds for every schedule, in every zone, over any range."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronexec.domain.schedule import Schedule
from cronexec.domain.zone import EPOCH, Zone

ZONES = [
    "UTC",
    "Europe/Amsterdam",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
]
CRONS = [
    "* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "0,30 2-3 * * *", "0 0 * * *", "*/20 1-3 * * *",
    "0 */3 * * *", "H H(0-3) * * *", "H/20 * * * *", "0 1-5/2 * * sun", "0 9 1,15 * mon", "0 0 L * *",
    "30 1 * * sun#1", "*/40 30 2 * * *",
]  # fmt: skip
CHANGES = [
    "2026-03-29T01:00Z", "2026-10-25T01:00Z", "2026-03-08T07:00Z", "2026-11-01T06:00Z", "2026-10-03T15:30Z",
    "2026-04-04T15:00Z", "2026-02-15T02:00Z", "2026-03-22T02:00Z", "2011-12-30T10:00Z", "2026-06-10T00:00Z",
    "2026-12-13T00:00Z",  # where two blocks of a zone's periods meet
]  # fmt: skip

RULES = [
    {}, {}, {"gap": "skip"}, {"fold": "second"}, {"fold": "both"}, {"gap": "skip", "fold": "second"},
    {"gap": "skip", "fold": "both"},
]  # fmt: skip


def cron_document(cron: str, zone: str, rule: dict[str, str]) -> dict[str, object]:
    follows_real_time = set("*/") & set(cron.split()[-4])
    return {"cron": cron, "timezone": zone, "dst": {} if follows_real_time else rule}


crons = st.builds(cron_document, st.sampled_from(CRONS), st.sampled_from(ZONES), st.sampled_from(RULES))
intervals = st.builds(lambda every: {"every": every}, st.integers(600, 100_000))
schedules = st.one_of(crons, crons, crons, intervals).map(
    lambda document: Schedule.from_document(document, name="job")
)
milliseconds = st.integers(-2 * 86_400_000, 2 * 86_400_000).map(lambda count: timedelta(milliseconds=count))
instants = st.builds(
    lambda at, away: datetime.fromisoformat(at) + away, st.sampled_from(CHANGES), milliseconds
)
lengths = st.integers(0, 3 * 86_400).map(lambda count: timedelta(seconds=count))
properties = settings(max_examples=150, derandomize=True, deadline=None)


@given(schedules, instants, lengths, lengths)
@properties
def test_slots_are_the_same_however_a_range_is_split(
    schedule: Schedule, after: datetime, first: timedelta, second: timedelta
) -> None:
    middle, until = after + first, after + first + second
    whole = list(schedule.slots(after, until))
    assert [*schedule.slots(after, middle), *schedule.slots(middle, until)] == whole


@given(schedules, instants, lengths)
@properties
def test_slots_rise_are_whole_seconds_and_lie_in_their_range(
    schedule: Schedule, after: datetime, length: timedelta
) -> None:
    slots = list(schedule.slots(after, after + length))
    assert slots == sorted(set(slots))
    assert all(
        after < slot <= after + length and slot.microsecond == 0 and slot.tzinfo is UTC for slot in slots
    )


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("weekday", range(7))
def test_the_next_slot_is_later_where_two_blocks_of_periods_meet(zone: str, weekday: int) -> None:
    schedule = Schedule.from_document({"cron": f"0 */4 * * {weekday}", "timezone": zone}, name="job")
    middle = datetime(2026, 12, 13, tzinfo=UTC)  # 20,800 days after the epoch
    asked = [middle + timedelta(hours=hour) for hour in range(-96, 97)]
    assert [at for at in asked if (schedule.next_after(at) or at) <= at] == []


@given(schedules, instants)
@properties
def test_the_next_slot_is_the_first_of_the_slots(schedule: Schedule, instant: datetime) -> None:
    found = schedule.next_after(instant)
    assert found == next(schedule.slots(instant, instant + timedelta(days=100)))


@given(schedules, instants, lengths, st.integers(0, 200))
@properties
def test_the_last_slots_are_the_tail_of_the_slots(
    schedule: Schedule, after: datetime, length: timedelta, count: int
) -> None:
    slots = list(schedule.slots(after, after + length))
    assert schedule.last_slots(after, after + length, count) == slots[max(0, len(slots) - count) :]


exclusions = st.lists(
    st.sampled_from(
        [
            "2026-12-24",
            "2026-12-24/2027-01-02",
            "2026-12-24T18:00Z/2026-12-25",
            {"cron": "* 12 * * *"},
            {"calendar": ["2026-12-25"]},
        ]
    ),
    max_size=3,
)


@given(schedules, exclusions, st.sampled_from([None, "0s", "500ms", "10s"]))
@properties
def test_a_schedule_reads_its_own_document(
    plain: Schedule, exclude: list[object], jitter: str | None
) -> None:
    document = {**plain.to_document(), "exclude": exclude, "jitter": jitter}
    schedule = Schedule.from_document(document, name="job")
    again = Schedule.from_document(schedule.to_document(), name="job")
    assert again == schedule
    assert hash(again) == hash(schedule)


@given(schedules, instants, instants)
@properties
def test_the_next_slot_does_not_depend_on_what_was_asked_before(
    schedule: Schedule, instant: datetime, other: datetime
) -> None:
    found = schedule.next_after(instant)
    schedule.next_after(other)
    assert schedule.next_after(instant) == found


@given(
    st.sampled_from(ZONES),
    st.one_of(st.integers(-3_000_000_000, 6_000_000_000), instants.map(lambda at: int(at.timestamp()))),
)
@properties
def test_a_period_has_the_offset_of_the_zone_up_to_its_last_second(name: str, instant: int) -> None:
    period = Zone(name).period_at(instant)
    moments = [period.start, instant, period.end - 1]
    shown = [(EPOCH + timedelta(seconds=at)).astimezone(ZoneInfo(name)).utcoffset() for at in moments]
    assert period.start <= instant < period.end
    assert shown == [timedelta(seconds=period.offset)] * 3


@given(st.sampled_from(ZONES), st.lists(instants, min_size=2, max_size=6))
@properties
def test_a_zone_answers_the_same_whatever_it_was_asked_before(name: str, asked: list[datetime]) -> None:
    zone = Zone(name)
    answers = [zone.period_at(int(at.timestamp())) for at in asked]
    assert answers == [Zone(name).period_at(int(at.timestamp())) for at in asked]
