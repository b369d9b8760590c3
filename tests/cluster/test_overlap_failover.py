"""Lines, bounds and replacements on real servers: whoever holds goes on with what waits."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.policies import Overlap
from cronexec.domain.run import Run, RunState
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

BOUNDED: dict[str, dict[str, Any]] = {
    "line": {"policy": "queue", "queue_limit": 3},
    "bounded": {"policy": "allow", "max_running": 3, "queue_limit": 2},
    "skips": {"policy": "skip"},
    "newest": {"policy": "replace"},
}
ABOUT = timedelta(milliseconds=100)  # the clocks of two instances, and a tick
ENOUGH = 3  # runs of a job
ENDS_SLOWLY = "trap 'sleep 5; exit 1' TERM; sleep 60 & wait"


async def test_no_bound_is_exceeded_while_holders_are_killed(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.start(name, **IMPATIENT)
    await cluster.holder()
    await cluster.put([job(name) for name in BOUNDED])
    for number in range(2):
        await asyncio.sleep(5)
        cluster.start(f"c{number}", **IMPATIENT)
        killed = await cluster.kill_holder()
        killed_at = cluster.connection.clock.now()
        await cluster.holder(other_than=killed)
    await wait_for(lambda: run_since(cluster, killed_at), "all jobs to run after the last kill", interval=0.5)
    end = cluster.connection.clock.now().replace(microsecond=0) + timedelta(seconds=2)
    await cluster.put([job(name, end) for name in BOUNDED])
    await cluster.settled(end)
    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert (total.missing, total.doubled) == (0, 0), total
    assert set(total.skips) == {"overlap"}
    assert [line for line, times in cluster.lines().items() if times > 1] == []
    entries = [run async for run in cluster.connection.store.runs.scheduled()]
    for name, overlap in BOUNDED.items():
        runs = [run for run in entries if run.job == name and run.state is not RunState.SKIPPED]
        judge(runs, Overlap(**overlap))


async def run_since(cluster: Cluster, instant: datetime) -> bool:
    """Whether every job has run since: of one that skips, its killed instance is known to be lost by then."""
    runs = [run async for run in cluster.connection.store.runs.scheduled() if run.started_at is not None]
    counts = Counter(run.job for run in runs)
    recent = {run.job for run in runs if claimed_at(run) > instant}
    return recent == set(BOUNDED) and min(counts.values()) > ENOUGH


def job(name: str, end: datetime | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "schedule": {"every": "1s"} | ({"end": end} if end else {}),
        "target": {"type": "handler", "name": "slow"},
        "params": {"seconds": 2.5},
        "overlap": BOUNDED[name],
        "misfire": {"grace": "5m"},
    }


def judge(runs: Sequence[Run], overlap: Overlap) -> None:
    assert len(runs) > ENOUGH
    most = overlap.most_active or len(runs)
    longest = most + (1 if overlap.replaces else overlap.queue_limit)
    ids = {run.id for run in runs}
    for run in runs:
        assert run.finished_at is not None
        if run.started_at is not None:
            beside = [
                each.id for each in runs if each.started_at and covers(each, each.started_at, run.started_at)
            ]
            assert len(beside) <= most, f"{run.id} was started beside {beside}"
        line = [
            each.id for each in runs if each.claimed_at and covers(each, each.claimed_at, claimed_at(run))
        ]
        if overlap.policy != "skip":
            assert len(line) <= longest, f"{run.id} was claimed, and unsettled were {line}"
        if run.state is RunState.CANCELLED:
            assert overlap.replaces
            assert run.outcome is not None
            assert (run.outcome.reason or "").removeprefix("replaced by ") in ids
        else:
            assert run.state in (RunState.SUCCEEDED, RunState.ABANDONED), f"{run.id}: {run.outcome}"


def claimed_at(run: Run) -> datetime:
    assert run.claimed_at is not None
    return run.claimed_at


def covers(run: Run, since: datetime, instant: datetime) -> bool:
    """Whether the run, which began at `since`, was unsettled for a while around `instant`."""
    assert run.finished_at is not None
    return since <= instant < run.finished_at - ABOUT


async def test_a_replacement_goes_on_when_the_holder_that_decided_it_is_killed(cluster: Cluster) -> None:
    cluster.start("a")
    await cluster.holder()
    await cluster.put(
        [
            {
                "name": "newest",
                "schedule": {"at": "2099-01-01T00:00:00Z"},
                "target": {"type": "shell", "command": ENDS_SLOWLY, "kill_after": "20s"},
                "overlap": "replace",
            }
        ]
    )
    await cluster.client.jobs.trigger("newest", key="first")
    await reaches(cluster, "newest#first", lambda run: run.state is RunState.RUNNING)
    for name in ("b", "c"):
        cluster.start(name)
    await wait_for(lambda: stand_by(cluster, "b", "c"), "the others to stand by")
    await cluster.client.baton.release()
    second = await cluster.holder(other_than="a")
    await cluster.client.jobs.trigger("newest", key="second")
    await reaches(cluster, "newest#first", lambda run: run.cancel_requested_by == "replaced by newest#second")
    assert await cluster.kill_holder() == second.holder_name
    await cluster.holder(other_than=second.holder_name)

    first = await reaches(cluster, "newest#first", lambda run: run.is_settled)
    assert first.outcome is not None
    assert (first.state, first.outcome.reason) == (RunState.CANCELLED, "replaced by newest#second")
    assert first.executor is not None
    assert first.executor.name == "a", "it was ended, not abandoned"
    newer = await reaches(cluster, "newest#second", lambda run: run.state is RunState.RUNNING)
    assert newer.executor is not None
    assert newer.executor.name in cluster.members
    assert newer.started_at is not None
    assert first.finished_at is not None
    assert newer.started_at >= first.finished_at - ABOUT
    unsettled = await cluster.client.runs.list(RunFilter(states=[RunState.QUEUED, RunState.RUNNING]))
    assert [run.id for run in unsettled] == ["newest#second"]


async def stand_by(cluster: Cluster, *names: str) -> bool:
    return all(cluster.members[name].events("candidate.standing_by") for name in names)


async def reaches(cluster: Cluster, run_id: str, condition: Any) -> Run:
    """Wait until a run is as it should be."""

    async def found() -> Run | None:
        run = await cluster.client.runs.get(run_id)
        return run if run is not None and condition(run) else None

    run = await wait_for(found, f"{run_id} to get there")
    assert run is not None
    return run
