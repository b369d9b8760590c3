"""What runs write is seen from anywhere as it comes, whoever holds the baton, and if their instance dies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import unused_port
from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.run import Run, RunState
from cronexec.watching import Sight, output_of_attempt, watch

YEARLY = {"cron": "0 0 1 1 *"}


def shell(name: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "schedule": YEARLY, "target": {"type": "shell", "command": command}} | fields


class Watched:
    """A run that is watched by another process than its instance, in the background."""

    def __init__(self, cluster: Cluster, run_id: str) -> None:
        self.sights: list[Sight] = []
        self._changed = asyncio.Condition()
        self.task = asyncio.create_task(self._watch(cluster, run_id))

    async def _watch(self, cluster: Cluster, run_id: str) -> None:
        async for sight in watch(cluster.connection.store, run_id):
            async with self._changed:
                self.sights.append(sight)
                self._changed.notify_all()

    @property
    def text(self) -> str:
        return "".join(sight.text for sight in self.sights)

    async def shows(self, text: str, *, times: int = 1, timeout: float = 30) -> None:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: self.text.count(text) >= times)
        except TimeoutError:
            raise AssertionError(f"no {text!r} within {timeout:g} s; seen: {self.text!r}") from None


@asynccontextmanager
async def watching(cluster: Cluster, run_id: str) -> AsyncIterator[Watched]:
    watched = Watched(cluster, run_id)
    try:
        yield watched
    finally:
        watched.task.cancel()
        with suppress(asyncio.CancelledError):
            await watched.task


async def running(cluster: Cluster, run_id: str) -> Run:
    async def is_running() -> Run | None:
        run = await cluster.client.runs.get(run_id)
        return run if run is not None and run.state is RunState.RUNNING else None

    return await wait_for(is_running, f"{run_id} to run")


async def standing_by(cluster: Cluster) -> bool:
    states = [
        each.state for each in await cluster.client.instances() if each.executor.name in cluster.members
    ]
    return sorted(states) == ["holder", *["standby"] * (len(cluster.members) - 1)]


async def test_a_run_is_watched_on_while_the_baton_goes_from_hand_to_hand_and_holders_die(
    cluster: Cluster,
) -> None:
    gate = cluster.directory / "gate"
    cluster.start("a")
    await cluster.holder()
    tick = f'while [ ! -e "{gate}" ]; do echo tick; sleep 0.2; done; echo end'
    await cluster.put([shell("long", tick)])
    run_id = (await cluster.client.jobs.trigger("long", key="k"))["run"]
    run = await running(cluster, run_id)
    assert run.executor is not None
    assert run.executor.name == "a"
    async with watching(cluster, run_id) as watched:
        await watched.shows("tick\n")
        cluster.start("b")
        cluster.start("c")
        await wait_for(lambda: standing_by(cluster), "two standbys")
        await cluster.client.baton.release()
        await cluster.holder(other_than="a")
        killed = await cluster.kill_holder()
        seen = watched.text.count("tick\n")
        await cluster.holder(other_than=killed)
        await watched.shows("tick\n", times=seen + 5)
        gate.touch()
        await asyncio.wait_for(watched.task, 30)
        assert watched.text.endswith("tick\nend\n")
        assert watched.sights[-1].outcome is not None
        assert watched.sights[-1].outcome.state is RunState.SUCCEEDED
    kept = await cluster.client.runs.output(run_id)
    assert kept is not None
    assert kept.text == watched.text


async def test_what_a_killed_instance_had_written_is_still_there(cluster: Cluster) -> None:
    cluster.start("a", **IMPATIENT)
    await cluster.holder()
    await cluster.put([shell("lost", 'echo "half a backup"; sleep 600')])
    run_id = (await cluster.client.jobs.trigger("lost", key="k"))["run"]
    async with watching(cluster, run_id) as watched:
        await watched.shows("half a backup\n")
        cluster.kill("a")
        cluster.start("b", **IMPATIENT)
        await asyncio.wait_for(watched.task, 90)
        assert watched.sights[-1].run.state is RunState.ABANDONED
    assert watched.text == "half a backup\n"
    run = await cluster.client.runs.get(run_id)
    assert run is not None
    kept = await output_of_attempt(cluster.connection.store, run, 1)
    assert kept is not None
    assert kept.text == "half a backup\n"


async def test_a_retry_is_watched_after_the_attempt_before_it_and_both_outputs_are_kept(
    cluster: Cluster,
) -> None:
    cluster.start("a")
    await cluster.holder()
    fails_once = 'echo "attempt $CRONEXEC_ATTEMPT"; [ "$CRONEXEC_ATTEMPT" = 2 ]'
    retry = {"max_attempts": 2, "initial_delay": "100ms"}
    await cluster.put([shell("again", fails_once, retry=retry)])
    run_id = (await cluster.client.jobs.trigger("again", key="k"))["run"]
    async with watching(cluster, run_id) as watched:
        await asyncio.wait_for(watched.task, 60)
    assert watched.text == "attempt 1\nattempt 2\n"
    ended = [(sight.attempt, sight.outcome.state) for sight in watched.sights if sight.outcome is not None]
    assert ended == [(1, RunState.FAILED), (2, RunState.SUCCEEDED)]
    for attempt in (1, 2):
        kept = await cluster.client.runs.output(run_id, attempt=attempt)
        assert kept is not None
        assert kept.text == f"attempt {attempt}\n"


@pytest.mark.parametrize("end", ["finish", "timeout"])
async def test_a_webhook_that_answers_202_lasts_until_it_calls_back_or_its_timeout(
    cluster: Cluster, end: str
) -> None:
    asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def accept(request: web.Request) -> web.Response:
        head = request.headers
        await asked.put((head["X-Cronexec-Callback"], head["X-Cronexec-Callback-Token"]))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/", accept)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port, url = unused_port(), f"http://127.0.0.1:{runner.addresses[0][1]}/"
    callback = {
        "CRONEXEC_CALLBACK_URL": f"http://127.0.0.1:{port}",
        "CRONEXEC_CALLBACK_LISTEN": f"127.0.0.1:{port}",
    }
    cluster.start("a", **callback)
    await cluster.holder()
    target = {"type": "webhook", "url": url, "wait": "callback"}
    timeout = "60s" if end == "finish" else "2s"
    await cluster.put([{"name": "later", "schedule": YEARLY, "target": target, "timeout": timeout}])
    run_id = (await cluster.client.jobs.trigger("later", key="k"))["run"]
    where, token = await asyncio.wait_for(asked.get(), 30)
    async with watching(cluster, run_id) as watched, ClientSession() as session:
        bearer = {"Authorization": f"Bearer {token}"}
        report: dict[str, Any] = {"log": "half", "progress": {"done": 1, "total": 2}}
        async with session.post(where, json=report, headers=bearer) as answer:
            assert await answer.json() == {"state": "running"}
        await watched.shows("half\n")
        if end == "finish":
            async with session.post(where, json={"finish": {"state": "succeeded"}}, headers=bearer) as answer:
                assert await answer.json() == {"state": "succeeded"}
        await asyncio.wait_for(watched.task, 30)
        async with session.post(where, json=report, headers=bearer) as answer:
            assert answer.status == 409
    state = RunState.SUCCEEDED if end == "finish" else RunState.TIMED_OUT
    run = watched.sights[-1].run
    assert (run.state, run.progress and run.progress.done) == (state, 1)
    assert watched.text == "half\n"
    await runner.cleanup()
