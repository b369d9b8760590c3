"""Retries on real servers: whoever holds carries on with what waits for its next attempt."""

import asyncio
from collections import defaultdict
from datetime import timedelta

from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.run import Run, RunState
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

KILLS = 3
JOBS = 20
RETRY = {"max_attempts": 4, "initial_delay": "1s", "max_delay": "4s", "when": {"exceptions": ["OSError"]}}


async def test_retries_go_on_while_holders_are_killed(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.start(name, **IMPATIENT)
    await cluster.holder()
    end = cluster.connection.clock.now().replace(microsecond=0) + timedelta(seconds=14)
    await cluster.put(
        [
            {
                "name": f"flaky-{number}",
                "schedule": {"every": "2s", "end": end},
                "target": {"type": "handler", "name": "flaky"},
                "params": {"succeeds_at": 3},
                "overlap": "allow",
                "misfire": {"policy": "all", "grace": "5m"},
                "retry": RETRY,
            }
            for number in range(JOBS)
        ]
    )
    for number in range(KILLS):
        await asyncio.sleep(3)
        cluster.start(f"c{number}", **IMPATIENT)
        killed = await cluster.kill_holder()
        await cluster.holder(other_than=killed)
    await cluster.settled(end, timeout=90)
    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert (total.missing, total.doubled) == (0, 0), total
    assert [line for line, times in cluster.lines().items() if times > 1] == []
    begun: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for job, slot, attempt in cluster.lines():
        begun[job, slot].add(attempt)
    runs = [run async for run in cluster.connection.store.runs.scheduled()]
    assert len(runs) > JOBS * 5
    for run in runs:
        judge(run, begun[run.job, f"{run.slot:%Y-%m-%dT%H:%M:%SZ}"])


def judge(run: Run, begun: set[int]) -> None:
    """A run ends with its third attempt, or with the one that was cut off by a kill."""
    assert [former.attempt for former in run.attempts] == list(range(1, run.attempt))
    assert all(former.outcome.state is RunState.FAILED for former in run.attempts)
    assert begun >= set(range(1, run.attempt)), f"{run.id}: an attempt that failed had not begun"
    assert begun <= set(range(1, run.attempt + 1)), f"{run.id}: an attempt that nobody decided on"
    if run.state is RunState.SUCCEEDED:
        assert run.attempt == 3
    else:
        assert run.state is RunState.ABANDONED, f"{run.id} is {run.state}: {run.outcome}"


async def test_a_run_of_a_killed_instance_is_repeated_where_its_job_says_so(cluster: Cluster) -> None:
    cluster.start("a", **IMPATIENT)
    await cluster.holder()
    job = {
        "name": "long",
        "schedule": {"at": "2099-01-01T00:00:00Z"},
        "target": {"type": "handler", "name": "slow"},
        "params": {"seconds": 3},
        "abandoned": "retry",
    }
    await cluster.put([job])
    await cluster.client.jobs.trigger("long", key="once")

    async def runs() -> Run | None:
        found = await cluster.client.runs.list(RunFilter(states=[RunState.RUNNING]))
        return found[0] if found else None

    await wait_for(runs, "the run to start")
    cluster.start("b", **IMPATIENT)
    assert await cluster.kill_holder() == "a"

    async def has_succeeded() -> Run | None:
        run = await cluster.client.runs.get("long#once")
        return run if run is not None and run.state is RunState.SUCCEEDED else None

    run = await wait_for(has_succeeded, "the repeated run to succeed")
    assert run is not None
    assert [(former.outcome.reason, former.executor.name) for former in run.attempts if former.executor] == [
        ("instance_lost", "a")
    ]
    assert (run.attempt, run.executor and run.executor.name) == (2, "b")
