"""A history in which nothing is wrong is found to be so, and its figures are right."""

from dataclasses import replace

import pytest
from checker import check
from checker_history import Former
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_runs import cancel, cut_short, documents_of, retry
from sample_history import LASTS, START, make, send


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
        counted = (report.runs, report.triggered, report.backfilled)
        assert sum(report.abandoned.values()) == sum(states["abandoned"] for states in counted)
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
    entry.finished_at = work.ended_at + 0.1
    report = check(sample.history)
    assert report.ok
    assert report.late["> 10 s"] - check(make(4).history).late["> 10 s"] == 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1_000_000))
def test_a_webhook_may_fail_whose_instance_stood_still_while_it_connected(seed: int) -> None:
    sample = make(seed)
    cut_short(sample)
    report = check(sample.history)
    assert report.ok, report.first


def test_a_run_may_be_replaced_by_one_that_somebody_has_tried_again_since() -> None:
    sample = make(4)
    entry = next(entry for entry in sample.ran() if entry.executor != sample.killed)
    for document in documents_of(sample, entry.job):
        document["overlap"] = "replace"
    at = entry.finished_at or 0.0
    send(sample, {"type": "job.trigger", "name": entry.job, "key": "k"}, at, {"name": entry.job})
    newer = replace(entry, id=f"{entry.job}#k", cause="trigger", slot=int(at), attempt=2, claimed_at=at + 5)
    newer.started_at, newer.finished_at = at + 5.1, at + 5.3
    newer.former = [Former(1, "cancelled", entry.executor, at + 3, at + 4, "cancelled by a1")]
    sample.history.commands[-1].reply["result"]["run"] = newer.id  # type: ignore[index]
    cancel(sample, newer, at + 3.5)
    retry(sample, newer, at + 5)
    work = sample.work_of(entry)
    sample.history.work.append(
        replace(work, run=newer.id, slot=newer.slot, attempt=2, began_at=at + 5.2, ended_at=at + 5.2)
    )
    sample.history.entries.append(newer)
    assert check(sample.history).ok
    entry.state, entry.reason = "cancelled", f"replaced by {newer.id}"
    report = check(sample.history)
    assert report.ok, report.first
