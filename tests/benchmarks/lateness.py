"""Lateness: from the slot to the first line of the target, with many jobs due at the same second.

One instance holds, two stand by, all with their default settings. A burst is one second at which all jobs are
due; of five bursts each figure's median is given. Bursts are far enough apart to be over before the next.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from bursts import bursting_jobs, count_expressions, next_multiple
from cluster import Cluster, Noted
from figures import Figure, Spread
from setting import Setting

INTERVALS = {350: 10, 2_000: 15, 10_000: 30}  # seconds between bursts
TARGETS = {350: "≤ 0.050 s", 2_000: "≤ 0.200 s", 10_000: "≤ 1.000 s"}
BURSTS, QUICK_BURSTS = 5, 2
LEAD = timedelta(seconds=4)


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    for count in INTERVALS:
        async with setting.cluster() as cluster:
            for figure in await measure_bursts(cluster, count, setting, target=TARGETS[count]):
                yield figure


async def measure_bursts(
    cluster: Cluster, count: int, setting: Setting, *, name: str = "lateness", target: str = ""
) -> list[Figure]:
    interval, wanted = INTERVALS[count], QUICK_BURSTS if setting.quick else BURSTS
    await cluster.start_three()
    jobs = bursting_jobs(count, interval=interval, now=cluster.connection.clock.now())
    await cluster.put(jobs)
    first = next_multiple(cluster.connection.clock.now() + LEAD, interval)
    last = first + (wanted - 1) * timedelta(seconds=interval)
    await cluster.sleep_until(last + timedelta(seconds=interval / 2))
    await cluster.settled(last)
    bursts = by_slot(await cluster.noted(), first, last)
    spread = Spread.medians([Spread.of([line.lateness for line in lines]) for lines in bursts.values()])
    begun = sum(len(lines) for lines in bursts.values())
    note = (
        f"median of {len(bursts)} bursts; {begun:,} of {wanted * count:,} slots run; "
        f"{count_expressions(jobs):,} expressions"
    )
    return spread.figures(f"{name}, {count:,} at once", target=target, note=note)


def by_slot(noted: list[Noted], first: datetime, last: datetime) -> dict[float, list[Noted]]:
    bursts: dict[float, list[Noted]] = defaultdict(list)
    for line in noted:
        if first.timestamp() <= line.slot <= last.timestamp():
            bursts[line.slot].append(line)
    return bursts
