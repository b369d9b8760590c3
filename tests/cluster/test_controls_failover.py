"""Controls on real servers: pauses go on, and end, whoever holds; so do windows and slots skipped once."""

import asyncio
from datetime import datetime, timedelta

from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.run import Run, RunState, slot_text
from cronexec.verify import verify_ledger

SECOND = timedelta(seconds=1)


def secondly(name: str, end: datetime) -> dict[str, object]:
    """Return a job of whose slots every single one is wanted, however late."""
    return {
        "name": name,
        "schedule": {"every": "1s", "end": end},
        "target": {"type": "handler", "name": "quick"},
        "overlap": "allow",
        "misfire": {"policy": "all", "grace": "5m"},
    }


async def entries_of(cluster: Cluster, job: str) -> list[Run]:
    return [run async for run in cluster.connection.store.runs.scheduled() if run.job == job]


def slots_between(first: datetime, last: datetime) -> set[datetime]:
    count = int((last - first) / SECOND) + 1
    return {first + number * SECOND for number in range(count)}


def ran(entries: list[Run]) -> set[datetime]:
    """Return the slots that were run, or were running when their instance was killed."""
    return {run.slot for run in entries if run.state in {RunState.SUCCEEDED, RunState.ABANDONED}}


def skipped(entries: list[Run], reason: str) -> set[datetime]:
    """Return the slots that entries with this reason account for."""
    return {
        slot
        for run in entries
        if run.reason == reason
        for slot in slots_between(run.slot, run.until.replace(microsecond=0) if run.until else run.slot)
    }


async def test_controls_go_on_and_end_while_the_holder_is_killed_in_the_middle(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.start(name, **IMPATIENT)
    await cluster.holder()
    begun = cluster.connection.clock.now().replace(microsecond=0)
    end = begun + timedelta(seconds=18)
    await cluster.put([secondly(name, end) for name in ("paused", "resumed", "blacked-out", "skipping")])
    jobs = cluster.client.jobs
    until, opens, closes = (begun + seconds * SECOND for seconds in (13, 8, 13))
    await jobs.pause("paused", until=until, reason="holidays", owner="zoe")
    await jobs.pause("resumed", until=begun + timedelta(days=2))
    await jobs.black_out("blacked-out", start=opens, end=closes, reason="move")
    to_skip = {datetime.fromisoformat(slot) for slot in (await jobs.skip_next("skipping", 10))["skipped"]}

    async def is_in_the_middle() -> bool:
        return cluster.connection.clock.now() > opens + 2.5 * SECOND

    await wait_for(is_in_the_middle, "the middle of the window")
    killed = await cluster.kill_holder()
    await cluster.holder(other_than=killed)
    resumed = await jobs.resume("resumed")
    assert resumed["changed"] is True
    await cluster.settled(end, timeout=90)

    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert total.ok, total
    assert set(total.skips) == {"paused", "blackout", "skip_next"}

    paused = await entries_of(cluster, "paused")
    (range_entry,) = (run for run in paused if run.state is RunState.SKIPPED)
    assert (range_entry.reason, range_entry.note, range_entry.issued_by) == ("paused", "holidays", "zoe")
    assert range_entry.until == until
    assert slots_between(until + SECOND, end) <= ran(paused), "it goes on right behind its end"

    for job, reason, expected in (
        ("paused", "paused", slots_between(range_entry.slot, until)),
        ("blacked-out", "blackout", slots_between(opens, closes)),
        ("skipping", "skip_next", to_skip),
    ):
        entries = await entries_of(cluster, job)
        assert skipped(entries, reason) == expected
        assert ran(entries) == slots_between(entries[0].slot, end) - expected
        succeeded = {run.slot for run in entries if run.state is RunState.SUCCEEDED}
        assert succeeded <= evidence(cluster, job) <= ran(entries)

    after = await entries_of(cluster, "resumed")
    assert max(skipped(after, "paused")) < min(slot for slot in ran(after) if slot > opens)
    assert end in ran(after)


def evidence(cluster: Cluster, job: str) -> set[datetime]:
    """Return the slots of which the handler left a line; each of them once."""
    lines = {slot: times for (name, slot, _), times in cluster.lines().items() if name == job}
    assert set(lines.values()) == {1}
    return {datetime.fromisoformat(slot) for slot in lines}


async def test_what_is_said_while_nobody_holds_counts_from_when_it_is_applied(cluster: Cluster) -> None:
    """And what came due before is run all the same: the next holder decides slots before commands."""
    cluster.start("a", **IMPATIENT)
    await cluster.holder()
    end = cluster.connection.clock.now().replace(microsecond=0) + timedelta(seconds=60)
    await cluster.put([secondly("late", end)])
    await cluster.kill_holder()
    asked = asyncio.create_task(cluster.client.jobs.pause("late", until=end, reason="nobody is there"))
    cluster.start("b", **IMPATIENT)
    answer = await asked
    assert answer["paused_until"] == slot_text(end)
    await cluster.settled(timeout=90)
    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert total.ok, total
    (range_entry,) = (run for run in await entries_of(cluster, "late") if run.reason == "paused")
    assert range_entry.until == end
    assert all(
        run.slot < range_entry.slot for run in await entries_of(cluster, "late") if run.reason != "paused"
    )
