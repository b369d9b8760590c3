"""Steady load: 1,000 jobs every second and 350 every minute, for 60 seconds.

What was run, and what twice, is counted from what the handlers noted, not from the ledger; the ledger is
verified besides. The processor time is the holder's.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from bursts import NOOP, next_multiple
from cluster import Cluster, cpu_seconds
from figures import Figure, Spread
from members import Member
from setting import Setting

from cronexec.domain.schedule import Schedule
from cronexec.verify import Verified, verify_ledger

EVERY_SECOND, EVERY_MINUTE = 1_000, 350
SECONDS, QUICK_SECONDS = 60, 15
LEAD = timedelta(seconds=8)
LAST_STARTS = timedelta(seconds=2)
MEASUREMENT = "steady, 1,000/s and 350/min"


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    seconds = QUICK_SECONDS if setting.quick else SECONDS
    async with setting.cluster() as cluster:
        holder = await cluster.start_three()
        first = next_multiple(cluster.connection.clock.now() + LEAD, 1)
        last = first + timedelta(seconds=seconds - 1)
        jobs = steady_jobs(first, last)
        await cluster.put(jobs)
        cpu = await cpu_per_second(cluster, holder, first, last + timedelta(seconds=1))
        await asyncio.sleep(LAST_STARTS.total_seconds())
        await cluster.settled(last)
        noted = await cluster.noted()
        verified = await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)
    due = count_slots(jobs, first, last)
    times = Counter((line.job, line.slot, line.attempt) for line in noted)
    yield Figure(measurement=MEASUREMENT, name=f"slots due in {seconds} s", value=due, unit="")
    yield Figure(measurement=MEASUREMENT, name="slots run", value=len(times), unit="", target="all")
    doubled = len(noted) - len(times)
    yield Figure(measurement=MEASUREMENT, name="runs doubled", value=doubled, unit="", target="0")
    spread = Spread.of([line.lateness for line in noted])
    for figure in spread.figures(MEASUREMENT, target="≤ 0.250 s"):
        yield figure
    yield Figure(measurement=MEASUREMENT, name="holder's CPU", value=cpu * 100, unit="% of a core")
    yield ledger_figure(verified)


def steady_jobs(first: datetime, last: datetime) -> list[dict[str, Any]]:
    """Return jobs whose slots are those from `first` to `last`, both included."""
    bounds = {"start": first, "end": last}
    each_minute = {"cron": f"{(first + (last - first) / 2).second} * * * * *", **bounds}
    schedules = [{"every": "1s", **bounds}] * EVERY_SECOND + [each_minute] * EVERY_MINUTE
    return [
        {"name": f"steady-{number}", "schedule": schedule, "target": NOOP}
        for number, schedule in enumerate(schedules)
    ]


def count_slots(jobs: list[dict[str, Any]], first: datetime, last: datetime) -> int:
    second = timedelta(seconds=1)
    schedules = [Schedule.from_document(job["schedule"], name=job["name"]) for job in jobs]
    return sum(1 for schedule in schedules for _ in schedule.slots(first - second, last + second))


async def cpu_per_second(cluster: Cluster, member: Member, since: datetime, until: datetime) -> float:
    """Return the processor seconds that the member uses for each second between two instants."""
    await cluster.sleep_until(since)
    before = cpu_seconds(member)
    await cluster.sleep_until(until)
    return (cpu_seconds(member) - before) / (until - since).total_seconds()


def ledger_figure(verified: Verified) -> Figure:
    total = verified.total
    skips = "".join(f", {count:,} skipped ({reason})" for reason, count in total.skips.items())
    return Figure(
        measurement=MEASUREMENT,
        name="ledger: missing + doubled",
        value=total.missing + total.doubled + total.unexpected,
        unit="",
        target="0",
        note=f"{total.due:,} due, {total.run:,} run{skips}",
    )
