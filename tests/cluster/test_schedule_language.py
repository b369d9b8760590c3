"""Jitter, exclusions and H on real servers: they are what they were after the holder was killed."""

from datetime import datetime, timedelta

from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.job import JobDocument
from cronexec.domain.run import Run, RunState
from cronexec.ports import RunFilter
from cronexec.verify import verify_ledger

SECOND = timedelta(seconds=1)
QUICK = {"overlap": "allow", "misfire": {"grace": "5m"}, "target": {"type": "handler", "name": "quick"}}


async def runs_of(cluster: Cluster, job: str) -> list[Run]:
    return await cluster.client.runs.list(RunFilter(job=job, limit=1000))


async def decided(cluster: Cluster, until: datetime) -> None:
    async def is_decided() -> bool:
        return (await cluster.connection.store.terms.read()).watermark >= until

    await wait_for(is_decided, f"the slots up to {until} to be decided", timeout=60)


async def test_jitter_exclusions_and_h_survive_the_holder(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.start(name, **IMPATIENT)
    await cluster.holder()
    begin = cluster.connection.clock.now().replace(microsecond=0) + 3 * SECOND
    end = begin + 9 * SECOND
    window = {"start": begin.isoformat(), "end": end.isoformat()}
    spread = {"every": "2s", "jitter": "2s", **window}
    odd = {"cron": "* * * * * *", "exclude": [{"cron": "*/2 * * * * *"}], **window}
    own = {"cron": "H/5 * * * * *", **window}
    schedules = {"odd": odd, "own": own, **{f"spread-{number}": spread for number in range(10)}}
    documents = [{"name": name, "schedule": schedule, **QUICK} for name, schedule in schedules.items()]
    await cluster.put(documents)
    await decided(cluster, begin + 4 * SECOND)
    await cluster.kill_holder()
    await cluster.settled(end)

    for document in documents[2:]:
        read = JobDocument.parse(document)
        for run in await runs_of(cluster, read.name):
            starts_at = read.schedule.starts_at(run.slot, job=read.name)
            assert starts_at is not None
            assert run.started_at is not None
            assert run.started_at >= starts_at
    entries = await runs_of(cluster, "odd")
    assert {(run.slot.second % 2, run.reason) for run in entries if run.state is RunState.SKIPPED} == {
        (0, "excluded")
    }
    assert {run.slot.second % 2 for run in entries if run.state is not RunState.SKIPPED} == {1}
    assert len({run.slot.second % 5 for run in await runs_of(cluster, "own")}) == 1
    verified = await verify_ledger(cluster.connection.store, retention=cluster.settings.retention)
    assert verified.total.ok, verified.total.findings
    assert verified.total.skips == {"excluded": 5}
    assert verified.total.due == 10 + 2 + 10 * 5
