"""Replacement: what a newer run does to the others of its job, and what is said of them."""

import pytest
from sample_jobs import NOON, document, queued

from cronexec.domain.replacement import Replacement, cancellation, replacement, replaces
from cronexec.domain.run import Cause, Run, RunState

REPLACES = document(overlap="replace")
NEWER = queued("backup@2026-03-02T12:00:00Z")


def test_what_waits_is_cancelled_and_what_runs_is_asked_to_end() -> None:
    running, waits = queued("backup#1", state=RunState.RUNNING), queued("backup#2", attempt=2)
    found = replacement(NEWER, [running, waits, NEWER], NOON)
    (settle,) = found.settles
    assert (settle.run_id, settle.attempt, settle.expected, settle.at) == (
        "backup#2",
        2,
        RunState.QUEUED,
        NOON,
    )
    assert settle.outcome == cancellation(found.cancels["backup#2"])  # for the case that it starts meanwhile
    assert set(found.cancels) == {"backup#1", "backup#2"}
    assert {cancellation(mark).reason for mark in found.cancels.values()} == {f"replaced by {NEWER.id}"}


def test_a_run_that_a_person_has_to_decide_on_is_left_to_that_person() -> None:
    undecided = queued("backup#1", state=RunState.ABANDONED, undecided=True)
    assert dict(replacement(NEWER, [undecided], NOON).cancels) == {}


def test_a_backfill_is_left_alone() -> None:
    backfill = queued("backup#backfill:2026-03-01T12:00:00Z", cause=Cause.BACKFILL, catch_up=True)
    assert replacement(NEWER, [backfill], NOON) == Replacement(settles=(), cancels={})


def test_a_mark_with_a_name_is_a_cancellation_by_that_person() -> None:
    assert cancellation("ann").reason == "cancelled by ann"


OTHERS = [
    ("queue", NEWER),
    ({"policy": "allow", "max_running": 1}, NEWER),
    ("replace", queued("backup@2026-03-02T11:00:00Z", catch_up=True)),
    ("replace", queued("backup@2026-03-02T11:00:00Z", state=RunState.SKIPPED)),
]


@pytest.mark.parametrize(("overlap", "run"), OTHERS)
def test_other_policies_missed_slots_and_skips_replace_nothing(overlap: object, run: Run) -> None:
    assert not replaces(document(overlap=overlap), run)
    assert replaces(REPLACES, NEWER)
