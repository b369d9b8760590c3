"""The baton on real servers survives handovers, duplicates and purges; wrong clocks change nothing."""

import asyncio
from datetime import timedelta

import pika
import pytest
from harness import Cluster
from members import wait_for

from cronexec.domain.run import RunState
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

HANDOVERS = 30


async def test_the_baton_survives_thirty_handovers(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        cluster.start(name)
    await cluster.holder()
    await wait_for(lambda: standby(cluster), "all instances to stand by")
    await put_every_second(cluster)
    for _ in range(HANDOVERS):
        record = await cluster.holder()
        await cluster.client.baton.release()
        await cluster.holder(other_than=record.holder_name)
    record = await cluster.holder()
    assert record.epoch == HANDOVERS + 1, "every handover is one term"
    assert (await cluster.connection.broker.baton_depth()).ready == 0
    await assert_nothing_missing(cluster)


async def test_two_extra_batons_leave_one_holder_and_no_new_term(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        cluster.start(name)
    record = await cluster.holder()
    await put_every_second(cluster)
    await cluster.client.baton.reinsert()
    await cluster.client.baton.reinsert()
    member = cluster.members[str(record.holder_name)]

    async def discarded() -> bool:
        return len(member.events("baton.duplicate_discarded")) == 2

    await wait_for(discarded, "two discarded duplicates")
    await slots_to_run(cluster, 3)
    after = await cluster.holder()
    assert (after.epoch, after.holder_name) == (record.epoch, record.holder_name)
    assert sum(len(member.events("term.began")) for member in cluster.members.values()) == 1


async def test_a_purged_baton_comes_back_by_itself(cluster: Cluster, amqp_url: str) -> None:
    settings = {
        "CRONEXEC_LEASE": "3s",
        "CRONEXEC_BATON_LOST_AFTER": "4s",
        "CRONEXEC_INSTANCE_LOST_AFTER": "30s",
    }
    for name in ("a", "b"):
        cluster.start(name, **settings)
    await cluster.holder()
    await put_every_second(cluster)
    # While the holder dies its baton is ready for a moment: without consumers, a purge gets it.
    for name in ("a", "b"):
        cluster.kill(name)
    record = await cluster.connection.store.terms.read()  # the second to die may have held it for a moment
    await wait_for(lambda: purged(amqp_url, cluster.settings.namespace), "a baton to purge")
    cluster.start("c", **settings)
    cluster.start("d", **settings)
    after = await cluster.holder()
    assert after.epoch == record.epoch + 1
    inserted = [len(member.events("baton.inserted")) for member in cluster.members.values()]
    assert sum(inserted) == 1, "one insertion in the whole namespace"
    await assert_nothing_missing(cluster)


@pytest.mark.parametrize(
    "offset", [timedelta(hours=2), timedelta(seconds=-10)], ids=["2 h fast", "10 s slow"]
)
async def test_a_holder_with_a_wrong_clock_skips_and_repeats_nothing(
    cluster: Cluster, offset: timedelta
) -> None:
    cluster.start("right")
    await cluster.holder()
    await put_every_second(cluster)
    await slots_to_run(cluster, 3)
    cluster.start("wrong", wall_offset=offset.total_seconds())
    await wait_for(lambda: standby(cluster), "the instance with the wrong clock to stand by")
    await cluster.kill_holder()
    await cluster.holder(other_than="right")
    await slots_to_run(cluster, 3)
    cluster.start("again")
    await wait_for(lambda: standby(cluster), "another instance to stand by")
    await cluster.ended(cluster.terminate("wrong"))
    await cluster.holder(other_than="wrong")
    await slots_to_run(cluster, 2)
    await assert_nothing_missing(cluster)
    skipped = await cluster.client.runs.list(RunFilter(states=[RunState.SKIPPED]))
    assert skipped == []
    early = [run.id for run in await cluster.client.runs.list() if (run.lateness_s or 0) < 0]
    assert early == [], "nothing runs before its slot"


async def put_every_second(cluster: Cluster) -> None:
    target = {"type": "handler", "name": "quick"}
    await cluster.put(
        [
            {"name": f"j{n}", "schedule": {"every": "1s"}, "target": target, "overlap": "allow"}
            for n in range(10)
        ]
    )


async def slots_to_run(cluster: Cluster, count: int) -> None:
    """Wait until runs of `count` more slots have left their lines."""

    def slots() -> set[str]:
        return {slot for _, slot, _ in cluster.lines()}

    async def have_run() -> bool:
        return len(slots() - before) >= count

    before = slots()
    await wait_for(have_run, f"{count} more slots to run")


async def standby(cluster: Cluster) -> bool:
    return all(member.events("candidate.standing_by") for member in cluster.members.values())


async def purged(amqp_url: str, namespace: str) -> bool:
    """Purge the baton queue; returns whether there was a baton in it."""

    def purge() -> int:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            count: int = connection.channel().queue_purge(f"{namespace}.baton").method.message_count
            return count

    return await asyncio.to_thread(purge) > 0


async def assert_nothing_missing(cluster: Cluster) -> None:
    total = (await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)).total
    assert total.due > 0
    assert (total.missing, total.doubled) == (0, 0), total.findings
    assert [line for line, times in cluster.lines().items() if times > 1] == []
