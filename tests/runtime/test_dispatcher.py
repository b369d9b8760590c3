"""The dispatcher: a run starts once, when it may, where there is a place, and is given back otherwise."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from bench import SUCCEEDED, Bench, Member, document, pass_time, slot_id, until
from faults import Fault, away, fails, loses_answer
from virtual_time import freeze

from cronexec.domain.run import Outcome, Run, RunState
from cronexec.ports import Execution
from cronexec.runtime.attempt import Attempt
from cronexec.targets.output import BoundedOutput

pytestmark = pytest.mark.virtual_time

TEN = slot_id("backup", 10)
TWENTY = slot_id("backup", 20)


async def backing_up(bench: Bench, **fields: Any) -> Member:
    anna = await bench.holder("anna")
    anna.starts_apart()
    await bench.put(document("backup", **fields))
    return anna


# Between the start's commit and the target.


async def test_no_target_begins_before_its_start_is_committed(bench: Bench) -> None:
    anna = await backing_up(bench)
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    await pass_time(5)
    assert bench.begun() == []
    held.release()
    await bench.reaches(TEN, RunState.SUCCEEDED)


async def test_a_start_that_is_answered_after_the_end_of_the_term_is_given_back(bench: Bench) -> None:
    anna = await backing_up(bench)
    bert = bench.start("bert")
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    assert bench.state(TEN) is RunState.RUNNING
    anna.end_term()
    await bert.holding()
    held.release()
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert [line.instance for line in bench.evidence if line.run == TEN] == ["bert"]
    assert anna.said("run.given_back")


async def test_a_start_that_is_answered_after_the_end_of_the_lease_is_given_back(bench: Bench) -> None:
    anna = await backing_up(bench)
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    freeze(10.5)
    held.release()
    await until(lambda: anna.said("run.given_back"), lambda: anna.events)
    assert bench.begun() == []
    await bench.reaches(TEN, RunState.SUCCEEDED)  # in the next term
    assert bench.begun("backup").count(TEN) == 1


async def test_of_a_group_no_further_run_begins_once_the_term_is_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await bench.holder("anna")
    await bench.put(*(document(f"job-{number}") for number in range(20)))
    outputs: list[BoundedOutput] = []

    def new_output() -> BoundedOutput:
        outputs.append(BoundedOutput())
        if len(outputs) == 5:
            anna.end_term()
        return outputs[-1]

    monkeypatch.setattr(anna.targets, "new_output", new_output)  # asked as each attempt begins
    await until(lambda: anna.said("run.given_back"), lambda: anna.events[-3:])
    assert len(bench.evidence) == 5
    assert anna.said("run.given_back")[0]["runs"] == 15
    await pass_time(5)
    assert len(bench.evidence) == 20
    await bench.verified()


async def test_runs_are_given_back_until_the_database_has_them(bench: Bench) -> None:
    anna = await backing_up(bench)
    held = anna.faults.hold("runs.start", done_first=True)
    await held.arrived()
    anna.faults.next("runs.give_back", *[fails(away())] * 4, loses_answer(away()))
    anna.end_term()
    held.release()
    await until(lambda: anna.faults.calls["runs.give_back"] == 6, lambda: anna.faults.calls)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert bench.begun("backup").count(TEN) == 1
    await bench.verified()


# Answers that are lost.


@pytest.mark.parametrize("fault", [loses_answer(away()), fails(away())], ids=["started", "not started"])
async def test_a_start_whose_answer_is_lost_starts_once(bench: Bench, fault: Fault) -> None:
    anna = await backing_up(bench)
    anna.faults.next("runs.start", fault, fault)
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert bench.begun() == [TEN]
    assert len(anna.said("run.start_unclear")) == 2


async def test_a_start_that_stays_unclear_until_the_term_is_over_is_given_back(bench: Bench) -> None:
    anna = await backing_up(bench)
    bert = bench.start("bert")
    anna.faults.always("runs.start", loses_answer(away()))
    await bench.reaches(TEN, RunState.RUNNING)
    anna.end_term()
    await bert.holding()
    await bench.reaches(TEN, RunState.SUCCEEDED)
    assert [line.instance for line in bench.evidence if line.run == TEN] == ["bert"]


async def test_what_the_ledger_refuses_to_start_does_not_start_and_keeps_no_place(bench: Bench) -> None:
    anna = await bench.holder("anna", max_running_handlers=1)
    anna.starts_apart()
    await bench.put(document("backup"))
    held = anna.faults.hold("runs.start")
    await held.arrived()
    bench.database.runs[TEN] = ended(bench.run(TEN))
    held.release()
    await bench.reaches(TWENTY, RunState.SUCCEEDED)
    assert bench.begun() == [TWENTY]
    assert anna.said("run.start_refused")


def ended(run: Run) -> Run:
    return Run(id=run.id, job=run.job, version=1, slot=run.slot, state=RunState.CANCELLED, epoch=run.epoch)


async def test_a_run_given_back_by_a_former_term_does_not_disturb_the_next_of_this_instance(
    bench: Bench,
) -> None:
    anna = await backing_up(bench)
    anna.targets.held.add("backup")
    held = anna.faults.hold("runs.start")  # not arrived when the next term adopts the run
    await held.arrived()
    await bench.reaches(TEN, RunState.QUEUED)
    anna.end_term()
    second = anna.faults.hold("runs.start")
    await second.arrived()
    assert anna.term == 2
    await bench.reaches(TWENTY, RunState.QUEUED)
    held.release()  # refused: it names the former epoch
    await pass_time(3)
    second.release()
    await anna.targets.began(TEN)
    await pass_time(3)
    assert list(anna.targets.running) == [TEN]
    assert bench.state(TWENTY) is RunState.QUEUED  # overlap is queue
    anna.targets.end(TEN)
    await anna.targets.began(TWENTY)
    anna.targets.end(TWENTY)
    await bench.verified()


# Places.


async def test_no_more_run_at_once_than_there_are_places_and_live_slots_go_first(bench: Bench) -> None:
    await bench.seed(document("missed", misfire={"policy": "all", "grace": "1s"}, overlap="allow"))
    await bench.seed(document("live", {"every": "60s"}))
    await pass_time(65)
    anna = bench.start("anna", max_running_handlers=2)
    anna.targets.held |= {"missed", "live"}
    await anna.targets.began(slot_id("live", 60))
    await pass_time(1)
    assert len(anna.targets.running) == 2
    seen = set(anna.targets.running)
    while anna.targets.running:
        anna.targets.end(next(iter(anna.targets.running)))
        await pass_time(0.5)
        seen |= set(anna.targets.running)
        assert len(anna.targets.running) <= 2
    assert len(seen) >= 7


async def test_the_place_of_a_target_that_cannot_be_ended_is_free_when_it_lets_go(bench: Bench) -> None:
    anna = await bench.holder("anna", max_running_handlers=1)
    await bench.put(document("stuck", timeout="1s"), document("other", {"every": "15s"}))
    kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stuck(execution: Execution) -> Outcome:
        execution.kept_until = kept
        never: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        return await never

    anna.targets.scripts["stuck"] = stuck
    run = await bench.reaches(slot_id("stuck", 10), RunState.TIMED_OUT)
    assert run.duration_s == pytest.approx(1, abs=0.1)
    await pass_time(10)
    assert bench.begun("other") == []
    kept.set_result(None)
    await until(lambda: bench.begun("other"), bench.begun)


# How attempts end.


async def test_a_timeout_ends_the_target(bench: Bench) -> None:
    anna = await backing_up(bench, timeout="3s")
    anna.targets.held.add("backup")
    run = await bench.reaches(TEN, RunState.TIMED_OUT)
    assert anna.targets.cancelled == [TEN]
    assert run.duration_s == pytest.approx(3, abs=0.1)
    assert run.outcome is not None
    assert run.outcome.error == "no end within 3 s"


async def test_a_target_that_crashes_fails_its_run_and_no_other(bench: Bench) -> None:
    anna = await backing_up(bench)
    await bench.put(document("other"))

    async def crash(_: Execution) -> Outcome:
        raise ZeroDivisionError("a bug")

    anna.targets.scripts["backup"] = crash
    run = await bench.reaches(TEN, RunState.FAILED)
    assert run.outcome is not None
    assert run.outcome.error == "ZeroDivisionError: a bug"
    await bench.reaches(slot_id("other", 10), RunState.SUCCEEDED)


async def test_an_attempt_that_is_ended_before_its_target_took_a_step_never_takes_one(bench: Bench) -> None:
    anna = bench.make("anna")
    anna.alive = False
    attempt = Attempt(
        run=bench.seed_run("backup", 10),
        document=document("backup", timeout="1m"),
        token="t",  # noqa: S106  a start's token
        targets=anna.targets,
        clock=bench.clock,
        recorder=anna.instance.recorder,
        log=anna.context.log,
    )
    ended: list[Attempt] = []
    attempt.start(ended.append)
    attempt.end(Outcome(state=RunState.CANCELLED))
    await until(lambda: ended, lambda: attempt.outcome)
    assert attempt.outcome.state is RunState.CANCELLED
    assert bench.begun() == []
    await pass_time(90)
    assert len(ended) == 1


async def test_the_first_reason_to_end_an_attempt_wins(bench: Bench) -> None:
    anna = await backing_up(bench, timeout="5s")
    ending = asyncio.Event()

    async def reluctant(_: Execution) -> Outcome:
        try:
            never: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            return await never
        except asyncio.CancelledError:
            await ending.wait()
            raise

    anna.targets.scripts["backup"] = reluctant
    await bench.reaches(TEN, RunState.RUNNING)
    await pass_time(6)
    assert anna.instance.dispatcher.end(TEN, Outcome(state=RunState.CANCELLED))
    ending.set()
    await bench.reaches(TEN, RunState.TIMED_OUT)


async def test_a_cancelled_run_that_takes_its_time_to_end_is_told_of_once(bench: Bench) -> None:
    anna = await backing_up(bench)
    let_go = asyncio.Event()

    async def cleans_up(_: Execution) -> Outcome:
        try:
            await asyncio.sleep(3600)
        finally:
            await let_go.wait()
        return SUCCEEDED

    anna.targets.scripts["backup"] = cleans_up
    await bench.reaches(TEN, RunState.RUNNING)
    assert (await bench.request("run.cancel", run=TEN, issued_by="carla"))["ok"]
    await pass_time(10)
    assert bench.state(TEN) is RunState.RUNNING
    let_go.set()
    await bench.reaches(TEN, RunState.CANCELLED)
    assert [(said["run"], said["by"]) for said in anna.said("run.cancelling")] == [(TEN, "carla")]


async def test_what_a_run_printed_is_in_the_ledger_however_it_ended(bench: Bench) -> None:
    anna = await backing_up(bench, timeout="2s")

    async def talkative(execution: Execution) -> Outcome:
        execution.output.write("half a backup\n")
        await asyncio.sleep(60)
        return SUCCEEDED

    anna.targets.scripts["backup"] = talkative
    run = await bench.reaches(TEN, RunState.TIMED_OUT)
    assert run.outcome is not None
    assert run.outcome.output is not None
    assert run.outcome.output.text == "half a backup\n"


async def test_draining_waits_for_what_runs_and_says_whether_that_ended(bench: Bench) -> None:
    anna = await backing_up(bench)
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    dispatcher = anna.instance.dispatcher
    assert not await dispatcher.drain(3)
    anna.targets.held.clear()
    draining = asyncio.create_task(dispatcher.drain(30))
    await pass_time(1)
    assert not draining.done()
    anna.targets.end(TEN)
    assert await draining


async def test_abandoning_all_gives_targets_that_do_not_end_bounded_time(bench: Bench) -> None:
    anna = await backing_up(bench, overlap="allow")

    let_go = asyncio.Event()

    async def deaf(_: Execution) -> Outcome:
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()
        return SUCCEEDED

    anna.targets.scripts["backup"] = deaf
    await bench.reaches(TEN, RunState.RUNNING)
    began = bench.clock.now()
    await anna.instance.dispatcher.abandon_all("shutdown", timeout=5)
    assert bench.clock.now() - began == timedelta(seconds=5)
    let_go.set()
    await bench.reaches(TEN, RunState.SUCCEEDED)
