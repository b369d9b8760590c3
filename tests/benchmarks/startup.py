"""Start-up with 10,000 jobs: from the start of the process (interpreter and imports included).

To the first fenced commit, with which the instance holds, and to the first tick's commit, before which the
whole plan has been computed: the watermark has moved. Nobody else is there; the former holder has left in
good order.
"""

import signal
import time
from collections.abc import AsyncIterator
from statistics import median

from cluster import PATIENCE, Cluster
from failover import first_commit, spread_jobs
from figures import Figure
from members import wait_for
from setting import Setting

COUNT = 10_000
STARTS, QUICK_STARTS = 5, 2


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    async with setting.cluster() as cluster:
        cluster.start("a")
        await cluster.holder()
        await cluster.put(spread_jobs(COUNT))
        starts = [await start(cluster, f"s{n}") for n in range(QUICK_STARTS if setting.quick else STARTS)]
    measurement, note = f"start-up, {COUNT:,} jobs", f"median of {len(starts)}"
    committed, ticked = (median(times) for times in zip(*starts, strict=True))
    yield Figure(measurement=measurement, name="first fenced commit", value=committed, unit="s", note=note)
    yield Figure(
        measurement=measurement, name="plan complete, first tick", value=ticked, unit="s", target="≤ 2.000 s"
    )


async def start(cluster: Cluster, name: str) -> tuple[float, float]:
    """Replace the only member; returns the seconds to the first commit and to the first tick of the new."""
    await stop_all(cluster)
    before = await cluster.connection.store.terms.read()
    started_at = time.time()
    member = cluster.start(name)
    await cluster.watch_term(lambda term: term.epoch > before.epoch and term.watermark > before.watermark)
    ticked_at = time.time()

    async def committed() -> float | None:
        return first_commit([member], after_epoch=before.epoch)

    return await wait_for(
        committed, "the log of the first commit", timeout=PATIENCE
    ) - started_at, ticked_at - started_at


async def stop_all(cluster: Cluster) -> None:
    for member in list(cluster.members.values()):
        member.process.send_signal(signal.SIGTERM)
        cluster.dead.append(cluster.members.pop(member.name))
    for member in cluster.dead:
        await cluster.ended(member)
