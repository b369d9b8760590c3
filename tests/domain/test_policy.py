"""The policies, each decision compared with the definition of what it should be."""

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import MINUTE, NOON, SECOND, Decision, at, decided, decisions, document, job

from cronexec.domain.job import Job, JobDocument
from cronexec.domain.job_state import Skip
from cronexec.domain.places import Places
from cronexec.domain.policy import Verdict, judge, skip_all
from cronexec.domain.run import SkipReason

properties = settings(max_examples=120, derandomize=True, deadline=None)


def judged(
    planned: Job, after: datetime, until: datetime, judged_at: datetime | None = None
) -> list[Verdict]:
    first = planned.schedule.next_after(after)
    assert first is not None
    assert first <= until
    return decided(judge(planned, first=first, after=after, until=until, judged_at=judged_at or until))


def told(verdicts: list[Verdict]) -> list[str]:
    """Write verdicts down: `12:00` runs, `12:00 late` is caught up with, `12:00-12:05 misfire` is a range."""
    return [_tell(verdict) for verdict in verdicts]


def _tell(verdict: Verdict) -> str:
    until = f"-{verdict.until:%H:%M}" if verdict.until else ""
    how = verdict.skip.value if verdict.skip else "late" if verdict.catch_up else ""
    return f"{verdict.slot:%H:%M}{until} {how}".strip()


def expected(planned: Job, slots: list[datetime], judged_at: datetime) -> dict[datetime, str]:
    """What the words of the policies say about each slot: run, late or misfire."""
    misfire = planned.document.misfire
    missed = [slot for slot in slots if judged_at - slot > misfire.grace]
    live = slots[len(missed) :]
    kept = {"skip": 0, "latest": 0 if live else 1, "all": misfire.limit}[misfire.policy.value]
    late = missed[max(0, len(missed) - kept) :]
    return dict.fromkeys(missed, "misfire") | dict.fromkeys(late, "late") | dict.fromkeys(live, "run")


def covered(verdict: Verdict, slots: list[datetime]) -> list[datetime]:
    return slots[bisect_left(slots, verdict.slot) : bisect_right(slots, verdict.until or verdict.slot)]


@given(decisions())
@properties
def test_every_slot_gets_exactly_the_verdict_that_the_policy_says(decision: Decision) -> None:
    found = [
        (slot, "late" if verdict.catch_up else verdict.skip.value if verdict.skip else "run")
        for verdict in judged(decision.job, decision.after, decision.until, decision.judged_at)
        for slot in covered(verdict, decision.slots)
    ]
    assert found == list(expected(decision.job, decision.slots, decision.judged_at).items())


@given(decisions())
@properties
def test_no_verdict_begins_beside_a_slot_or_reaches_out_of_the_range(decision: Decision) -> None:
    for verdict in judged(decision.job, decision.after, decision.until, decision.judged_at):
        assert verdict.slot in decision.slots
        if verdict.until is not None:
            assert verdict.skip is SkipReason.MISFIRE
            assert verdict.until <= decision.until
            assert len(covered(verdict, decision.slots)) > 1


class NeverAsked:
    """A schedule that must not be asked for anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the schedule was asked for {name}")


def test_the_usual_tick_decides_without_asking_the_schedule() -> None:
    planned = job()
    object.__setattr__(planned.document, "schedule", NeverAsked())
    found = list(
        judge(
            planned, first=NOON, after=NOON - MINUTE, until=at("12:00:00.007"), judged_at=at("12:00:00.007")
        )
    )
    assert found == [Verdict(slot=NOON)]


@given(decisions())
@properties
def test_the_short_way_decides_like_the_long_one(decision: Decision) -> None:
    """A tick with one slot is cut short; with a slot before it that was decided already, it is not."""
    last = decision.slots[-1]
    until = min(decision.until, last + timedelta(milliseconds=999))
    (short,) = judged(decision.job, last - SECOND, until, decision.judged_at)
    *_, long = judged(decision.job, decision.after, until, decision.judged_at)
    assert covered(long, [last]) == [last]
    assert (long.catch_up, long.skip) == (short.catch_up, short.skip)


GRACE = [
    ("12:00:59.999", ["12:00"]),
    ("12:01:00", ["12:00"]),
    ("12:01:00.001", ["12:00 late"]),
]


@pytest.mark.parametrize(("judged_at", "said"), GRACE)
def test_a_slot_is_missed_when_it_is_later_than_its_grace_and_not_before(
    judged_at: str, said: list[str]
) -> None:
    assert told(judged(job(), at("11:59:59"), at("12:00:00.500"), at(judged_at))) == said


RANGES = [
    ("latest", 100, "12:04:30", ["12:00-12:03 misfire", "12:04"]),
    ("latest", 100, "12:01:30", ["12:00 misfire", "12:01"]),
    ("skip", 100, "12:04:30", ["12:00-12:03 misfire", "12:04"]),
    ("all", 100, "12:03:30", ["12:00 late", "12:01 late", "12:02 late", "12:03"]),
    ("all", 2, "12:04:30", ["12:00-12:01 misfire", "12:02 late", "12:03 late", "12:04"]),
    ("all", 3, "12:04:30", ["12:00 misfire", "12:01 late", "12:02 late", "12:03 late", "12:04"]),
]


@pytest.mark.parametrize(("policy", "limit", "until", "said"), RANGES)
def test_missed_slots_are_decided_by_policy_with_a_live_one_after_them(
    policy: str, limit: int, until: str, said: list[str]
) -> None:
    planned = job(misfire={"policy": policy, "limit": limit, "grace": "59s"})
    assert told(judged(planned, at("11:59:30"), at(until))) == said


ALL_MISSED = [
    ("latest", 100, ["12:00-12:02 misfire", "12:03 late"]),
    ("skip", 100, ["12:00-12:03 misfire"]),
    ("all", 1, ["12:00-12:02 misfire", "12:03 late"]),
]


@pytest.mark.parametrize(("policy", "limit", "said"), ALL_MISSED)
def test_missed_slots_are_decided_by_policy_with_nothing_after_them(
    policy: str, limit: int, said: list[str]
) -> None:
    planned = job(misfire={"policy": policy, "limit": limit})
    assert told(judged(planned, at("11:59:30"), at("12:03:00.250"), at("12:30"))) == said


WINDOWS = [
    ("all", "12:05:30", "3m", ["12:00-12:02 misfire", "12:03 late", "12:04 late", "12:05 late"]),
    ("all", "12:05:00", "3m", ["12:00-12:01 misfire", "12:02 late", "12:03 late", "12:04 late", "12:05"]),
    ("all", "12:05:00", "2999ms", ["12:00-12:04 misfire", "12:05"]),
    ("latest", "12:05:00", "3m", ["12:00-12:04 misfire", "12:05"]),
    ("skip", "12:05:00", "3m", ["12:00-12:04 misfire", "12:05"]),
]


@pytest.mark.parametrize(("policy", "until", "window", "said"), WINDOWS)
def test_slots_older_than_the_window_are_not_caught_up(
    policy: str, until: str, window: str, said: list[str]
) -> None:
    planned = job(misfire={"policy": policy, "window": window, "grace": "2s"})
    assert told(judged(planned, at("11:59:30"), at(until))) == said


ALONE = [
    ("12:05:00", ["12:00-12:02 misfire", "12:03 late"]),
    ("12:06:00.001", ["12:00-12:03 misfire"]),
    ("13:00", ["12:00-12:03 misfire"]),
]


@pytest.mark.parametrize(("judged_at", "said"), ALONE)
def test_not_even_the_latest_is_run_when_it_is_older_than_the_window(judged_at: str, said: list[str]) -> None:
    planned = job(misfire={"window": "3m"})
    assert told(judged(planned, at("11:59:30"), at("12:03"), at(judged_at))) == said


def test_misfires_are_judged_against_the_end_of_the_whole_range() -> None:
    assert told(judged(job(), at("11:59:30"), at("12:00"), at("12:10"))) == ["12:00 late"]


def test_a_slot_at_the_very_end_of_the_range_is_decided_too() -> None:
    planned = job({"every": "1s"})
    verdicts = judged(planned, NOON - SECOND, NOON + SECOND)
    assert [verdict.slot for verdict in verdicts] == [NOON, NOON + SECOND]


def test_a_catch_up_of_a_year_asks_only_for_what_it_keeps() -> None:
    planned = job({"every": "1s"}, misfire={"policy": "all", "limit": 3})
    verdicts = judged(planned, NOON - timedelta(days=365), NOON, NOON + timedelta(minutes=2))
    assert [verdict.catch_up for verdict in verdicts] == [False, True, True, True]
    assert verdicts[0].until == NOON - 3 * SECOND


def test_a_skip_of_one_slot_is_no_range() -> None:
    schedule = job().schedule
    why = Skip(reason=SkipReason.OVERLAP)
    (alone,) = skip_all(schedule, NOON - SECOND, NOON + 59 * SECOND, why)
    (several,) = skip_all(schedule, NOON - SECOND, NOON + MINUTE, why)
    assert (alone.until, several.until) == (None, NOON + MINUTE)


def places_taken(fields: dict[str, Any], slots: str, places: Places | None = None) -> str:
    """Offer live (`l`) and missed (`m`) slots in this order; those that get no place become `-`."""
    places = places or Places()
    written: JobDocument = document(**fields)
    return "".join(kind if places.take(written, catch_up=kind == "m") else "-" for kind in slots)


TWO = {"policy": "allow", "max_running": 2}
ALL_OF_TWO = {"misfire": {"policy": "all", "limit": 2}}
PLACES = [
    ({"overlap": "allow"}, Places(active=3), "lllmm", "lllmm"),
    ({"overlap": "skip"}, Places(), "lll", "l--"),
    ({"overlap": "skip"}, Places(active=1), "lm", "--"),
    ({}, Places(), "llll", "ll--"),
    ({}, Places(active=1), "lll", "l--"),
    ({}, Places(active=1, live=1), "ll", "--"),
    ({}, Places(active=1, live=1), "mm", "m-"),
    ({}, Places(active=1, catch_up=1), "mll", "-l-"),
    (ALL_OF_TWO, Places(), "mmmm", "mmm-"),
    (ALL_OF_TWO, Places(active=1), "mmmll", "mm-l-"),
    (ALL_OF_TWO, Places(active=1, catch_up=2), "ml", "-l"),
    ({"overlap": {"queue_limit": 3}}, Places(), "lllll", "llll-"),
    ({"overlap": {"queue_limit": 0}}, Places(), "lm", "lm"),
    ({"overlap": {"queue_limit": 0}}, Places(active=1), "lm", "-m"),
    ({"overlap": TWO}, Places(active=1), "lll", "ll-"),
    ({"overlap": TWO}, Places(active=1), "mml", "mml"),
    ({"overlap": TWO}, Places(active=3), "lmlm", "lm--"),
    ({"overlap": {**TWO, "queue_limit": 0}}, Places(active=1), "lll", "l--"),
    ({"overlap": "replace"}, Places(active=1, live=1), "ll", "ll"),
    ({"overlap": "replace"}, Places(active=1, catch_up=1), "mlm", "-lm"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "places", "slots", "taken"), PLACES)
def test_the_overlap_policy_gives_places_to_live_and_missed_slots_apart(
    fields: dict[str, Any], places: Places, slots: str, taken: str
) -> None:
    assert places_taken(fields, slots, Places(places.active, places.live, places.catch_up)) == taken


@given(st.lists(st.sampled_from("lm")), st.integers(1, 4), st.integers(0, 4))
@properties
def test_no_more_are_active_and_no_more_wait_than_the_document_says(
    slots: list[str], max_running: int, queue_limit: int
) -> None:
    bounded = {"policy": "allow", "max_running": max_running, "queue_limit": queue_limit}
    places = Places()
    taken = places_taken({"overlap": bounded}, "".join(slots), places)
    assert places.active == min(len(slots), max_running)
    assert places.live == min(slots[max_running:].count("l"), queue_limit)
    assert len(taken.replace("-", "")) == places.active + places.live + places.catch_up


@given(st.integers(1, 40), st.integers(1, 40))
@properties
def test_what_one_catch_up_keeps_always_finds_a_place_under_queue(limit: int, busy: int) -> None:
    fields = {"misfire": {"policy": "all", "limit": limit}}
    assert places_taken(fields, "m" * limit, Places(active=busy, live=1)) == "m" * limit


@given(st.lists(st.sampled_from("lm")), st.integers(1, 5))
@properties
def test_no_more_wait_under_queue_than_one_live_slot_and_what_the_misfire_policy_keeps(
    slots: list[str], limit: int
) -> None:
    places = Places()
    written = document(misfire={"policy": "all", "limit": limit})
    for kind in slots:
        places.take(written, catch_up=kind == "m")
    assert places.active <= 1
    assert places.live <= 1
    assert places.catch_up <= limit
