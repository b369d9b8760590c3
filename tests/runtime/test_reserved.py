"""Runs that start with their claim: one write, and what becomes of them when it goes wrong."""

import asyncio
from collections.abc import Callable

import pytest
from bench import Bench, document, pass_time, slot_id, until, vanish
from faults import Fault, away, claims, fails, loses_answer, unclear
from virtual_time import freeze

from cronexec.domain.run import RunState

pytestmark = pytest.mark.virtual_time

TEN = slot_id("backup", 10)
TWENTY = slot_id("backup", 20)


async def test_a_run_that_can_begin_at_once_starts_with_its_claim_in_one_write(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    run = await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert anna.faults.calls["runs.start"] == 0
    assert run.executor == anna.context.executor
    assert run.token


async def test_runs_beyond_the_places_are_queued(bench: Bench) -> None:
    anna = await bench.holder(max_running_handlers=2)
    jobs = [f"job-{number}" for number in range(5)]
    anna.targets.held |= set(jobs)
    await bench.put(*(document(name) for name in jobs))
    await bench.reaches(slot_id("job-4", 10), RunState.QUEUED)
    states = [bench.state(slot_id(name, 10)) for name in jobs]
    assert states == [RunState.RUNNING] * 2 + [RunState.QUEUED] * 3


async def test_a_run_waits_for_the_one_before_it_under_overlap_queue(bench: Bench) -> None:
    anna = await bench.holder()
    anna.targets.held.add("backup")
    await bench.put(document("backup"))
    await anna.targets.began(TEN)
    await bench.reaches(TWENTY, RunState.QUEUED)
    anna.targets.end(TEN)
    await anna.targets.began(TWENTY)
    anna.targets.end(TWENTY)
    await bench.verified()


async def test_a_pause_in_the_write_of_the_claim_cancels_the_run(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    await pass_time(8)
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    bench.send("job.pause", name="backup")
    await pass_time(2.5)
    held.release()
    await bench.reaches(TEN, RunState.CANCELLED)
    await pass_time(15)
    assert bench.begun() == []
    await bench.verified()


async def test_a_trigger_starts_with_its_command(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", {"at": "2030-01-01T00:00:00Z"}))
    reply = await bench.request("job.trigger", name="backup", key="now")
    assert reply["ok"], reply
    await bench.reaches("backup#now", RunState.SUCCEEDED)
    assert anna.faults.calls["runs.start"] == 0


async def test_a_claim_answered_after_the_end_of_the_lease_is_given_back_and_runs_once(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bench.start("bert")
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    assert bench.state(TEN) is RunState.RUNNING
    freeze(11)
    held.release()
    await until(lambda: anna.said("run.given_back"), lambda: anna.events)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert bench.begun("backup").count(TEN) == 1
    await bench.verified()


@pytest.mark.parametrize("fault", [loses_answer, fails], ids=["applied", "not applied"])
async def test_a_claim_that_stays_unclear_until_the_term_is_over_loses_and_doubles_nothing(
    bench: Bench, fault: Callable[[Exception], Fault]
) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))
    anna.faults.where("terms.commit", claims, fault(unclear()))
    anna.faults.always("terms.read", fails(away()))
    await pass_time(10.1)
    anna.end_term()
    await bert.holding()
    anna.faults.always("terms.read", None)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert bench.begun("backup").count(TEN) == 1
    await bench.verified()


async def test_a_claim_whose_writer_is_stopped_is_given_back_once_it_is_settled(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bert = bench.start("bert")
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    stopping = asyncio.create_task(anna.stop())
    await bert.holding()
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert [line.instance for line in bench.evidence if line.run == TEN] == ["bert"]
    assert await stopping
    await bench.verified()


async def test_a_refused_claim_keeps_no_place(bench: Bench) -> None:
    anna = await bench.holder(max_running_handlers=1)
    await bench.put(document("backup"))
    bench.seed_run("backup", 10, state=RunState.SUCCEEDED)
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert anna.said("run.already_claimed")
    assert bench.begun() == [TWENTY]
    assert anna.instance.dispatcher.starting_or_running() == set()


async def test_a_holder_that_dies_before_the_targets_begin_leaves_abandoned_runs(bench: Bench) -> None:
    anna = await bench.holder("anna")
    bench.start("bert")
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    vanish(anna)
    run = await bench.reaches(TEN, RunState.ABANDONED, within=120)
    assert run.outcome is not None
    assert run.outcome.reason == "instance_lost"
    assert TEN not in bench.begun()
    await bench.verified()
