"""Schedule documents: what is accepted, how it is written again, and what is said of what is refused."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cronexec.domain.schedule import Schedule, ScheduleError


def read(**document: Any) -> Schedule:
    return Schedule.from_document(document, name="job")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


CANONICAL = [
    ({"cron": "0 3 * * *"}, {"cron": "0 3 * * *", "timezone": "UTC"}, "0 3 * * * UTC"),
    (
        {"cron": " 0  3 * * MON ", "timezone": "Europe/Amsterdam"},
        {"cron": "0 3 * * MON", "timezone": "Europe/Amsterdam"},
        "0 3 * * MON Europe/Amsterdam",
    ),
    ({"every": "15m"}, {"every": "15m"}, "every 15m"),
    ({"every": 5400, "timezone": None}, {"every": "1h30m"}, "every 1h30m"),
    (
        {"every": "1d", "anchor": at("2026-01-01T06:00+02:00")},
        {"every": "1d", "anchor": "2026-01-01T04:00:00Z"},
        "every 1d",
    ),
    ({"at": "2026-12-24T18:00:00+01:00"}, {"at": "2026-12-24T17:00:00Z"}, "at 2026-12-24T17:00:00Z"),
    (
        {"at": at("2026-12-24T18:00"), "timezone": "Europe/Amsterdam"},
        {"at": "2026-12-24T17:00:00Z"},
        "at 2026-12-24T17:00:00Z",
    ),
    (
        {"every": 60, "start": "2026-01-01T00:00Z", "end": at("2026-02-01T01:00+01:00")},
        {"every": "1m", "start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"},
        "every 1m from 2026-01-01T00:00:00Z until 2026-02-01T00:00:00Z",
    ),
    (
        {"cron": "H 3 * * *", "jitter": 90, "exclude": ["2026-12-24"], "dst": {"fold": "both", "gap": "run"}},
        {
            "cron": "H 3 * * *",
            "timezone": "UTC",
            "dst": {"fold": "both"},
            "exclude": ["2026-12-24"],
            "jitter": "1m30s",
        },
        "H 3 * * * UTC jitter 1m30s with exclusions",
    ),
]


@pytest.mark.parametrize(("document", "canonical", "description"), CANONICAL)
def test_a_document_is_written_again_in_one_form(
    document: dict[str, Any], canonical: dict[str, Any], description: str
) -> None:
    schedule = read(**document)
    assert schedule.to_document() == canonical
    assert schedule.describe() == description
    assert read(**canonical) == schedule


REFUSED = [
    ({}, "cron", "exactly one of cron, every and at; given: none"),
    ({"cron": "0 3 * * *", "every": "1m"}, "every", "given: cron and every"),
    ({"cron": 5}, "cron", "write cron as"),
    ({"cron": "0 3 * * *", "timezone": "Europe/Amsterdm"}, "timezone", "did you mean Europe/Amsterdam?"),
    ({"cron": "0 3 * * *", "timezone": "europe/amsterdam"}, "timezone", "did you mean Europe/Amsterdam?"),
    ({"cron": "0 3 * * *", "timezone": "localtime"}, "timezone", "is no time zone"),
    ({"cron": "0 3 * * *", "timezone": ""}, "timezone", "use a name such as Europe/Amsterdam or UTC"),
    ({"cron": "0 3 * * *", "timezone": 2}, "timezone", "use a name such as"),
    ({"cron": "0 3 * * *", "timezon": "UTC"}, "timezon", "did you mean timezone?"),
    (
        {"cron": "0 3 * * *", "anchor": "2026-01-01T00:00Z"},
        "anchor",
        "it takes cron, timezone, start, end, exclude, jitter, dst",
    ),
    ({"at": "2026-12-24T18:00Z", "exclude": ["2026-12-24"]}, "exclude", "leave it out"),
    ({"cron": "0 3 * * *", "jitter": "5x"}, "jitter", 'as in "15m"'),
    ({"cron": "0 3 * * *", "jitter": "1d"}, "jitter", "less than a day"),
    ({"cron": "*/5 * * * *", "jitter": "6m"}, "jitter", "longer than the 5m between two slots"),
    ({"cron": "0 3,4 * * mon", "jitter": "61m"}, "jitter", "longer than the 1h between two slots"),
    ({"cron": "0 0,23 * * *", "jitter": "2h"}, "jitter", "longer than the 1h between two slots"),
    ({"cron": "5,20 30 3 * * *", "jitter": "20s"}, "jitter", "longer than the 15s between two slots"),
    ({"every": "1m", "jitter": "61s"}, "jitter", "longer than the 1m between two slots"),
    ({"cron": "H(0-60) * * * *"}, "cron", "'60' is no minute (0-59)"),
    ({"cron": "H(9-5) * * * *"}, "cron", "swap its ends"),
    ({"cron": "H/90 * * * *"}, "cron", "not from 2 to 60"),
    ({"cron": "H/1 * * * *"}, "cron", "not from 2 to 60"),
    ({"cron": "H-5 * * * *"}, "cron", "cannot be read"),
    ({"cron": "H(1-5/2 * * * *"}, "cron", "write H, H/15, H(0-29) or H(0-29)/10"),
    ({"cron": "H H H"}, "cron", "has 3 fields"),
    ({"cron": "0 3 * * *", "exclude": "2026-12-24"}, "exclude", "takes a list"),
    ({"cron": "0 3 * * *", "exclude": ["24.12.2026"]}, "exclude[0]", "write it as"),
    ({"cron": "0 3 * * *", "exclude": ["2026-12-24/2026-12-23"]}, "exclude[0]", "ends before it begins"),
    ({"cron": "0 3 * * *", "exclude": [5]}, "exclude[0]", "write a day (2026-12-24)"),
    ({"cron": "0 3 * * *", "exclude": [{"from": "2026-12-24"}]}, "exclude[0]", "do not make an exclusion"),
    ({"cron": "0 3 * * *", "exclude": [{"until": "2026-12-24"}]}, "exclude[0].until", "no field 'until'"),
    ({"cron": "0 3 * * *", "exclude": [{"cron": "* 61 * * *"}]}, "exclude[0].cron", "hour '61'"),
    (
        {"cron": "0 3 * * *", "exclude": [{"cron": "H * * * *"}]},
        "exclude[0].cron",
        "H is for a job's own time",
    ),
    ({"cron": "0 3 * * *", "exclude": [{"calendar": []}]}, "exclude[0].calendar", "takes a list of days"),
    (
        {"cron": "0 3 * * *", "exclude": ["2026-12-24", {"calendar": ["2026-12-24", "2027"]}]},
        "exclude[1].calendar[1]",
        "is no day",
    ),
    ({"cron": "0 3 * * *", "dst": "skip"}, "dst", "write it as {gap: run, fold: first}"),
    ({"cron": "0 3 * * *", "dst": {"fold": "last"}}, "dst.fold", "none of first, second, both"),
    ({"cron": "0 3 * * *", "dst": {"gaps": "run"}}, "dst", "write it as {gap: run, fold: first}"),
    ({"cron": "0 */2 * * *", "dst": {"gap": "skip"}}, "dst", "runs on every real occurrence"),
    ({"every": "1d", "dst": {"gap": "skip"}}, "dst", "use cron for local times"),
    ({"at": "2026-12-24T18:00Z", "dst": {"gap": "skip"}}, "dst", "has no effect"),
    ({"every": "5x"}, "every", 'as in "15m"'),
    ({"every": "500ms"}, "every", "at least 1s, in whole seconds"),
    ({"every": "1500ms"}, "every", "at least 1s, in whole seconds"),
    ({"every": 0}, "every", "at least 1s"),
    ({"every": "1d", "timezone": "Europe/Amsterdam"}, "timezone", "use cron for local times"),
    ({"every": "1d", "anchor": "2026-01-01T00:00"}, "anchor", "has no offset; add one"),
    ({"at": "2026-12-24T18:00"}, "at", "has no offset; add one"),
    ({"at": "tomorrow"}, "at", "write it as 2026-12-24T18:00:00+01:00"),
    ({"at": 1_700_000_000}, "at", "write it as 2026-12-24T18:00:00+01:00"),
    ({"at": "2026-12-24T18:00:00.5Z"}, "at", "whole seconds"),
    ({"at": "9999-12-31T18:00Z"}, "at", "a year from 100 to 9900"),
    ({"at": "2026-12-24T18:00Z", "end": "2027-01-01T00:00Z"}, "end", "leave it out"),
    ({"every": 60, "start": "2027-01-01T00:00Z", "end": "2026-01-01T00:00Z"}, "end", "is before start"),
    ({"cron": "0 0 1 1 *", "start": "2027-02-01T00:00Z", "end": "2027-03-01T00:00Z"}, "end", "has no slot"),
]


@pytest.mark.parametrize(("document", "field", "said"), REFUSED)
def test_a_wrong_field_is_refused_with_its_name_and_the_remedy(
    document: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(ScheduleError) as refused:
        read(**document)
    assert refused.value.field == field
    assert said in str(refused.value)
    assert str(refused.value)[-1] in ".?"


def test_a_field_that_has_no_text_for_a_name_is_refused_by_it() -> None:
    with pytest.raises(ScheduleError, match="has no field '1'") as caught:
        Schedule.from_document({"every": "1m", 1: 2}, name="a")  # type: ignore[dict-item]  YAML has those
    assert caught.value.field == "1"


def test_all_wrong_fields_are_reported_at_once() -> None:
    with pytest.raises(ScheduleError) as refused:
        read(cron="61 * * * *", timezone="Mars", start="soon", colour="red")
    error = refused.value
    assert [error.field, *(other.field for other in error.others)] == ["colour", "timezone", "cron", "start"]


def test_equal_definitions_are_equal_and_different_ones_are_not() -> None:
    assert read(cron="0 3 * * *") == read(cron="0  3 * * *", timezone="UTC")
    assert read(cron="0 3 * * *") != read(cron="0 3 * * *", timezone="Asia/Kolkata")
    assert read(every="60s") == read(every="1m")
    assert read(every="60s") != read(every="60s", start="2026-01-01T00:00Z")
    assert len({read(every="60s"), read(every=60), read(at="2026-01-01T00:00Z")}) == 2


def test_an_interval_keeps_its_phase_from_its_anchor() -> None:
    schedule = read(every="7h", anchor="2026-01-01T05:00Z")
    assert schedule.next_after(at("2026-01-01T05:00Z")) == at("2026-01-01T12:00Z")
    assert schedule.next_after(at("2025-12-31T21:59Z")) == at("2025-12-31T22:00Z")


def test_an_instant_has_one_slot() -> None:
    schedule = read(at="2026-12-24T18:00Z")
    assert schedule.next_after(at("2026-12-24T17:59:59.999Z")) == at("2026-12-24T18:00Z")
    assert schedule.next_after(at("2026-12-24T18:00Z")) is None


def test_start_and_end_are_inclusive() -> None:
    schedule = read(cron="0 3 * * *", start="2026-01-02T03:00Z", end="2026-01-04T03:00Z")
    days = [2, 3, 4]
    assert list(schedule.slots(at("2000-01-01T00:00Z"), at("2100-01-01T00:00Z"))) == [
        datetime(2026, 1, day, 3, tzinfo=UTC) for day in days
    ]
    assert schedule.next_after(at("2026-01-04T03:00Z")) is None


def test_a_fraction_of_a_second_neither_repeats_nor_skips_a_slot() -> None:
    schedule = read(cron="* * * * * *")
    assert schedule.next_after(at("2026-01-01T00:00:00.999Z")) == at("2026-01-01T00:00:01Z")
    assert list(schedule.slots(at("2026-01-01T00:00:00.5Z"), at("2026-01-01T00:00:02.5Z"))) == [
        at("2026-01-01T00:00:01Z"),
        at("2026-01-01T00:00:02Z"),
    ]


def test_an_instant_may_be_given_in_any_zone_and_must_have_one() -> None:
    schedule = read(cron="0 3 * * *")
    assert schedule.next_after(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5)))) == at(
        "2026-01-01T03:00Z"
    )
    with pytest.raises(TypeError, match="offset-naive"):
        schedule.next_after(at("2026-01-01T00:00"))


def test_the_last_slots_of_a_rare_schedule_are_found_over_decades() -> None:
    schedule = read(cron="0 0 29 2 *")
    found = schedule.last_slots(at("1970-01-01T00:00Z"), at("2026-01-01T00:00Z"), 3)
    assert [slot.year for slot in found] == [2016, 2020, 2024]
    assert schedule.last_slots(at("2024-03-01T00:00Z"), at("2026-01-01T00:00Z"), 3) == []


def test_a_schedule_ends_with_the_calendar() -> None:
    schedule = read(cron="0 0 29 2 *", timezone="Europe/Amsterdam")
    assert schedule.next_after(at("9990-01-01T00:00Z")) is None
    assert read(every="1d").next_after(at("9998-01-01T00:00Z")) is None
