"""Slots in windows, skipped once or excluded: decisions compared with what is said of each slot by itself."""

import time
from bisect import bisect_left, bisect_right
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import (
    MINUTE,
    NOON,
    SECOND,
    Decision,
    at,
    claim_all,
    covering,
    decided,
    decisions,
    job,
    queued,
)

from cronexec.domain.job import Job, JobDocument
from cronexec.domain.job_state import Blackout, Pause, SkippedOnce
from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.policy import Verdict, joined, judge
from cronexec.domain.run import Run, RunState, SkipReason
from cronexec.domain.schedule import Schedule
from cronexec.domain.wanted import Search, first_wanted, newest_wanted, next_run, next_runs

properties = settings(max_examples=150, derandomize=True, deadline=None)


def text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def with_exclusions(planned: Job, exclude: list[Any]) -> Job:
    written = planned.document.to_document()
    schedule = {**written["schedule"], "exclude": exclude}
    return replace(planned, document=JobDocument.parse({**written, "schedule": schedule}))


@st.composite
def selective(draw: st.DrawFn) -> Decision:
    """Draw a decision about a job of whose slots some are in windows, skipped once, or excluded."""
    decision = draw(decisions())
    slots = decision.slots
    edges = st.sampled_from(slots).flatmap(
        lambda slot: st.sampled_from([slot - SECOND, slot, slot, slot + SECOND, slot + MINUTE])
    )
    pairs = draw(st.lists(st.tuples(edges, edges).map(sorted), max_size=3))
    reasons = st.sampled_from([None, "holidays", "move"])
    planned = replace(
        decision.job,
        blackouts=tuple(
            Blackout(start_at=start, end_at=end, reason=draw(reasons)) for start, end in sorted(pairs)
        ),
        skip_next=tuple(
            SkippedOnce(slot=slot, issued_by="ann")
            for slot in sorted(draw(st.sets(st.sampled_from(slots), max_size=4)))
        ),
    )
    excluded = draw(st.lists(st.tuples(edges, edges).map(sorted), max_size=2))
    if excluded:
        planned = with_exclusions(planned, [f"{text(first)}/{text(last)}" for first, last in excluded])
    return replace(decision, job=planned)


def judged(decision: Decision, after: datetime | None = None, until: datetime | None = None) -> list[Verdict]:
    after, until = after or decision.after, until or decision.until
    first = decision.job.schedule.next_after(after)
    if first is None or first > until:
        return []
    verdicts = judge(decision.job, first=first, after=after, until=until, judged_at=decision.judged_at)
    return decided(joined(verdicts))


def covered(verdict: Verdict, slots: list[datetime]) -> list[datetime]:
    return slots[bisect_left(slots, verdict.slot) : bisect_right(slots, verdict.until or verdict.slot)]


def why_of(verdict: Verdict) -> tuple[SkipReason | None, str | None, str | None]:
    return verdict.skip, verdict.note, verdict.issued_by


def told(verdicts: list[Verdict], slots: list[datetime]) -> list[tuple[datetime, str, str | None]]:
    """Write down what is decided about each slot."""
    return [(slot, _word(verdict), verdict.note) for verdict in verdicts for slot in covered(verdict, slots)]


def _word(verdict: Verdict) -> str:
    return "late" if verdict.catch_up else verdict.skip.value if verdict.skip else "run"


def expected(decision: Decision) -> list[tuple[datetime, str, str | None]]:
    """What the words say about each slot: first what skips it by itself, then the misfire policy."""
    planned, misfire = decision.job, decision.job.document.misfire
    why = {slot: planned.passes_over(slot) for slot in decision.slots}
    left = [slot for slot in decision.slots if why[slot] is None]
    missed = [slot for slot in left if decision.judged_at - slot > misfire.grace]
    live = left[len(missed) :]
    kept = {"skip": 0, "latest": 0 if live else 1, "all": misfire.limit}[misfire.policy.value]
    late = missed[max(0, len(missed) - kept) :]
    words = dict.fromkeys(missed, "misfire") | dict.fromkeys(late, "late") | dict.fromkeys(live, "run")
    return [
        (slot, found.reason.value, found.note) if found else (slot, words[slot], None)
        for slot, found in why.items()
    ]


@given(selective())
@properties
def test_every_slot_gets_exactly_the_verdict_that_is_said_of_it(decision: Decision) -> None:
    assert told(judged(decision), decision.slots) == expected(decision)


@given(selective())
@properties
def test_adjacent_skips_with_one_reason_are_one_range_that_ends_where_it_may(decision: Decision) -> None:
    verdicts = judged(decision)
    for verdict in verdicts:
        assert verdict.slot in decision.slots
        assert verdict.until is None or verdict.until <= decision.until
        assert (verdict.until is not None) == (len(covered(verdict, decision.slots)) > 1)
    for one, other in pairwise(verdicts):
        assert one.skip is None or (one.skip, one.note, one.issued_by) != (
            other.skip,
            other.note,
            other.issued_by,
        )


@given(selective(), st.data())
@properties
def test_a_range_may_be_decided_in_parts_where_the_misfire_policy_does_not_choose(
    decision: Decision, data: st.DataObject
) -> None:
    misfire = decision.job.document.misfire.model_copy(update={"policy": "skip"})
    document = decision.job.document.model_copy(update={"misfire": misfire})
    decision = replace(decision, job=replace(decision.job, document=document))
    parted_at = data.draw(st.sampled_from([*decision.slots, decision.after + SECOND, decision.until]))
    parts = [*judged(decision, until=parted_at), *judged(decision, after=parted_at)]
    assert told(parts, decision.slots) == told(judged(decision), decision.slots)


@given(selective())
@properties
def test_every_slot_of_a_claim_has_exactly_one_entry(decision: Decision) -> None:
    occupancy = Occupancy()
    occupancy.enter(queued("backup@before"), decision.job.document.overlap)
    entries = claim_all(
        decision.job, decision.after, decision.until, occupancy=occupancy, judged_at=decision.judged_at
    )
    assert list(covering(entries, decision.slots)) == [1] * len(decision.slots)
    ended = [entry.until or entry.slot for entry in entries]
    assert all(end < entry.slot for end, entry in zip(ended[:-1], entries[1:], strict=True))
    why = {slot: found.reason.value for slot in decision.slots if (found := decision.job.passes_over(slot))}
    for entry in entries:
        reasons = {why.get(slot, "overlap or misfire") for slot in decision.slots if entry.covers(slot)}
        assert reasons == {entry.reason if entry.reason in why.values() else "overlap or misfire"}


@given(selective(), st.integers(1, 8))
@properties
def test_the_newest_wanted_slots_are_the_last_that_nothing_skips(decision: Decision, count: int) -> None:
    left = [slot for slot in decision.slots if decision.job.passes_over(slot) is None]
    assert found(first_wanted(decision.job, decision.after, decision.until)) == (left or [None])[0]
    newest = found(newest_wanted(decision.job, decision.after, decision.until, count))
    assert newest == (left[-count:] or [None])[0]


def found(search: Search) -> datetime | None:
    """Go through with a search."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            return cast("datetime | None", end.value)


@given(selective())
@properties
def test_the_next_run_is_the_first_slot_that_nothing_skips(decision: Decision) -> None:
    left = [slot for slot in decision.slots if decision.job.passes_over(slot) is None]
    runs = list(islice(next_runs(decision.job, decision.after), len(left)))
    assert runs == left
    following = next_run(decision.job, decision.slots[-1])
    assert following is None or following > decision.slots[-1]


def test_a_long_window_is_decided_in_one_go() -> None:
    month = NOON + timedelta(days=30)
    window = Blackout(start_at=NOON, end_at=month, reason="move")
    secondly = replace(job({"every": "1s"}), blackouts=(window,))
    entries = claim_all(secondly, NOON - MINUTE, month, judged_at=month + MINUTE)
    assert [(entry.slot, entry.reason or entry.state.value) for entry in entries] == [
        (NOON - MINUTE + SECOND, "misfire"),
        (NOON - SECOND, "queued"),
        (NOON, "blackout"),
    ]


# Long stretches, as after an outage.

MONTH_AGO = NOON - timedelta(days=30)
SECONDLY = {"every": "1s"}
LONG_AGO = {"grace": "40d"}
ALTERNATING = [{"cron": "*/2 * * * * *"}]
NEARLY_ALL = [{"cron": "1-59 * * * * *"}, {"cron": "0 1-59 * * * *"}]


def steps_of(planned: Job, until: datetime = NOON) -> list[Run | None]:
    due = Due(job=planned, first=MONTH_AGO + SECOND, after=MONTH_AGO)
    return list(claim(due, Claiming(epoch=1, until=until, judged_at=until), Occupancy()))


@pytest.mark.parametrize(
    "exclude",
    [
        ["2026-01-01/2026-12-31"],
        ["2026-01-01T00:00:00Z/2026-12-31T00:00:00Z"],
        [{"cron": "* * * 1-6 *"}],
        [{"calendar": [f"2026-{month}-{day:02}" for month in ("01", "02", "03") for day in range(1, 29)]}],
        ["2026-03-02T11:59:59Z/2026-03-02T12:00:00Z"],
    ],
)
@pytest.mark.parametrize("fields", [{}, {"overlap": "replace"}, {"misfire": LONG_AGO}], ids=str)
def test_a_month_of_seconds_is_decided_in_few_steps(exclude: list[Any], fields: dict[str, Any]) -> None:
    planned = with_exclusions(job(SECONDLY, **fields), exclude)
    steps = steps_of(planned)
    assert len(steps) < 500
    entries = decided(steps)
    assert (entries[0].slot, entries[-1].until or entries[-1].slot) == (MONTH_AGO + SECOND, NOON)


@pytest.mark.parametrize(
    ("schedule", "exclude", "fields"),
    [
        (SECONDLY, ALTERNATING, {}),
        ({"every": "2s"}, ALTERNATING, {}),
        (SECONDLY, NEARLY_ALL, {"misfire": {"policy": "all", "limit": 100_000}}),
        (SECONDLY, [], {"misfire": {"policy": "all", "limit": 100_000}}),
        (SECONDLY, [], {"misfire": {"policy": "all", "limit": 100_000}, "overlap": "skip"}),
        (SECONDLY, ALTERNATING, {"misfire": LONG_AGO, "overlap": "replace"}),
        (SECONDLY, [], {"misfire": LONG_AGO, "overlap": "allow"}),
    ],
)
def test_no_step_of_a_long_decision_holds_the_loop(
    schedule: dict[str, Any], exclude: list[Any], fields: dict[str, Any]
) -> None:
    counted = Schedule.from_document({**schedule, "exclude": exclude}, name="backup")
    recurrence = Counted(counted)
    planned = job(counted, **fields)
    due = Due(job=planned, first=counted.next_after(MONTH_AGO) or NOON, after=MONTH_AGO)
    most = 0
    for _ in islice(claim(due, Claiming(epoch=1, until=NOON, judged_at=NOON), Occupancy()), 20_000):
        most, recurrence.asked = max(most, recurrence.asked), 0
    assert 0 < most < 3_000  # slots, of which there are 2,592,000


class Counted:
    """The recurrence of a schedule; counts how often it is asked for a slot."""

    def __init__(self, schedule: Schedule) -> None:
        self._recurrence = schedule._recurrence
        self.asked = 0
        object.__setattr__(schedule, "_recurrence", self)

    def next_after(self, instant: int) -> int | None:
        self.asked += 1
        return self._recurrence.next_after(instant)


def test_the_next_run_behind_months_that_are_excluded_is_found() -> None:
    planned = with_exclusions(job(SECONDLY), ["2026-03-01/2026-10-31", {"cron": "* * * 11 *"}])
    assert next_run(planned, NOON) == datetime.fromisoformat("2026-12-01T00:00:00Z")


def test_it_is_said_in_reasonable_time_that_no_next_run_is_known() -> None:
    planned = with_exclusions(job({"every": "2s"}), ALTERNATING)
    began_at = time.thread_time()
    assert next_run(planned, NOON) is None
    assert time.thread_time() - began_at < 0.2


# Examples.

HOURLY = {"cron": "0 * * * *"}


def entries_of(planned: Job, after: str, until: str, **fields: Any) -> list[str]:
    return [_tell(entry) for entry in claim_all(planned, at(after), at(until), **fields)]


def _tell(entry: Run) -> str:
    until = f"-{entry.until:%H:%M}" if entry.until else ""
    return f"{entry.slot:%H:%M}{until} {entry.reason or entry.state.value}"


def test_live_slots_around_two_windows_make_two_ranges() -> None:
    planned = replace(
        job(overlap="allow", misfire={"grace": "1h"}),
        blackouts=(
            Blackout(start_at=at("12:02"), end_at=at("12:04")),
            Blackout(start_at=at("12:06"), end_at=at("12:07")),
        ),
    )
    assert entries_of(planned, "12:00", "12:08") == [
        "12:01 queued",
        "12:02-12:04 blackout",
        "12:05 queued",
        "12:06-12:07 blackout",
        "12:08 queued",
    ]


def test_slots_skipped_once_with_nothing_between_them_are_one_range() -> None:
    asked = tuple(SkippedOnce(slot=at(slot), issued_by="ann") for slot in ("12:00", "13:00", "15:00"))
    planned = replace(job(HOURLY, overlap="allow", misfire={"grace": "9h"}), skip_next=asked)
    assert entries_of(planned, "11:30", "15:30") == [
        "12:00-13:00 skip_next",
        "14:00 queued",
        "15:00 skip_next",
    ]


def test_the_latest_missed_slot_is_the_latest_that_is_wanted() -> None:
    planned = replace(job(HOURLY), blackouts=(Blackout(start_at=at("14:00"), end_at=at("15:00")),))
    assert entries_of(planned, "11:30", "15:30") == ["12:00 misfire", "13:00 queued", "14:00-15:00 blackout"]


def test_a_live_slot_that_is_skipped_supersedes_no_missed_one() -> None:
    planned = replace(job(HOURLY), skip_next=(SkippedOnce(slot=at("15:00")),))
    assert entries_of(planned, "13:30", "15:00:10") == ["14:00 queued", "15:00 skip_next"]


def test_overlapping_live_slots_do_not_swallow_those_of_a_window() -> None:
    planned = replace(
        job(overlap="skip", misfire={"grace": "1h"}),
        blackouts=(Blackout(start_at=at("12:03"), end_at=at("12:04"), reason="move"),),
    )
    assert entries_of(planned, "12:00", "12:06") == [
        "12:01 queued",
        "12:02 overlap",
        "12:03-12:04 blackout",
        "12:05-12:06 overlap",
    ]


def test_an_entry_says_who_asked_and_why() -> None:
    window = Blackout(start_at=NOON, end_at=NOON, issued_by="ann", reason="holidays")
    (entry,) = claim_all(replace(job(), blackouts=(window,)), NOON - SECOND, NOON)
    assert (entry.reason, entry.note, entry.issued_by, entry.state) == (
        "blackout",
        "holidays",
        "ann",
        RunState.SKIPPED,
    )


@pytest.mark.parametrize(
    ("slot", "why"),
    [
        ("12:00", "paused"),
        ("12:05", "paused"),
        ("12:06", "skip_next"),
        ("12:07", "blackout"),
        ("12:08", None),
    ],
)
def test_a_job_says_why_it_will_skip_a_slot(slot: str, why: str | None) -> None:
    planned = replace(
        job(),
        paused=Pause(since_at=NOON, issued_by="ann", range_id="", until_at=at("12:05")),
        skip_next=(SkippedOnce(slot=at("12:06")),),
        blackouts=(Blackout(start_at=at("12:06"), end_at=at("12:07")),),
    )
    found = planned.will_skip(at(slot))
    assert (found.reason.value if found else None) == why


def test_a_pause_with_an_end_has_a_next_run_behind_it_and_one_without_has_none() -> None:
    pause = Pause(since_at=NOON, issued_by="ann", range_id="", until_at=at("12:05"))
    assert next_run(replace(job(), paused=pause), NOON) == at("12:06")
    assert next_run(replace(job(), paused=pause), at("12:30")) == at("12:31")
    assert next_run(replace(job(), paused=replace(pause, until_at=None)), NOON) is None
