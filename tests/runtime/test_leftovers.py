"""What a term leaves behind on its way out, and what commands leave of runs on their way to their start."""

import asyncio
from dataclasses import replace

import pytest
from bench import SUCCEEDED, Bench, at, document, pass_time, slot_id, until
from faults import away, claims, fails

from cronexec.adapters.memory_broker import MemoryLink
from cronexec.domain.run import Executor, Outcome, RunState
from cronexec.errors import UnwritableError
from cronexec.ports import Execution, Finish

pytestmark = pytest.mark.virtual_time

ELSEWHERE = Executor(id="i-elsewhere", name="elsewhere", datacenter="west")
TEN = slot_id("backup", 10)
JOB_TEN = slot_id("job", 10)


async def test_a_run_that_is_released_while_its_term_ends_begins_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def close(link: MemoryLink) -> None:
        link._lose("closed")
        await pass_time(0.2)  # as a connection takes

    monkeypatch.setattr(MemoryLink, "close", close)
    await bench.seed(document("backup"))
    foreign = bench.seed_run("backup", -10, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    anna = await bench.holder()
    anna.targets.held.add("backup")
    await bench.reaches(TEN, RunState.QUEUED)
    finish = Finish(
        run_id=foreign.id,
        attempt=1,
        token="t",  # noqa: S106  a start's token
        outcome=SUCCEEDED,
        started_at=at(0),
        finished_at=at(10),
    )
    assert await bench.store.runs.finish([finish]) == []
    held = anna.faults.hold("runs.states", done_first=True)
    await held.arrived()
    anna.end_term()
    await pass_time(0.1)
    held.release()
    await anna.targets.began(TEN)
    await pass_time(1)
    assert bench.begun("backup").count(TEN) == 1


async def test_commands_whose_lookups_fail_do_not_keep_the_holder_busy(bench: Bench) -> None:
    anna = await bench.holder()
    anna.faults.always("commands.replies", fails(away()))
    before = anna.faults.calls["terms.commit"]
    bench.send("job.put", job=document("backup").to_document())

    async def watch() -> None:
        for _ in range(20_000):
            await asyncio.sleep(0)
        anna.faults.always("commands.replies", None)

    watching = asyncio.create_task(watch())
    await pass_time(10)
    await watching
    assert anna.faults.calls["terms.commit"] - before < 50


async def test_a_run_cancelled_in_the_next_term_while_its_old_start_is_unanswered_frees_its_job(
    bench: Bench,
) -> None:
    anna = await bench.holder(max_running_handlers=1)
    anna.starts_apart()
    await bench.put(document("backup"))
    held = anna.faults.hold("runs.start")
    await held.arrived()
    first = anna.term
    anna.end_term()
    await until(lambda: anna.term not in {None, first}, lambda: anna.events[-5:])
    await pass_time(1)
    assert (await bench.request("run.cancel", run=TEN))["ok"]
    await bench.reaches(TEN, RunState.CANCELLED)
    held.release()
    await bench.reaches(slot_id("backup", 20), RunState.SUCCEEDED)


async def test_a_run_that_comes_back_after_it_was_cancelled_does_not_start(bench: Bench) -> None:
    await bench.seed(document("backup", {"every": "1h"}))
    run = bench.seed_run("backup", -10, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    await bench.holder()
    assert (await bench.request("run.cancel", run=run.id, issued_by="carla"))["ok"]
    await bench.store.runs.give_back([run.id], "t")
    cancelled = await bench.reaches(run.id, RunState.CANCELLED)
    assert cancelled.outcome is not None
    assert cancelled.outcome.reason == "cancelled by carla"
    assert bench.evidence == []


async def test_runs_that_are_cancelled_in_a_line_are_not_asked_to_start(bench: Bench) -> None:
    anna = await bench.holder(max_running_handlers=1)
    anna.targets.held.add("report")
    await bench.put(document("report", {"every": "1h"}), document("backup", {"every": "1h"}))
    assert (await bench.request("job.trigger", name="report", key="first"))["ok"]
    await anna.targets.began("report#first")
    for key in "abcd":
        assert (await bench.request("job.trigger", name="backup", key=key))["ok"]
    assert (await bench.request("job.pause", name="backup"))["ok"]
    anna.targets.end("report#first")
    await pass_time(2)
    assert {bench.state(f"backup#{key}") for key in "abcd"} == {RunState.CANCELLED}
    assert anna.faults.calls["runs.start"] == 0


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_runs_that_are_cancelled_one_by_one_in_one_write_are_not_asked_to_start(
    bench: Bench, order: str
) -> None:
    anna = await bench.holder(max_running_handlers=1)
    anna.targets.held.add("report")
    await bench.put(document("report", {"every": "1h"}), document("backup", {"every": "1h"}))
    assert (await bench.request("job.trigger", name="report", key="first"))["ok"]
    await anna.targets.began("report#first")
    for key in "abc":
        assert (await bench.request("job.trigger", name="backup", key=key))["ok"]
    held = anna.faults.hold("terms.commit")
    await held.arrived()
    for key in order:
        bench.send("run.cancel", run=f"backup#{key}")
    held.release()
    await bench.reaches("backup#b", RunState.CANCELLED)
    anna.targets.end("report#first")
    await bench.reaches("backup#c", RunState.SUCCEEDED)
    assert bench.state("backup#a") is RunState.CANCELLED
    assert anna.faults.calls["runs.start"] == 1
    assert [line.run for line in bench.evidence] == ["report#first", "backup#c"]


async def test_a_target_that_has_ended_keeps_its_outcome_when_it_is_cancelled_right_then(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup", {"every": "1h"}))

    async def ends(execution: Execution) -> Outcome:
        cancelled = Outcome(state=RunState.CANCELLED)
        asyncio.get_running_loop().call_soon(anna.instance.dispatcher.end, execution.run.id, cancelled)
        return SUCCEEDED

    anna.targets.scripts["backup"] = ends
    assert (await bench.request("job.trigger", name="backup", key="a"))["ok"]
    await until(lambda: bench.run("backup#a").state.is_final, lambda: bench.run("backup#a"))
    assert bench.state("backup#a") is RunState.SUCCEEDED


async def test_a_stop_does_not_wait_its_whole_grace_for_a_database_that_is_away(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    held = anna.faults.hold("terms.commit", claims, done_first=True)
    await held.arrived()
    bench.database.unreachable = True
    stopping_at = bench.clock.monotonic()
    assert not await anna.stop(grace=3600)
    assert bench.clock.monotonic() - stopping_at < 60


async def test_taking_a_long_line_in_may_take_longer_than_a_lease(bench: Bench) -> None:
    await bench.seed(document("backup"))
    bench.database.versions["backup", 0] = replace(bench.database.versions["backup", 1], version=0)
    run = bench.seed_run("backup", -10, version=0)
    anna = bench.make("anna")
    held = anna.faults.hold("jobs.versions_of")
    anna.instance.start()
    await held.arrived()
    await pass_time(25)
    held.release()
    await bench.reaches(run.id, RunState.SUCCEEDED)
    assert anna.term == 1


async def test_an_outcome_that_the_database_refuses_for_a_while_is_recorded_in_the_end(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    refused = fails(UnwritableError("a validator is in the way"))
    anna.faults.next("runs.finish", refused, refused, refused)
    run = await bench.reaches(TEN, RunState.SUCCEEDED, within=90)
    assert len(anna.said("run.outcome_unwritable")) == 3
    assert run.outcome is not None
    await bench.reaches(slot_id("backup", 20), RunState.SUCCEEDED)


async def test_an_attempt_that_is_recorded_after_a_term_began_here_is_followed_by_one_other(
    bench: Bench,
) -> None:
    anna = await bench.holder(max_running_handlers=2)
    anna.targets.held |= {"job", "long", "other"}
    retry = {"max_attempts": 2, "initial_delay": "0s"}
    await bench.put(
        document("job", {"at": "2026-11-20T12:00:10Z"}, retry=retry),
        *(document(name, {"every": "1h"}) for name in ("long", "other")),
    )
    await anna.targets.began(JOB_TEN)
    held = anna.faults.hold("runs.finish")
    anna.targets.end(JOB_TEN, Outcome(state=RunState.FAILED))
    await held.arrived()
    anna.end_term()
    while anna.term != 2:
        await pass_time(0.1)
    for name in ("long", "other"):
        assert (await bench.request("job.trigger", name=name, key="k"))["ok"]
        await anna.targets.began(f"{name}#k")
    held.release()
    await pass_time(5)
    for name in ("long", "other"):
        anna.targets.end(f"{name}#k")
    await pass_time(2)
    assert [line.attempt for line in bench.evidence if line.run == JOB_TEN] == [1, 2]
    anna.targets.end(JOB_TEN)
    await bench.reaches(JOB_TEN, RunState.SUCCEEDED)
    await bench.verified()


async def test_a_run_that_is_retried_by_hand_while_it_waits_for_a_person_begins_once(bench: Bench) -> None:
    await bench.seed(document("job", {"every": "1h"}, abandoned="ask"), document("long"), document("other"))
    run = bench.seed_run("job", -10, state=RunState.ABANDONED, undecided=True, executor=ELSEWHERE)
    anna = await bench.holder(max_running_handlers=2)
    anna.targets.held |= {"long", "other"}
    for name in ("long", "other"):
        await anna.targets.began(slot_id(name, 10))
    assert (await bench.request("run.retry", run=run.id))["ok"]
    await pass_time(3)
    for name in ("long", "other"):
        anna.targets.end(slot_id(name, 10))
    await bench.reaches(run.id, RunState.SUCCEEDED)
    assert bench.begun("job") == [run.id]


async def test_an_outcome_that_is_refused_frees_no_place_while_the_next_attempt_runs_elsewhere(
    bench: Bench,
) -> None:
    anna = await bench.holder()
    await bench.put(document("backup"))
    anna.targets.held.add("backup")
    await anna.targets.began(TEN)
    held = anna.faults.hold("runs.finish")
    anna.targets.end(TEN)
    await held.arrived()
    elsewhere = replace(bench.run(TEN), attempt=2, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    bench.database.runs[TEN] = elsewhere  # this instance was taken for lost
    anna.end_term()
    await until(lambda: anna.term == 2, lambda: anna.events[-3:])
    held.release()
    await until(lambda: anna.said("run.outcome_refused"), lambda: anna.events[-3:])
    await bench.reaches(slot_id("backup", 20), RunState.QUEUED)
    await pass_time(5)
    assert bench.begun("backup") == [TEN]
    bench.database.runs[TEN] = replace(elsewhere, state=RunState.SUCCEEDED)
    await anna.targets.began(slot_id("backup", 20), within=3)


async def test_what_was_seen_of_a_run_before_it_was_retried_frees_no_place(bench: Bench) -> None:
    await bench.seed(document("backup"))
    run = bench.seed_run("backup", -10, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    anna = await bench.holder()
    anna.targets.held.add("backup")
    await bench.reaches(TEN, RunState.QUEUED)
    bench.database.runs[run.id] = replace(run, state=RunState.FAILED)
    held = anna.faults.hold("runs.states", done_first=True)
    await held.arrived()
    assert (await bench.request("run.retry", run=run.id))["ok"]
    await anna.targets.began(run.id)
    held.release()
    await pass_time(5)
    assert list(anna.targets.running) == [run.id]
    anna.targets.end(run.id)
    await anna.targets.began(TEN)
