"""Runs: the table of moves against the diagram in the module's docstring, and what an entry covers."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sample_jobs import MINUTE, NOON, SECOND, queued

from cronexec.domain.run import (
    ALLOWED_MOVES,
    OUTCOMES,
    UNSETTLED,
    AttemptRecord,
    Cause,
    Executor,
    Outcome,
    Output,
    RunState,
    slot_run_id,
    slot_text,
    sources_of,
    trigger_run_id,
)

TOKEN = "t1"  # noqa: S105  of a start
ANNA = Executor(id="i-anna", name="anna", datacenter="east")
DIAGRAM = {
    "queued": "running cancelled failed",
    "running": "queued succeeded failed timed_out cancelled abandoned",
    "abandoned": "queued succeeded failed timed_out cancelled",
    "failed": "queued",
    "timed_out": "queued",
    "cancelled": "queued",
}


def test_the_table_allows_exactly_the_moves_of_the_diagram() -> None:
    allowed = {(source.value, to.value) for source, moves in ALLOWED_MOVES.items() for to in moves}
    drawn = {(source, to) for source, moves in DIAGRAM.items() for to in moves.split()}
    assert allowed == drawn


def test_the_table_has_a_line_for_every_state() -> None:
    assert set(ALLOWED_MOVES) == set(RunState)


SOURCES = [
    (
        RunState.QUEUED,
        (
            RunState.RUNNING,
            RunState.FAILED,
            RunState.TIMED_OUT,
            RunState.CANCELLED,
            RunState.ABANDONED,
        ),
    ),
    (RunState.RUNNING, (RunState.QUEUED,)),
    (RunState.SUCCEEDED, (RunState.RUNNING, RunState.ABANDONED)),
    (RunState.FAILED, (RunState.QUEUED, RunState.RUNNING, RunState.ABANDONED)),
    (RunState.TIMED_OUT, (RunState.RUNNING, RunState.ABANDONED)),
    (RunState.CANCELLED, (RunState.QUEUED, RunState.RUNNING, RunState.ABANDONED)),
    (RunState.ABANDONED, (RunState.RUNNING,)),
    (RunState.SKIPPED, ()),
]


@pytest.mark.parametrize(("state", "sources"), SOURCES)
def test_the_sources_of_a_state_are_those_that_may_move_to_it(
    state: RunState, sources: tuple[RunState, ...]
) -> None:
    assert sources_of(state) == sources


def test_every_state_is_unsettled_an_outcome_or_a_skip() -> None:
    assert {*UNSETTLED, *OUTCOMES, RunState.SKIPPED} == set(RunState)
    assert {state for state in RunState if not state.is_final} == UNSETTLED
    assert not UNSETTLED & OUTCOMES


def test_a_settled_run_is_only_tried_again_but_for_a_late_outcome_of_an_abandoned_one() -> None:
    moving = {state for state in RunState if state.is_final and ALLOWED_MOVES[state] - {RunState.QUEUED}}
    assert moving == {RunState.ABANDONED}


def test_what_succeeded_or_was_skipped_is_never_tried_again() -> None:
    assert not ALLOWED_MOVES[RunState.SUCCEEDED] | ALLOWED_MOVES[RunState.SKIPPED]


def test_a_run_that_is_queued_again_keeps_its_former_attempt() -> None:
    failed = Outcome(state=RunState.FAILED, exit_code=3)
    run = replace(queued("backup@12:00"), state=RunState.RUNNING, token=TOKEN, executor=ANNA, started_at=NOON)
    again = run.queued_again(failed, ended_at=NOON + MINUTE, not_before=NOON + 2 * MINUTE, reason="retry")
    assert (again.state, again.attempt, again.not_before) == (RunState.QUEUED, 2, NOON + 2 * MINUTE)
    assert (again.token, again.executor, again.started_at, again.outcome) == (None, None, None, None)
    former = AttemptRecord(
        attempt=1, outcome=failed, started_at=NOON, finished_at=NOON + MINUTE, executor=ANNA, token=TOKEN
    )
    assert again.attempts == (former,)


def test_the_lateness_of_a_run_is_that_of_its_first_attempt() -> None:
    run = replace(queued("backup@12:00"), state=RunState.RUNNING, started_at=NOON + MINUTE)
    again = run.queued_again(
        Outcome(state=RunState.FAILED), ended_at=NOON + 2 * MINUTE, not_before=None, reason="retry"
    )
    assert replace(again, started_at=NOON + 5 * MINUTE).lateness_s == run.lateness_s == 60


COVERED = [
    ({}, [False, True, False, False]),
    ({"until": NOON + MINUTE}, [False, True, True, False]),
    ({"open_ended": True}, [False, True, True, True]),
    ({"cause": Cause.TRIGGER}, [False, False, False, False]),
]


@pytest.mark.parametrize(("fields", "covered"), COVERED)
def test_an_entry_covers_its_slot_or_its_range_and_a_trigger_covers_none(
    fields: dict[str, object], covered: list[bool]
) -> None:
    entry = queued("backup@12:00", **fields)
    slots = [NOON - SECOND, NOON, NOON + MINUTE, NOON + 2 * MINUTE]
    assert [entry.covers(slot) for slot in slots] == covered


def test_identity_is_derived_from_the_job_and_the_slot_or_the_key() -> None:
    assert slot_text(NOON) == "2026-03-02T12:00:00Z"
    assert slot_run_id("backup", NOON) == "backup@2026-03-02T12:00:00Z"
    assert trigger_run_id("backup", "monday") == "backup#monday"


def test_lateness_counts_from_the_slot_and_duration_from_the_start() -> None:
    started_at = NOON + timedelta(milliseconds=250)
    waiting = queued("backup@12:00")
    running = queued("backup@12:00", started_at=started_at)
    ended = queued("backup@12:00", started_at=started_at, finished_at=started_at + MINUTE)
    assert [(run.lateness_s, run.duration_s) for run in (waiting, running, ended)] == [
        (None, None),
        (0.25, None),
        (0.25, 60.0),
    ]


def test_output_says_how_much_of_it_was_not_kept() -> None:
    assert Output(head="all of it").text == "all of it"
    assert Output(head="begin", tail="end", dropped=7).text == "begin\n… 7 bytes not kept …\nend"
