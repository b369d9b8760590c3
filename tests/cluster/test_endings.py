"""Runs that do not end by themselves, on real servers: a timeout, a cancel, the death of their instance."""

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from harness import IMPATIENT, Cluster
from members import wait_for

from cronexec.domain.run import Run, RunState

PROGRAM = Path(__file__).with_name("ending_member.py")
YEARLY = {"cron": "0 0 1 1 *"}
QUICKLY = IMPATIENT | {"CRONEXEC_SHUTDOWN_GRACE": "1s"}  # nothing ends by itself
DAEMON = """
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a") as notes: notes.write(f"shell begun {os.getpid()}\\n")
time.sleep(100)
"""


class Place:
    """A web server that never answers, and a cluster with the file in which its handlers leave notes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.notes = cluster.directory / "notes"
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self.url = ""

    async def open(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/", self._hang)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}/".format(*runner.addresses[0][:2])
        return runner

    async def _hang(self, _request: web.Request) -> web.StreamResponse:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError

    async def start(self, *names: str) -> str:
        """Start members, and wait until one holds and all others stand by. Returns the holder's name."""
        started = [
            self.cluster.launch(each, PROGRAM, MEMBER_NOTES=str(self.notes), **QUICKLY) for each in names
        ]

        async def ready() -> bool:
            return all(member.events("candidate.standing_by") for member in started)

        await wait_for(ready, f"{names} to stand by")
        return str((await self.cluster.holder()).holder_name)

    def jobs(self, **fields: Any) -> list[dict[str, Any]]:
        """Return a job for every kind of target that can last."""
        daemon = shlex.join([sys.executable, "-I", "-S", "-c", DAEMON, str(self.notes)])
        shell = f"trap '' TERM; {daemon}; echo shell begun $$ >>{self.notes}; while :; do sleep 0.1; done"
        targets = {
            "webhook": {"type": "webhook", "url": self.url},
            "shell": {"type": "shell", "command": shell, "kill_after": "500ms"},
            "asynchronous": {"type": "handler", "name": "asynchronous"},
            "threaded": {"type": "handler", "name": "threaded"},
            "isolated": {
                "type": "handler",
                "name": "isolated",
                "isolation": "process",
                "kill_after": "500ms",
            },
        }
        return [
            {"name": name, "schedule": YEARLY, "target": target, **fields} for name, target in targets.items()
        ]

    async def trigger(self, *names: str) -> list[str]:
        return [(await self.cluster.client.jobs.trigger(name, key="k"))["run"] for name in names]

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def processes(self) -> list[int]:
        """Return those of shell commands and isolated handlers."""
        return [
            int(pid) for job, what, pid in self.lines() if job in ("shell", "isolated") and what == "begun"
        ]

    async def all_begun(self) -> None:
        async def begun() -> bool:
            return self.asked.is_set() and sum(what == "begun" for _, what, _ in self.lines()) == 6

        await wait_for(begun, "a webhook, two processes each of two runs, and two other handlers")

    async def all_gone(self, *, timeout: float = 15) -> None:
        async def gone() -> bool:
            return not any(alive(pid) for pid in self.processes())

        await wait_for(gone, "the end of all processes", timeout=timeout)

    async def reach(self, run_ids: list[str], state: RunState, timeout: float = 40) -> list[Run]:
        async def reached() -> list[Run] | None:
            runs = [await self.cluster.client.runs.get(run_id) for run_id in run_ids]
            found = [run for run in runs if run is not None and run.state is state]
            return found if len(found) == len(run_ids) else None

        return await wait_for(reached, f"{run_ids} to be {state.value}", timeout=timeout)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
async def place(cluster: Cluster) -> AsyncIterator[Place]:
    place = Place(cluster)
    runner = await place.open()
    yield place
    await runner.cleanup()


NAMES = ("webhook", "shell", "asynchronous", "threaded", "isolated")


async def assert_ended(place: Place) -> None:
    """Every kind of target has ended what can be ended; a thread was told, and has returned."""
    await asyncio.wait_for(place.left.wait(), 10)
    assert [pid for pid in place.processes() if alive(pid)] == []

    async def told() -> bool:
        return {job for job, what, _ in place.lines() if what == "ended"} == {
            "asynchronous",
            "threaded",
            "isolated",
        }

    await wait_for(told, "the handlers to have ended")


async def test_a_timeout_ends_every_kind_of_run(place: Place) -> None:
    await place.start("a")
    await place.cluster.put(place.jobs(timeout="4s"))
    run_ids = await place.trigger(*NAMES)
    runs = await place.reach(run_ids, RunState.TIMED_OUT)
    assert {run.outcome.error for run in runs if run.outcome} == {"no end within 4 s"}
    assert len(place.processes()) == 4
    await assert_ended(place)


async def test_a_cancel_from_another_process_ends_every_kind_of_run(place: Place) -> None:
    await place.start("a", "b")
    await place.cluster.put(place.jobs())
    run_ids = await place.trigger(*NAMES)
    await place.all_begun()
    executor = (await place.reach(run_ids, RunState.RUNNING))[0].executor
    assert executor is not None
    await place.cluster.client.baton.release()
    await place.cluster.holder(other_than=executor.name)
    for run_id in run_ids:
        await place.cluster.client.runs.cancel(run_id)
    runs = await place.reach(run_ids, RunState.CANCELLED)
    assert {run.executor for run in runs} == {executor}, "cancelled where they ran, by another holder"
    await assert_ended(place)


async def test_nothing_is_left_of_the_runs_of_a_killed_instance(place: Place) -> None:
    await place.start("a", "b")
    await place.cluster.put(place.jobs())
    run_ids = await place.trigger(*NAMES)
    await place.all_begun()
    await place.cluster.kill_holder()
    await place.all_gone()
    runs = await place.reach(run_ids, RunState.ABANDONED, timeout=60)
    assert {run.outcome.reason for run in runs if run.outcome} == {"instance_lost"}


async def test_a_run_that_overruns_is_marked_whoever_holds_the_baton_by_then(place: Place) -> None:
    holder = await place.start("a", "b")
    (job,) = [job for job in place.jobs(expected="4s") if job["name"] == "threaded"]
    brief = {
        "name": "brief",
        "schedule": YEARLY,
        "expected": "4s",
        "target": {"type": "handler", "name": "brief", "isolation": "process"},
    }
    await place.cluster.put([job, brief])
    (run_id,) = await place.trigger("threaded")
    (other,) = await place.trigger("brief")
    await place.reach([run_id], RunState.RUNNING)
    await place.cluster.client.baton.release()
    await place.cluster.holder(other_than=holder)

    async def marked() -> Run | None:
        run = await place.cluster.client.runs.get(run_id)
        return run if run is not None and run.overrun_at is not None else None

    run = await wait_for(marked, "the mark of an overrun")
    assert run.state is RunState.RUNNING
    assert run.started_at is not None
    assert run.overrun_at is not None
    assert 4 <= (run.overrun_at - run.started_at).total_seconds() < 30
    told = place.cluster.members[holder].events("run.overrun")
    assert [(each["run"], each["expected_s"]) for each in told] == [(run_id, 4.0)]
    (fine,) = await place.reach([other], RunState.SUCCEEDED)
    assert fine.overrun_at is None
