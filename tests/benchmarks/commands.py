"""Commands: sent from another process, one connection, all at once; the time until the last is answered.

A trigger makes a run that is executed as well; pause and resume change a job and its version.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any

from bursts import NOOP
from figures import Figure
from setting import Setting

PUT = 10_000
COMMANDS, QUICK_COMMANDS = 5_000, 1_000
NEVER_SOON = "0 0 29 2 *"


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    count = QUICK_COMMANDS if setting.quick else COMMANDS
    async with setting.cluster() as cluster:
        await cluster.start_three()
        took = await cluster.put(far_jobs(PUT))
        put = f"putting {PUT:,} jobs"
        yield Figure(measurement=put, name="until all are answered", value=took, unit="s", target="≤ 3.000 s")
        yield Figure(measurement=put, name="rate", value=PUT / took, unit="/s")
        took = await cluster.put(far_jobs(PUT))
        yield Figure(measurement=put, name="again, nothing changed", value=took, unit="s")
        jobs = cluster.client.jobs
        names = [f"far-{number}" for number in range(count)]
        for verb in (jobs.trigger, jobs.pause, jobs.resume):
            took = await time_all([verb(name) for name in names])
            measurement = f"commands, {count:,} sent at once"
            yield Figure(
                measurement=measurement, name=f"{verb.__name__}s applied", value=count / took, unit="/s"
            )
            await cluster.settled()


def far_jobs(count: int) -> list[dict[str, Any]]:
    """Return jobs that are not due before the next leap day."""
    return [
        {"name": f"far-{number}", "schedule": {"cron": NEVER_SOON}, "target": NOOP} for number in range(count)
    ]


async def time_all(sending: Sequence[Awaitable[Mapping[str, Any]]]) -> float:
    """Return the seconds until all are answered; raises the first refusal."""
    started_at = time.perf_counter()
    await asyncio.gather(*sending)
    return time.perf_counter() - started_at
