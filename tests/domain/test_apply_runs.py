"""Applying commands: triggered and cancelled runs, and what a command must know."""

from typing import Any

import pytest
from sample_jobs import MINUTE, NOON, SECOND, at, claim_all, job, queued
from sample_namespace import NOW, PAUSED, Namespace, instant, put, refusal, result

from cronexec.domain.command import (
    CancelRun,
    Command,
    DeleteJob,
    PauseJob,
    ReleaseBaton,
    ResumeJob,
    TriggerJob,
)
from cronexec.domain.run import Cause, Run, RunState
from cronexec.domain.situation import Effects, named_runs


def test_a_trigger_makes_a_run_of_the_jobs_version_now() -> None:
    effects = Namespace(job(version=6)).apply(TriggerJob(id="t1", name="backup", issued_by="ann"))
    (run,) = effects.entries
    assert run == Run(
        id="backup#t1",
        job="backup",
        version=6,
        slot=NOON,
        state=RunState.QUEUED,
        epoch=9,
        cause=Cause.TRIGGER,
        claimed_at=NOW,
        issued_by="ann",
    )
    assert result(effects) == {"run": "backup#t1", "state": "queued", "created": True}


def test_the_params_of_a_trigger_replace_those_of_the_document_key_by_key() -> None:
    namespace = Namespace(job(params={"league": 7, "dry": False}))
    (run,) = namespace.apply(TriggerJob(id="t1", name="backup", params={"dry": True})).entries
    assert run.params == {"league": 7, "dry": True}


@pytest.mark.parametrize("state", list(RunState))
def test_a_trigger_with_a_known_key_is_answered_with_the_run_there_is(state: RunState) -> None:
    namespace = Namespace(job(), runs=[queued("backup#monday", state=state)])
    effects = namespace.apply(TriggerJob(id="t2", name="backup", key="monday"))
    assert effects == Effects(reply=effects.reply)
    assert result(effects) == {"run": "backup#monday", "state": state.value, "created": False}


def test_two_triggers_with_one_key_in_one_write_make_one_run() -> None:
    namespace = Namespace(job(overlap="skip"))
    first = namespace.apply(TriggerJob(id="t1", name="backup", key="monday"))
    second = namespace.apply(TriggerJob(id="t2", name="backup", key="monday"))
    assert [len(first.entries), len(second.entries)] == [1, 0]
    assert result(second) == {"run": "backup#monday", "state": "queued", "created": False}


FIRST_PARAMS: list[tuple[dict[str, Any] | None, dict[str, Any], bool]] = [
    ({"league": 8}, {"league": 8}, True),
    ({"league": 8}, {"league": 8.0}, True),
    ({"league": 8}, {"league": 8, "dry": False}, True),
    ({"league": 8, "dry": True}, {"league": 8}, False),
    ({"league": 8}, {"league": 9}, False),
    ({"league": 1}, {"league": True}, False),
    ({"league": 8}, {}, False),
    (None, {"league": 7}, True),
    (None, {"league": 8}, False),
]


@pytest.mark.parametrize(("first", "second", "same"), FIRST_PARAMS)
def test_a_known_key_with_other_params_is_refused(
    first: dict[str, Any] | None, second: dict[str, Any], *, same: bool
) -> None:
    namespace = Namespace(job(params={"league": 7, "dry": False}))
    (run,) = namespace.apply(TriggerJob(id="t1", name="backup", key="monday", params=first)).entries
    effects = namespace.apply(TriggerJob(id="t2", name="backup", key="monday", params=second))
    if same:
        assert result(effects) == {"run": run.id, "state": "queued", "created": False}
    else:
        assert refusal(effects) == ("conflict", "key")
        assert "the key monday is that of the run backup#monday" in effects.reply["error"]["message"]
    without = namespace.apply(TriggerJob(id="t3", name="backup", key="monday"))
    assert result(without) == {"run": run.id, "state": "queued", "created": False}


SENT_AGAIN: list[tuple[dict[str, Any], bool]] = [
    ({"league": 8, "options": {"to": ["a"]}}, True),
    ({"league": 8, "options": {"to": ["b"]}}, False),
    ({"league": 9}, False),
    ({"other": 8}, False),
]


@pytest.mark.parametrize(("second", "same"), SENT_AGAIN)
def test_a_trigger_that_is_sent_again_after_a_change_of_its_job_is_known(
    second: dict[str, Any], *, same: bool
) -> None:
    params = {"league": 8, "options": {"to": ["a"], "filled": "in"}, "of": "the document"}
    there = queued("backup#monday", cause=Cause.TRIGGER, params=params)
    strict = {"properties": {"day": {"type": "string"}}}
    namespace = Namespace(job(version=2, params_schema=strict), runs=[there])
    effects = namespace.apply(TriggerJob(id="t2", name="backup", key="monday", params=second))
    assert effects.reply["ok"] is same


def test_a_job_that_skips_overlaps_is_triggered_once_in_one_write() -> None:
    namespace = Namespace(job(overlap="skip"))
    assert len(namespace.apply(TriggerJob(id="t1", name="backup")).entries) == 1
    assert refusal(namespace.apply(TriggerJob(id="t2", name="backup"))) == ("conflict", "name")


def test_a_job_that_skips_overlaps_is_not_triggered_beside_a_slot_of_the_same_write() -> None:
    skips = job(overlap="skip")
    namespace = Namespace(skips, claimed=claim_all(skips, at("11:59:30"), NOW))
    assert refusal(namespace.apply(TriggerJob(id="t1", name="backup"))) == ("conflict", "name")


def test_a_skip_in_the_same_write_keeps_no_trigger_from_running() -> None:
    skips = job(overlap="skip", misfire={"policy": "skip"})
    missed = claim_all(skips, at("11:50"), at("11:51"), judged_at=NOW)
    assert [entry.state for entry in missed] == [RunState.SKIPPED]
    assert len(Namespace(skips, claimed=missed).apply(TriggerJob(id="t1", name="backup")).entries) == 1


def test_a_job_that_queues_is_triggered_while_it_runs() -> None:
    namespace = Namespace(job(), unsettled=[queued("backup#1"), queued("backup#2")])
    assert len(namespace.apply(TriggerJob(id="t1", name="backup")).entries) == 1


def test_a_paused_job_may_be_triggered() -> None:
    assert result(Namespace(PAUSED).apply(TriggerJob(id="t1", name="backup")))["created"] is True


def test_a_queued_run_is_cancelled_in_the_ledger() -> None:
    run = queued("backup#1", attempt=2)
    effects = Namespace(job(), runs=[run]).apply(CancelRun(id="c", run="backup#1", issued_by="ann"))
    (settle,) = effects.settles
    assert (settle.run_id, settle.attempt, settle.expected, settle.at) == (
        "backup#1",
        2,
        RunState.QUEUED,
        NOW,
    )
    assert (settle.outcome.state, settle.outcome.reason) == (RunState.CANCELLED, "cancelled by ann")
    assert result(effects)["state"] == "cancelled"
    assert effects.cancels == {"backup#1": "ann"}  # for the case that it starts meanwhile


def test_a_running_run_is_asked_to_end_wherever_it_is() -> None:
    run = queued("backup#1", state=RunState.RUNNING)
    effects = Namespace(job(), runs=[run]).apply(CancelRun(id="c", run="backup#1"))
    assert (dict(effects.cancels), effects.settles) == ({"backup#1": "somebody"}, ())
    assert result(effects) == {"run": "backup#1", "state": "cancel_requested"}


def test_a_run_triggered_in_the_same_write_can_be_cancelled() -> None:
    namespace = Namespace(job())
    namespace.apply(TriggerJob(id="t1", name="backup"))
    (settle,) = namespace.apply(CancelRun(id="c", run="backup#t1")).settles
    assert (settle.run_id, settle.attempt) == ("backup#t1", 1)


def test_a_release_is_answered_with_the_epoch_that_ends() -> None:
    effects = Namespace().apply(ReleaseBaton(id="c"))
    assert effects == Effects(reply=effects.reply, release=True)
    assert result(effects) == {"epoch": 9}


NAMED = [
    (put(), ()),
    (put(instant("11:00:00")), ("backup@2026-03-02T11:00:00Z",)),
    (put(instant("23:00:00")), ("backup@2026-03-02T23:00:00Z",)),
    (DeleteJob(id="c", name="backup"), ()),
    (PauseJob(id="c", name="backup"), ()),
    (ResumeJob(id="c", name="backup"), ()),
    (TriggerJob(id="c", name="backup"), ("backup#c",)),
    (TriggerJob(id="c", name="backup", key="monday"), ("backup#monday",)),
    (CancelRun(id="c", run="backup#1"), ("backup#1",)),
    (ReleaseBaton(id="c"), ()),
]


@pytest.mark.parametrize(("command", "run_ids"), NAMED)
def test_a_command_names_the_entries_that_it_must_know(command: Command, run_ids: tuple[str, ...]) -> None:
    assert named_runs(command) == run_ids


def test_the_slot_of_a_trigger_is_the_whole_second_it_was_applied_in() -> None:
    (run,) = Namespace(job(), now=NOON + SECOND * 59.75).apply(TriggerJob(id="t", name="backup")).entries
    assert run.slot == NOON + MINUTE - SECOND
