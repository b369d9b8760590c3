"""Claims: every slot is in the ledger exactly once, whatever the policies, however time is cut (I1, I2)."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_jobs import (
    AROUND,
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

from cronexec.domain.job import Job, Overlap, OverlapPolicy
from cronexec.domain.ledger import Claiming, claim, pause_entry
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.policy import judge
from cronexec.domain.replacement import replacement, replaces
from cronexec.domain.run import Run, RunState

properties = settings(max_examples=100, derandomize=True, deadline=None)
busy = st.integers(0, 2)


def occupied(active: int) -> Occupancy:
    occupancy = Occupancy()
    for number in range(active):
        occupancy.occupy(queued(f"backup#{number}", state=RunState.RUNNING))
    return occupancy


def claimed(decision: Decision, active: int) -> list[Run]:
    return claim_all(
        decision.job,
        decision.after,
        decision.until,
        occupancy=occupied(active),
        judged_at=decision.judged_at,
    )


def told(entries: list[Run]) -> list[str]:
    """Write entries down: `12:00 queued`, `12:00-12:05 skipped overlap`."""
    return [
        f"{run.slot:%H:%M}{f'-{run.until:%H:%M}' if run.until else ''} {run.state} {run.reason or ''}".strip()
        for run in entries
    ]


@given(decisions(), busy)
@properties
def test_every_due_slot_is_covered_by_exactly_one_entry(decision: Decision, active: int) -> None:
    entries = claimed(decision, active)
    assert set(covering(entries, decision.slots)) == {1}
    beside = [slot - SECOND for slot in decision.slots if slot - SECOND not in decision.slots]
    assert set(covering((entry for entry in entries if entry.until is None), beside)) <= {0}


@given(decisions(), busy)
@properties
def test_entries_rise_do_not_touch_and_have_ids_of_their_own(decision: Decision, active: int) -> None:
    entries = claimed(decision, active)
    assert all((earlier.until or earlier.slot) < later.slot for earlier, later in pairwise(entries))
    assert all(
        decision.after < entry.slot <= (entry.until or entry.slot) <= decision.until for entry in entries
    )
    assert [entry.id for entry in entries] == [f"backup@{entry.slot:%Y-%m-%dT%H:%M:%SZ}" for entry in entries]


@given(decisions(), st.lists(st.integers(0, 31), max_size=4), st.sampled_from(AROUND))
@properties
def test_however_a_range_is_cut_into_claims_the_same_slots_are_accounted_for(
    decision: Decision, cuts: list[int], away: timedelta
) -> None:
    planned, occupancy, entries, after = decision.job, Occupancy(), [], decision.after
    for until in [*cut(decision, cuts, away), decision.until]:
        new = claim_all(planned, after, until, occupancy=occupancy)
        enter(occupancy, new, planned)
        entries += new
        after = until
    assert set(covering(entries, decision.slots)) == {1}
    assert len({entry.id for entry in entries}) == len(entries)
    assert_bounded(occupancy, planned)


def assert_bounded(occupancy: Occupancy, planned: Job) -> None:
    overlap, places = planned.document.overlap, occupancy.places("backup")
    assert overlap.most_active is None or places.active <= overlap.most_active
    most_waiting = {OverlapPolicy.SKIP: 0, OverlapPolicy.REPLACE: 1}
    assert places.live <= most_waiting.get(overlap.policy, overlap.queue_limit)


def cut(decision: Decision, cuts: list[int], away: timedelta) -> list[datetime]:
    """Return instants at or beside some of the slots, ascending, within the range."""
    near = {decision.slots[index % len(decision.slots)] + away for index in cuts}
    return sorted(min(max(instant, decision.after), decision.until) for instant in near)


def enter(occupancy: Occupancy, entries: list[Run], planned: Job) -> None:
    for entry in entries:
        if replaces(planned.document, entry):
            for settle in reversed(replacement(entry, occupancy.unsettled(entry.job), NOON).settles):
                occupancy.settle(settle.run_id)
        if entry.state is RunState.QUEUED:
            occupancy.enter(entry, planned.document.overlap)


@given(decisions(), busy)
@properties
def test_adjacent_skips_with_one_reason_are_one_range(decision: Decision, active: int) -> None:
    pairs = pairwise(claimed(decision, active))
    assert all(
        one.reason != next_.reason for one, next_ in pairs if one.state is next_.state is RunState.SKIPPED
    )


@given(decisions(), busy)
@properties
def test_what_the_misfire_policy_wants_is_claimed_whole_under_queue_and_allow(
    decision: Decision, active: int
) -> None:
    first = decision.slots[0]
    judged = judge(
        decision.job,
        first=first,
        after=decision.after,
        until=decision.until,
        judged_at=decision.judged_at,
    )
    verdicts = decided(judged)
    wanted = [verdict.slot for verdict in verdicts if verdict.catch_up]
    late = [entry for entry in claimed(decision, active) if entry.catch_up]
    policy = decision.job.document.overlap.policy
    if policy is OverlapPolicy.SKIP:
        wanted = wanted[:1] if active == 0 else []
    if policy is OverlapPolicy.REPLACE and len(verdicts) > len(wanted) and not verdicts[-1].catch_up:
        wanted = []  # a live slot follows
    assert [entry.slot for entry in late] == wanted
    assert all(entry.state is RunState.QUEUED for entry in late)


TWO = {"policy": "allow", "max_running": 2}
OVERLAPS: list[tuple[Any, int, list[str]]] = [
    ("queue", 0, ["12:00 queued", "12:01 queued", "12:02-12:04 skipped overlap"]),
    ("queue", 1, ["12:00 queued", "12:01-12:04 skipped overlap"]),
    ("skip", 0, ["12:00 queued", "12:01-12:04 skipped overlap"]),
    ("skip", 1, ["12:00-12:04 skipped overlap"]),
    ("allow", 2, ["12:00 queued", "12:01 queued", "12:02 queued", "12:03 queued", "12:04 queued"]),
    ({"queue_limit": 2}, 1, ["12:00 queued", "12:01 queued", "12:02-12:04 skipped overlap"]),
    ({"queue_limit": 0}, 0, ["12:00 queued", "12:01-12:04 skipped overlap"]),
    (TWO, 1, ["12:00 queued", "12:01 queued", "12:02-12:04 skipped overlap"]),
    ({**TWO, "queue_limit": 0}, 1, ["12:00 queued", "12:01-12:04 skipped overlap"]),
    ("replace", 0, ["12:00-12:03 skipped overlap", "12:04 queued"]),
    ("replace", 1, ["12:00-12:03 skipped overlap", "12:04 queued"]),
]


@pytest.mark.parametrize(("overlap", "active", "said"), OVERLAPS)
def test_live_slots_are_claimed_as_the_overlap_policy_says(
    overlap: Any, active: int, said: list[str]
) -> None:
    planned = job(overlap=overlap, misfire={"grace": "1h"})
    assert told(claim_all(planned, at("11:59:30"), at("12:04:30"), occupancy=occupied(active))) == said


def test_a_live_slot_that_replaces_leaves_no_missed_one_to_be_caught_up() -> None:
    late = job(overlap="replace", misfire={"policy": "all", "grace": "90s"})
    assert told(claim_all(late, at("11:59:30"), at("12:04:10"), occupancy=occupied(1))) == [
        "12:00-12:03 skipped overlap",
        "12:04 queued",
    ]


def test_missed_slots_without_a_live_one_replace_nothing_and_wait() -> None:
    late = job(overlap="replace", misfire={"policy": "all", "limit": 2})
    entries = claim_all(late, at("11:59:30"), at("12:02"), judged_at=at("13:00"), occupancy=occupied(1))
    assert told(entries) == ["12:00 skipped misfire", "12:01 queued", "12:02 queued"]
    assert all(entry.catch_up and not replaces(late.document, entry) for entry in entries[1:])


def test_a_live_slot_finds_its_place_beside_a_catch_up_that_waits() -> None:
    planned = job(misfire={"policy": "all"})
    occupancy = Occupancy()
    enter(occupancy, claim_all(planned, at("11:00"), at("12:00:30"), occupancy=occupancy), planned)
    assert occupancy.places("backup").catch_up == 58
    assert told(claim_all(planned, at("12:00:30"), at("12:02"), occupancy=occupancy)) == [
        "12:01-12:02 skipped overlap"
    ]
    occupancy.settle("backup@2026-03-02T11:01:00Z")
    assert told(claim_all(planned, at("12:02"), at("12:03"), occupancy=occupancy)) == ["12:03 queued"]


def test_a_job_that_is_always_late_lets_no_more_than_one_slot_wait() -> None:
    planned = job(misfire={"grace": "0s"})
    occupancy, entries = Occupancy(), []
    for minute in range(10):
        slot = NOON + minute * MINUTE
        new = claim_all(planned, slot - SECOND, slot + timedelta(milliseconds=3), occupancy=occupancy)
        enter(occupancy, new, planned)
        entries += new
    assert [entry.state.value for entry in entries] == ["queued"] * 2 + ["skipped"] * 8
    assert [entry.reason for entry in entries[2:]] == ["overlap"] * 8


def test_misfires_and_overlaps_in_one_claim_are_ranges_of_their_own() -> None:
    planned = job(overlap="skip", misfire={"policy": "all", "limit": 2, "grace": "90s"})
    entries = claim_all(planned, at("11:59:30"), at("12:06:10"), occupancy=occupied(1))
    assert told(entries) == ["12:00-12:02 skipped misfire", "12:03-12:06 skipped overlap"]


def test_an_entry_says_which_term_claimed_it_when_and_for_which_version() -> None:
    planned = job(version=7)
    claiming = Claiming(epoch=42, until=at("12:00:00.007"), judged_at=at("12:00:00.009"))
    (entry,) = claim(Due(job=planned, first=NOON, after=NOON - SECOND), claiming, Occupancy())
    assert entry == Run(
        id="backup@2026-03-02T12:00:00Z",
        job="backup",
        version=7,
        slot=NOON,
        state=RunState.QUEUED,
        epoch=42,
        claimed_at=at("12:00:00.009"),
    )


def test_runs_whose_target_is_unavailable_say_so_and_skips_keep_their_reason() -> None:
    claiming = Claiming(epoch=1, until=at("12:03"), judged_at=at("12:03"))
    due = Due(job=job(misfire={"grace": "1h"}), first=NOON, after=NOON - SECOND)
    entries = claim(due, claiming, Occupancy(), unavailable="target_unavailable")
    assert told(decided(entries)) == [
        "12:00 queued target_unavailable",
        "12:01 queued target_unavailable",
        "12:02-12:03 skipped overlap",
    ]


def test_a_claim_counts_the_unsettled_runs_of_its_own_job_only() -> None:
    occupancy = Occupancy()
    occupancy.enter(queued("other@1", job="other"), Overlap(policy=OverlapPolicy.SKIP))
    assert told(claim_all(job(overlap="skip"), at("11:59:30"), NOON, occupancy=occupancy)) == ["12:00 queued"]


def test_a_pause_covers_every_slot_from_its_first_until_it_is_closed() -> None:
    entry = pause_entry(job(version=3), NOON, epoch=1, at=at("11:59:30"))
    assert entry.id == "backup@2026-03-02T12:00:00Z..3"
    assert (entry.state, entry.reason, entry.open_ended) == (RunState.SKIPPED, "paused", True)
    slots = [NOON - MINUTE, NOON, NOON + MINUTE, NOON + timedelta(days=900)]
    assert list(covering([entry], slots)) == [0, 1, 1, 1]


def test_two_pauses_before_the_same_slot_are_two_entries() -> None:
    first, second = (pause_entry(job(version=number), NOON, epoch=1, at=NOON) for number in (1, 2))
    assert first.id != second.id
