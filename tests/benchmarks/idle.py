"""Idle: what a holder and a standby use with 10,000 jobs of which none is due."""

import asyncio
from collections.abc import AsyncIterator

from cluster import cpu_seconds, resident_mb
from commands import far_jobs
from figures import Figure
from setting import Setting

COUNT = 10_000
SECONDS, QUICK_SECONDS = 20, 10
CALM = 5.0  # seconds until what the puts caused is over


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    seconds = QUICK_SECONDS if setting.quick else SECONDS
    async with setting.cluster() as cluster:
        holder = await cluster.start_three()
        await cluster.put(far_jobs(COUNT))
        await asyncio.sleep(CALM)
        standby = next(member for member in cluster.members.values() if member is not holder)
        members = {"holder": holder, "standby": standby}
        before = {role: cpu_seconds(member) for role, member in members.items()}
        await asyncio.sleep(seconds)
        used = {role: cpu_seconds(member) - before[role] for role, member in members.items()}
        resident = {role: resident_mb(member) for role, member in members.items()}
    for role in members:
        measurement = f"idle {role}, {COUNT:,} jobs"
        share = used[role] / seconds * 100
        yield Figure(measurement=measurement, name="CPU", value=share, unit="% of a core", target="≤ 2 %")
        yield Figure(
            measurement=measurement, name="memory", value=resident[role], unit="MB", target="≤ 150 MB"
        )
