"""Runs that the holder cannot execute: they wait where everybody sees them, and fail in the end."""

import asyncio

import pytest
from bench import Bench, document, pass_time, slot_id, until

from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time

TEN = slot_id("backup", 10)
TWENTY = slot_id("backup", 20)


async def test_a_run_that_the_holder_cannot_execute_waits_and_says_why(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.absent.add("backup")
    await bench.put(document("backup"))
    run = await bench.reaches(TEN, RunState.QUEUED)
    assert run.reason == "target_unavailable"
    await pass_time(30)
    assert bench.state(TEN) is RunState.QUEUED
    assert len(anna.said("job.target_unavailable")) == 1
    assert bench.begun() == []


async def test_it_starts_when_a_holder_that_can_takes_over(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    anna.targets.absent.add("backup")
    await bench.put(document("backup"))
    await bench.reaches(TEN, RunState.QUEUED)
    await pass_time(1)
    anna.end_term()  # before it would have yielded
    await bert.holding()
    run = await bench.reaches(TEN, RunState.SUCCEEDED)
    assert run.reason is None
    assert run.executor is not None
    assert run.executor.name == "bert"
    await bench.verified()


async def test_it_fails_after_the_grace_of_its_job_and_the_next_one_waits_in_its_place(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.absent.add("backup")
    await bench.put(document("backup", misfire={"grace": "25s"}))
    run = await bench.reaches(TEN, RunState.FAILED, within=40)
    assert run.outcome is not None
    assert run.outcome.reason == "target_unavailable"
    assert "not registered" in str(run.outcome.error)
    assert run.finished_at is not None
    assert 25 <= (run.finished_at - run.slot).total_seconds() <= 27
    assert bench.state(TWENTY) is RunState.QUEUED
    assert anna.said("run.target_unavailable")
    await bench.reaches(TWENTY, RunState.FAILED)
    assert bench.begun() == []
    await bench.verified()


async def test_a_triggered_run_that_the_holder_cannot_execute_says_so_too(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.absent.add("backup")
    await bench.put(document("backup", {"every": "1h"}, misfire={"grace": "20s"}))
    assert (await bench.request("job.trigger", name="backup", key="k"))["ok"]
    await until(lambda: bench.run("backup#k").reason == "target_unavailable", lambda: bench.run("backup#k"))
    assert bench.state("backup#k") is RunState.QUEUED
    await bench.reaches("backup#k", RunState.FAILED, within=25)


async def test_adopted_runs_say_why_they_wait_under_the_holder_that_they_wait_for(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    bert.targets.absent.add("backup")
    await bench.put(document("backup", misfire={"grace": "5m"}))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    assert (await bench.reaches(TWENTY, RunState.QUEUED)).reason is None
    anna.end_term()
    await bert.holding()
    await until(lambda: bench.run(TWENTY).reason == "target_unavailable", lambda: bench.run(TWENTY))
    await pass_time(1)  # for anna to stand by again
    bert.end_term()
    await anna.holding()
    await until(lambda: bench.run(TWENTY).reason is None, lambda: bench.run(TWENTY))
    assert bench.state(TWENTY) is RunState.QUEUED


async def test_it_can_be_cancelled_while_it_waits(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.absent.add("backup")
    await bench.put(document("backup"))
    await bench.reaches(TEN, RunState.QUEUED)
    assert (await bench.request("run.cancel", run=TEN))["ok"]
    await pass_time(100)
    assert bench.state(TEN) is RunState.CANCELLED


async def test_it_holds_no_other_job_up(bench: Bench) -> None:
    anna = await bench.holder("anna", max_running_handlers=1)
    anna.targets.absent.add("backup")
    await bench.put(document("backup"), document("other"))
    await bench.reaches(slot_id("other", 10), RunState.SUCCEEDED)
    await bench.reaches(slot_id("other", 20), RunState.SUCCEEDED)
    assert bench.state(TEN) is RunState.QUEUED


async def test_it_starts_here_when_its_handler_has_been_registered(bench: Bench) -> None:
    anna = await bench.holder("anna")
    anna.targets.absent.add("backup")
    await bench.put(document("backup"))
    await bench.reaches(TEN, RunState.QUEUED)
    await pass_time(5)
    anna.targets.absent.clear()
    run = await bench.reaches(TEN, RunState.SUCCEEDED, within=3)
    assert run.reason is None


async def test_a_run_that_waited_long_for_its_turn_gets_its_grace_when_it_is_its_turn(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    bert.targets.absent.add("backup")
    await bench.put(document("backup", misfire={"grace": "30s"}))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    await bench.reaches(TWENTY, RunState.QUEUED)
    stopping = asyncio.create_task(anna.stop(grace=300))
    await bert.holding()
    await pass_time(100)
    anna.targets.end(TEN)
    await stopping
    await pass_time(20)
    assert bench.state(TWENTY) is RunState.QUEUED
    await bench.reaches(TWENTY, RunState.FAILED, within=15)
