"""A history in which nothing is wrong is found to be so, and its figures are right."""

import pytest
from checker import check
from checker_history import Disturbance
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_history import LASTS, START, make


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1_000_000))
def test_a_correct_history_is_clean(seed: int) -> None:
    report = check(make(seed).history)
    assert report.ok, {kind: found[:3] for kind, found in report.first.items()}


@pytest.mark.parametrize("seed", range(5))
def test_every_due_slot_is_a_run_or_a_skip(seed: int) -> None:
    report = check(make(seed).history)
    assert report.due > LASTS
    assert report.due == sum(report.runs.values()) + sum(report.skips.values())


def test_runs_cut_short_by_a_kill_are_told_apart_by_how_far_they_came() -> None:
    kinds = set()
    for seed in range(60):
        sample = make(seed)
        report = check(sample.history)
        assert sum(report.abandoned.values()) == report.runs["abandoned"] + report.triggered["abandoned"]
        assert sum(report.abandoned.values()) <= report.running_at_kills
        kinds |= set(report.abandoned)
    assert kinds == {"before its work began", "within its work"}


def test_commands_are_counted_by_what_became_of_them() -> None:
    sample = make(3)
    report = check(sample.history)
    assert report.commands["sent"] == report.commands["applied"] == len(sample.history.commands)


def test_lateness_is_counted_from_the_slot() -> None:
    sample = make(4)
    entry = next(entry for entry in sample.ran() if entry.slot > START + 120)
    work = sample.work_of(entry)
    work.began_at = work.ended_at = entry.slot + 12.0
    report = check(sample.history)
    assert report.ok
    assert report.late["> 10 s"] - check(make(4).history).late["> 10 s"] == 1


def test_a_run_may_fail_whose_instance_stood_still_in_the_middle_of_it() -> None:
    sample = make(5)
    entry = sample.ran()[0]
    sample.history.work.remove(sample.work_of(entry))
    entry.state = "failed"
    assert {"failed", "without_evidence"} <= set(check(sample.history).counts)
    since, until = entry.started_at or 0.0, entry.finished_at or 0.0
    frozen = Disturbance(99, "SIGSTOP", entry.executor or "", since, until)
    sample.history.disturbances.append(frozen)
    assert check(sample.history).ok
