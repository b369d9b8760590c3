"""Runs that an instance of an earlier term executes still, and what commands may and may not do to them."""

import pytest
from bench import SUCCEEDED, Bench, at, document, pass_time, slot_id, until

from cronexec.domain.run import Executor, RunState
from cronexec.ports import Finish

pytestmark = pytest.mark.virtual_time

ELSEWHERE = Executor(id="i-elsewhere", name="elsewhere", datacenter="west")


@pytest.mark.parametrize("command", ["job.pause", "job.delete"])
async def test_a_run_that_runs_elsewhere_keeps_its_place_when_its_job_is_paused_or_deleted(
    bench: Bench, command: str
) -> None:
    await bench.seed(document("report"))
    run = bench.seed_run("report", 0, state=RunState.RUNNING, token="t", executor=ELSEWHERE)  # noqa: S106  a start's token
    await bench.holder()
    assert (await bench.request(command, name="report"))["ok"]
    await bench.put(document("report", {"every": "1h"}))
    triggered = (await bench.request("job.trigger", name="report"))["result"]["run"]
    await pass_time(2)
    assert bench.state(triggered) is RunState.QUEUED
    finish = Finish(
        run_id=slot_id("report", 0),
        attempt=run.attempt,
        token="t",  # noqa: S106  a start's token
        outcome=SUCCEEDED,
        started_at=at(0),
        finished_at=at(2),
    )
    assert await bench.store.runs.finish([finish]) == []
    await until(lambda: bench.state(triggered) is RunState.SUCCEEDED, lambda: bench.run(triggered))
