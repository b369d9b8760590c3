"""The promise under load.

Holders are killed and stopped while 350 jobs run every second, and every slot is accounted for once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from aiohttp import web
from harness import FULL, Cluster

from cronexec.domain.run import Run, RunState
from cronexec.verify import Verified, verify_ledger

SECONDS = 60 if FULL else 30
HANDLERS, THREADED, WEBHOOKS, SHELLS = 200, 30, 100, 20
QUICK = {"overlap": "allow", "misfire": {"grace": "5m"}}  # every slot is wanted, however late


@asynccontextmanager
async def receiver(cluster: Cluster) -> AsyncIterator[str]:
    """Yield the URL of a receiver of webhooks, which leaves the same evidence as handlers do."""
    with cluster.evidence_file.open("a") as file:

        async def leave(request: web.Request) -> web.Response:
            head = request.headers
            line = f"{head['X-Cronexec-Job']} {head['X-Cronexec-Slot']} {head['X-Cronexec-Attempt']}\n"
            file.write(line)
            file.flush()
            return web.Response(status=204)

        app = web.Application()
        app.router.add_post("/", leave)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()


def jobs(cluster: Cluster, url: str, end: datetime) -> list[dict[str, object]]:
    shell = f'echo "$CRONEXEC_JOB $CRONEXEC_SLOT $CRONEXEC_ATTEMPT" >> {cluster.evidence_file}'
    kinds: list[tuple[str, int, dict[str, object]]] = [
        ("quick", HANDLERS, {"type": "handler", "name": "quick"}),
        ("threaded", THREADED, {"type": "handler", "name": "threaded"}),
        ("webhook", WEBHOOKS, {"type": "webhook", "url": url}),
        ("shell", SHELLS, {"type": "shell", "command": shell}),
    ]
    return [
        {"name": f"{kind}-{number}", "schedule": {"every": "1s", "end": end}, "target": target, **QUICK}
        for kind, count, target in kinds
        for number in range(count)
    ]


async def verify(cluster: Cluster) -> Verified:
    return await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)


@pytest.mark.load
@pytest.mark.parametrize("fault", ["kill -9", "SIGTERM"])
async def test_every_slot_is_run_once_while_holders_go(cluster: Cluster, fault: str) -> None:
    async with receiver(cluster) as url:
        for name in ("a", "b", "c"):
            cluster.start(name, CRONEXEC_INSTANCE_LOST_AFTER="16s")
        await cluster.holder()
        end = cluster.connection.clock.now().replace(microsecond=0) + timedelta(seconds=SECONDS + 10)
        await cluster.put(jobs(cluster, url, end))
        killed: dict[str, datetime] = {}
        for number in range(5):
            await asyncio.sleep(SECONDS / 6)
            record = await cluster.holder()
            cluster.start(f"{'abcde'[number]}{number}", CRONEXEC_INSTANCE_LOST_AFTER="16s")
            if fault == "kill -9":
                killed[await cluster.kill_holder()] = cluster.connection.clock.now()
            else:
                cluster.terminate(str(record.holder_name))
            await cluster.holder(other_than=record.holder_name)
        await cluster.settled(end, timeout=90)
        for member in cluster.dead:
            assert await cluster.ended(member) in (0, -9)
        result = await verify(cluster)
        await judge(cluster, result, killed=killed)


async def judge(cluster: Cluster, result: Verified, *, killed: dict[str, datetime]) -> None:
    total = result.total
    assert (total.missing, total.doubled) == (0, 0), total
    assert total.due > SECONDS * 300
    lines = cluster.lines()
    assert [line for line, times in lines.items() if times > 1] == []
    without_line = 0
    async for run in cluster.connection.store.runs.scheduled():
        there = (run.job, run.slot.strftime("%Y-%m-%dT%H:%M:%SZ"), run.attempt) in lines
        if run.state is RunState.SUCCEEDED:
            assert there, f"{run.id} succeeded and left no line"
        elif run.state is not RunState.SKIPPED:
            assert run.state is RunState.ABANDONED, f"{run.id} is {run.state}: {run.outcome}"
            without_line += not there
            was_running_at_kill(run, killed)
    assert without_line <= total.abandoned
    if not killed:
        assert total.abandoned == 0, "a stop interrupts nothing"
        assert len(lines) == total.run == total.due


def was_running_at_kill(run: Run, killed: dict[str, datetime]) -> None:
    assert run.executor is not None
    assert run.executor.name in killed, f"{run.id} was abandoned by an instance that was not killed"
    assert run.started_at is not None
    assert run.started_at <= killed[run.executor.name]
