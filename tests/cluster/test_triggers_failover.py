"""Backfills and one-shots go on when the holder is killed: all they need is in the ledger and the jobs."""

from datetime import timedelta

from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.run import Cause, Run, RunState, backfill_run_id, slot_run_id, slot_text
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

SLOTS = 24


async def backfills(cluster: Cluster, *states: RunState) -> list[Run]:
    return await cluster.client.runs.list(RunFilter(causes=[Cause.BACKFILL], states=states, limit=SLOTS + 1))


async def test_a_backfill_goes_on_after_a_kill_and_runs_no_slot_twice(
    cluster: Cluster,
) -> None:
    for name in ("a", "b"):
        cluster.start(name, **IMPATIENT)
    await cluster.holder()
    target = {"type": "handler", "name": "slow"}
    job = {"name": "past", "schedule": {"every": "1h"}, "target": target, "params": {"seconds": 0.1}}
    await cluster.put([job])
    until = cluster.connection.clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    since = until - timedelta(hours=SLOTS - 1)
    assert (await cluster.client.jobs.backfill("past", since, until))["queued"] == SLOTS

    async def begun() -> bool:
        return len(await backfills(cluster, RunState.SUCCEEDED)) >= 3

    await wait_for(begun, "three backfills to be done", interval=0.02)
    waiting = await backfills(cluster, RunState.QUEUED)
    killed = await cluster.kill_holder()
    assert waiting, "all were done before the kill"
    await cluster.holder(other_than=killed)
    await cluster.settled()
    runs = await backfills(cluster)
    slots = [until - timedelta(hours=hour) for hour in range(SLOTS)]
    assert [run.id for run in runs] == [backfill_run_id("past", slot) for slot in slots]
    abandoned = [run for run in runs if run.state is not RunState.SUCCEEDED]
    assert [run.state for run in abandoned] in ([], [RunState.ABANDONED])
    lines = cluster.lines()
    assert set(lines.values()) == {1}
    assert {slot for _, slot, _ in lines} >= {slot_text(run.slot) for run in runs if run not in abandoned}
    verified = await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)
    assert verified.total.ok


async def test_a_one_shot_is_deleted_by_the_next_holder_and_never_runs_again(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.start(name, **IMPATIENT)
    await cluster.holder()
    slot = cluster.connection.clock.now().replace(microsecond=0) + timedelta(seconds=2)
    target = {"type": "handler", "name": "quick"}
    job = {"name": "once", "schedule": {"at": slot.isoformat()}, "target": target, "delete_after": "8s"}
    await cluster.put([job])

    async def has_run() -> bool:
        run = await cluster.client.runs.get(slot_run_id("once", slot))
        return run is not None and run.state is RunState.SUCCEEDED

    await wait_for(has_run, "the run of the one-shot")
    assert await cluster.client.jobs.get("once") is not None
    killed = await cluster.kill_holder()
    await cluster.holder(other_than=killed)

    async def is_deleted() -> bool:
        return await cluster.client.jobs.get("once") is None

    await wait_for(is_deleted, "the one-shot to be deleted")
    audit = await cluster.connection.store.commands.list()
    [deletion] = [each for each in audit if each.type == "job.delete"]
    assert (deletion.issued_by, deletion.reply["ok"]) == ("cronexec", True)
    assert deletion.received_at >= slot + timedelta(seconds=8)
    again = await cluster.client.jobs.put(job)
    assert (again["changed"], again["over"]) == (False, True)
    assert await cluster.client.jobs.get("once") is None
    assert await has_run(), "the ledger keeps the run"
    assert cluster.lines() == {("once", slot_text(slot), 1): 1}
