"""Recovery without a flood: what reaches a webhook host when everything comes back after an hour.

2,000 hourly webhook jobs have missed their slot. The outage is made by dating back what the database says:
the watermark by an hour, and from when the jobs count by two.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from figures import Figure, Spread
from pymongo import AsyncMongoClient
from setting import Setting
from startup import stop_all

COUNT, QUICK_COUNT = 2_000, 500
OUTAGE = timedelta(hours=1)
PATIENCE = 180.0
STARTED_WITHIN = 5.0


async def measure(setting: Setting) -> AsyncIterator[Figure]:
    count = QUICK_COUNT if setting.quick else COUNT
    arrived: list[float] = []
    runner, port = await receive(arrived)
    try:
        async with setting.cluster() as cluster:
            cluster.start("a")
            await cluster.holder()
            await cluster.put([*hourly_jobs(count, port), live_job()])
            await stop_all(cluster)
            await date_back(setting.mongo_url, cluster.settings.namespace)
            restarted_at = time.time()
            cluster.start("b")
            async with asyncio.timeout(PATIENCE):
                while len(arrived) < count:  # noqa: ASYNC110  other processes' doing
                    await asyncio.sleep(0.2)
            noted = await cluster.noted()
    finally:
        await runner.cleanup()
    live = Spread.of([line.lateness for line in noted if line.slot > restarted_at + STARTED_WITHIN])
    rate, name = cluster.settings.catch_up_rate, f"recovery, {count:,} webhooks missed"
    yield Figure(
        measurement=name,
        name="most in any second",
        value=most_in_a_second(arrived),
        unit="/s",
        target=f"≤ {rate}",
    )
    yield Figure(measurement=name, name="from first to last", value=arrived[-1] - arrived[0], unit="s")
    yield Figure(measurement=name, name="live slots meanwhile, p99", value=live.p99, unit="s")


async def receive(arrived: list[float]) -> tuple[web.AppRunner, int]:
    """Start the webhooks' host; it notes when each request arrives."""

    async def note(_: web.Request) -> web.Response:
        arrived.append(time.monotonic())
        return web.Response(status=204)

    application = web.Application()
    application.router.add_post("/", note)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


def hourly_jobs(count: int, port: int) -> list[dict[str, Any]]:
    """Return jobs whose last slot was half an hour ago."""
    minute = (datetime.now(UTC) - OUTAGE / 2).minute
    target = {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "method": "POST"}
    return [
        {"name": f"missed-{number}", "schedule": {"cron": f"{minute} * * * *"}, "target": target}
        for number in range(count)
    ]


def live_job() -> dict[str, Any]:
    return {"name": "live", "schedule": {"every": "1s"}, "target": {"type": "handler", "name": "noop"}}


async def date_back(url: str, namespace: str) -> None:
    """Make the database look as if nobody had held the baton for the length of the outage."""
    client = AsyncMongoClient[dict[str, Any]](url, tz_aware=True)
    try:
        database = client.get_default_database("cronexec")
        now = datetime.now(UTC).replace(microsecond=0)
        for collection in ("jobs", "job_versions"):
            await database[f"{namespace}.{collection}"].update_many(
                {}, {"$set": {"from_at": now - 2 * OUTAGE}}
            )
        await database[f"{namespace}.runs"].delete_many({})
        await database[f"{namespace}.term"].update_one({"_id": "term"}, {"$set": {"watermark": now - OUTAGE}})
    finally:
        await client.close()


def most_in_a_second(instants: list[float]) -> int:
    most, start = 0, 0
    for end, instant in enumerate(instants):
        while instant - instants[start] >= 1.0:
            start += 1
        most = max(most, end - start + 1)
    return most
