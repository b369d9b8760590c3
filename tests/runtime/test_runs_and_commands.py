"""Runs that run elsewhere, or are on their way to or from the ledger, when a command changes their job."""

import asyncio
from contextlib import suppress

import pytest
from bench import SUCCEEDED, Bench, at, document, pass_time, slot_id, until
from faults import Call, away, claims, fails, unclear

from cronexec.domain.run import Executor, RunState
from cronexec.errors import TermLostError
from cronexec.ports import Finish

pytestmark = pytest.mark.virtual_time

ELSEWHERE = Executor(id="i-elsewhere", name="elsewhere", datacenter="west")


@pytest.mark.parametrize("command", ["job.pause", "job.delete"])
async def test_a_run_that_runs_elsewhere_keeps_its_place_when_its_job_is_paused_or_deleted(
    bench: Bench, command: str
) -> None:
    await bench.seed(document("report"))
    run = bench.seed_run("report", -10, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    await bench.holder()
    assert (await bench.request(command, name="report"))["ok"]
    await bench.put(document("report", {"every": "1h"}))
    triggered = (await bench.request("job.trigger", name="report"))["result"]["run"]
    await pass_time(2)
    assert bench.state(triggered) is RunState.QUEUED
    finish = Finish(
        run_id=slot_id("report", -10),
        attempt=run.attempt,
        token="t",  # noqa: S106  a start's token
        outcome=SUCCEEDED,
        started_at=at(0),
        finished_at=at(2),
    )
    assert await bench.store.runs.finish([finish]) == []
    await until(lambda: bench.state(triggered) is RunState.SUCCEEDED, lambda: bench.run(triggered))


async def test_a_run_whose_end_is_not_recorded_keeps_its_place_when_its_job_is_paused(bench: Bench) -> None:
    anna = await bench.holder()
    await bench.put(document("report", {"every": "1h"}))
    anna.faults.always("runs.finish", fails(away()))
    first = (await bench.request("job.trigger", name="report"))["result"]["run"]
    await until(lambda: bench.evidence, lambda: bench.run(first))
    await pass_time(1)
    assert (await bench.request("job.pause", name="report"))["ok"]
    second = (await bench.request("job.trigger", name="report"))["result"]["run"]
    await pass_time(2)
    assert (bench.state(first), bench.state(second)) == (RunState.RUNNING, RunState.QUEUED)
    anna.faults.always("runs.finish", None)
    await bench.reaches(second, RunState.SUCCEEDED)


@pytest.mark.parametrize(("command", "reason"), [("job.pause", "job_paused"), ("job.delete", "job_deleted")])
async def test_a_run_that_comes_back_after_its_job_was_paused_or_deleted_is_cancelled(
    bench: Bench, command: str, reason: str
) -> None:
    await bench.seed(document("report"))
    run = bench.seed_run("report", -10, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    await bench.holder()
    assert (await bench.request(command, name="report"))["ok"]
    await bench.store.runs.give_back([run.id], "t")
    cancelled = await bench.reaches(run.id, RunState.CANCELLED)
    assert cancelled.outcome is not None
    assert cancelled.outcome.reason == reason
    assert bench.evidence == []


async def test_a_run_that_was_back_before_the_term_is_cancelled_if_its_job_was_deleted(bench: Bench) -> None:
    anna = await bench.holder("anna")
    await bench.put(document("report"))
    run = bench.seed_run("report", -10, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    assert (await bench.request("job.delete", name="report"))["ok"]
    await anna.stop()
    await bench.store.runs.give_back([run.id], "t")
    await bench.holder("bert")
    await bench.reaches(run.id, RunState.CANCELLED)
    assert bench.evidence == []


async def test_a_claim_that_arrives_after_its_term_leaves_no_run_that_nobody_runs(bench: Bench) -> None:
    """What had started with the claim was given back before it was there."""
    anna = await bench.holder("anna")
    await bench.put(document("report"))
    late = asyncio.Event()

    async def arrive(call: Call) -> None:
        await pass_time(3)
        with suppress(TermLostError):
            await call()
        late.set()

    async def delayed(call: Call) -> None:
        nonlocal arriving
        arriving = asyncio.create_task(arrive(call))
        anna.faults.always("terms.commit", fails(away()))
        anna.faults.always("terms.raise_epoch", fails(away()))
        anna.end_term()
        raise unclear()

    arriving: asyncio.Task[None]
    anna.faults.where("terms.commit", claims, delayed)
    await asyncio.wait_for(late.wait(), 60)
    anna.faults.always("terms.commit", None)
    anna.faults.always("terms.raise_epoch", None)
    await bench.reaches(slot_id("report", 10), RunState.SUCCEEDED)
    assert bench.begun("report")[:1] == [slot_id("report", 10)]
