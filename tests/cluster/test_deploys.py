"""Deploys on real servers: three instances are replaced one by one, and two releases run side by side."""

import asyncio
from datetime import datetime, timedelta

import pytest
from harness import FULL, Cluster
from members import Member, wait_for

from cronexec.domain.run import Run, RunState
from cronexec.instances import Instances
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

QUICK, SLOW = 60, 5  # jobs that run every second
SLOW_SECONDS = 5
LATEST = 1.0 if FULL else float(SLOW_SECONDS)  # seconds: a busy machine may need some of them
SOON = {
    "CRONEXEC_LEASE": "3s",
    "CRONEXEC_BATON_LOST_AFTER": "4s",
    "CRONEXEC_INSTANCE_LOST_AFTER": "6s",
}


def load(end: datetime | None = None) -> list[dict[str, object]]:
    """Return jobs that run every second, some of which are always in the middle of it."""

    def job(name: str, handler: str, **fields: object) -> dict[str, object]:
        target = {"type": "handler", "name": handler}
        schedule = {"every": "1s", "end": end} if end else {"every": "1s"}
        return {"name": name, "schedule": schedule, "target": target, **fields}

    slow = {"overlap": "allow", "params": {"seconds": SLOW_SECONDS}}
    return [
        *(job(f"quick-{number}", "quick", overlap="allow") for number in range(QUICK)),
        *(job(f"slow-{number}", "slow", **slow) for number in range(SLOW)),
    ]


def instances_of(cluster: Cluster) -> Instances:
    settings = cluster.settings
    return Instances(
        cluster.connection.store,
        cluster.connection.broker,
        issued_by="deploy",
        lost_after=settings.instance_lost_after,
    )


async def drain(cluster: Cluster, name: str) -> None:
    """Do what a hook does before a container is stopped: `cronexec instance drain NAME --wait`."""
    instances = instances_of(cluster)
    found = await instances.find(name)
    await instances.drain(found)
    async with asyncio.timeout(30):
        async for left in instances.until_over(found.id, lambda: asyncio.sleep(0.2)):
            assert not left.is_over or (left.instance and left.instance.state == "drained")
    assert not await cluster.client.runs.list(RunFilter(states=(RunState.RUNNING,), executor=found.id))


async def stands_by(member: Member) -> None:
    async def listed() -> bool:
        member.require_alive()
        return bool(member.events("candidate.standing_by"))

    await wait_for(listed, f"{member.name} to stand by")


@pytest.mark.load
@pytest.mark.parametrize("way", ["SIGTERM", "drained first"])
async def test_three_instances_are_replaced_under_load_and_nothing_is_cut_off_or_late(
    cluster: Cluster, way: str
) -> None:
    for name in ("a", "b", "c"):
        await stands_by(cluster.start(name))
    await cluster.holder()
    await cluster.put(load())
    held: dict[str, int] = {}
    for name in ("a", "b", "c"):
        await wait_for(lambda: is_in_the_middle(cluster), "slow runs to be under way")
        await stands_by(cluster.start(f"{name}-next"))
        record = await cluster.holder()
        if record.holder_name == name:
            held[name] = record.epoch
        if way == "drained first":
            await drain(cluster, name)
        assert await cluster.ended(cluster.terminate(name)) == 0
    end = cluster.connection.clock.now().replace(microsecond=0) + timedelta(seconds=3)
    await cluster.put(load(end))
    await cluster.settled(end)
    runs = await all_runs(cluster)
    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert (total.missing, total.doubled) == (0, 0), total.findings
    states = {(run.job, run.state) for run in runs if run.state is not RunState.SUCCEEDED}
    assert states == set(), "everything ran to its end"
    assert "a" in held
    for name, epoch in held.items():
        own_end = max(run.finished_at for run in runs if executed_by(run, name) and run.finished_at)
        next_start = min(run.started_at for run in runs if run.epoch > epoch and run.started_at)
        assert next_start < own_end, f"{name} hands over first, and then finishes what it runs"
    late = {run.id: run.lateness_s for run in runs if (run.lateness_s or 0) > LATEST}
    assert late == {}
    assert all(count == 1 for count in cluster.lines().values())
    assert len(cluster.lines()) == len(runs)
    assert {run.executor.name for run in runs if run.executor} > {"a"}, "the baton moved"


def executed_by(run: Run, name: str) -> bool:
    return run.executor is not None and run.executor.name == name


async def is_in_the_middle(cluster: Cluster) -> bool:
    running = await cluster.client.runs.list(RunFilter(states=(RunState.RUNNING,), limit=2 * SLOW))
    return sum(run.job.startswith("slow") for run in running) >= SLOW


async def all_runs(cluster: Cluster) -> list[Run]:
    return await cluster.client.runs.list(RunFilter(limit=100_000))


async def test_a_job_of_the_new_release_runs_where_that_is_and_declarations_do_not_flap(
    cluster: Cluster,
) -> None:
    for name in ("a", "b"):
        await stands_by(cluster.start(name, MEMBER_RELEASE="old", **SOON))
    first = await cluster.holder()
    await nightly(cluster, 1)
    await stands_by(cluster.start("new", MEMBER_RELEASE="new", **SOON))
    await nightly(cluster, 2)
    await holder_is(cluster, "new")
    assert (await cluster.holder()).epoch <= first.epoch + 2, "each of the others yields once at most"
    await runs_of_fresh(cluster, "new", 3)
    # An earlier release that is started again neither takes the baton back nor puts its declaration again.
    await cluster.ended(cluster.terminate("b"))
    again = cluster.start("b-again", MEMBER_RELEASE="old", **SOON)
    await wait_for_event(again, "job.declaration_waits")
    await runs_of_fresh(cluster, "new", 5)
    await nightly(cluster, 2)
    # With the new release gone, the earlier ones carry on with what they can, and the rollback is put.
    await cluster.ended(cluster.terminate("new"))
    await cluster.holder()
    await nightly(cluster, 3, within=25)
    # It comes back, and with it what only it can run.
    await stands_by(cluster.start("newer", MEMBER_RELEASE="new", **SOON))
    await holder_is(cluster, "newer")
    await runs_of_fresh(cluster, "newer", 3)
    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert (total.missing, total.doubled) == (0, 0), total.findings
    assert all(count == 1 for count in cluster.lines().values())


async def nightly(cluster: Cluster, version: int, within: float = 20) -> None:
    async def has_version() -> bool:
        job = await cluster.client.jobs.get("nightly")
        return job is not None and job.version == version

    await wait_for(has_version, f"version {version} of the declared job", timeout=within)


async def holder_is(cluster: Cluster, name: str) -> None:
    async def holds() -> bool:
        return (await cluster.connection.store.terms.read()).holder_name == name

    await wait_for(holds, f"{name} to hold")


async def runs_of_fresh(cluster: Cluster, name: str, count: int) -> None:
    """Wait until so many runs have succeeded on that instance."""

    async def have_run() -> bool:
        runs = await cluster.client.runs.list(
            RunFilter(job="fresh", states=(RunState.SUCCEEDED,), limit=1000)
        )
        assert all(run.executor and run.executor.name.startswith("new") for run in runs)
        return sum(run.executor is not None and run.executor.name == name for run in runs) >= count

    await wait_for(have_run, f"{count} runs on {name}")


async def wait_for_event(member: Member, event: str) -> None:
    async def has_said() -> bool:
        member.require_alive()
        return bool(member.events(event))

    await wait_for(has_said, f"{event} of {member.name}")
