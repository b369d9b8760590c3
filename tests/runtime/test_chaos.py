"""Everything at once, at random but repeatable: faults of all calls, lost links, vanishing instances.

Whatever happens, in the end every slot is accounted for once, nothing began twice, no command is lost.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from bench import SUCCEEDED, Bench, Member, document, pass_time, until, vanish
from faults import Call, away, unclear

from cronexec.domain.run import Outcome, RunState
from cronexec.ports import Execution

pytestmark = pytest.mark.virtual_time

CALLS = (
    "terms.commit terms.read terms.raise_epoch terms.ping runs.start runs.give_back runs.finish runs.states "
    "runs.unsettled runs.beyond runs.get_many jobs.changed_since jobs.versions_of commands.replies "
    "instances.beat instances.list publisher.publish_baton publisher.reply"
)
JOBS = {"queueing": "queue", "skipping": "skip", "allowing": "allow"}
LASTS = 120.0


class Chaos:
    """Disturbs the members of a bench."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = random.Random(seed)  # noqa: S311  to be repeatable
        self.active: Counter[str] = Counter()
        self.overlapped: list[str] = []
        self.sent: list[str] = []
        self.names = iter(f"m{number}" for number in range(100))

    def start(self) -> Member:
        member = self.bench.make(next(self.names), max_running_handlers=4)
        for call in CALLS.split():
            error = unclear if call == "terms.commit" else away
            member.faults.always(call, partial(self.fault, error))
        for job in JOBS:
            member.targets.scripts[job] = self.work
        member.instance.start()
        return member

    async def fault(self, error: Callable[[], Exception], call: Call) -> Any:
        dice = self.random.random()
        if dice < 0.85:
            return await call()
        if dice < 0.9:
            await asyncio.sleep(self.random.uniform(0, 3))
            return await call()
        if dice < 0.95:
            await call()
        raise error()

    async def work(self, execution: Execution) -> Outcome:
        job = execution.run.job
        self.active[job] += 1
        if self.active[job] > 1 and JOBS[job] != "allow":
            self.overlapped.append(execution.run.id)
        try:
            await asyncio.sleep(self.random.uniform(0, 4))
        finally:
            self.active[job] -= 1
        return SUCCEEDED

    async def disturb(self) -> None:
        loop = asyncio.get_running_loop()
        until_at = loop.time() + LASTS
        while loop.time() < until_at:
            await asyncio.sleep(self.random.uniform(0, 6))
            self.random.choice(
                [self.drop_links, self.vanish, self.stop, self.command, self.command, self.baton]
            )()

    def living(self) -> list[Member]:
        return [member for member in self.bench.members if member.alive]

    def drop_links(self) -> None:
        self.bench.hub.drop_links()

    def baton(self) -> None:
        self.bench.insert_baton()

    def vanish(self) -> None:
        member = self.random.choice(self.living())
        if not member.instance.dispatcher.running:  # whose effects would go on in a process that is gone
            vanish(member)
            self.start()

    def stop(self) -> None:
        member = self.random.choice(self.living())
        member.alive = False
        self.stopping = asyncio.create_task(member.instance.stop(30))
        self.start()

    def command(self) -> None:
        job = self.random.choice(list(JOBS))
        put = {"job": definition(job, self.random.randint(2, 5)).to_document()}
        kind, fields = self.random.choice(
            [
                ("job.put", put),
                ("job.put", put),
                ("job.pause", {"name": job}),
                ("job.resume", {"name": job}),
                ("job.trigger", {"name": job}),
                ("job.delete", {"name": job}),
                ("run.cancel", {"run": self.random.choice([*self.bench.database.runs, "none@never"])}),
                ("baton.release", {}),
            ]
        )
        self.sent.append(self.bench.send(kind, **fields))


def definition(job: str, seconds: int) -> Any:
    return document(
        job, {"every": f"{seconds}s"}, overlap=JOBS[job], misfire={"policy": "all", "grace": "5s"}
    )


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_everything_is_accounted_for_once(bench: Bench, seed: int) -> None:
    chaos = Chaos(bench, seed)
    await bench.seed(*(definition(job, 3) for job in JOBS))
    for _ in range(3):
        chaos.start()
    await chaos.disturb()
    for member in bench.members:
        for call in CALLS.split():
            member.faults.always(call, None)
    await until(
        lambda: all(command in bench.database.commands for command in chaos.sent),
        lambda: [command for command in chaos.sent if command not in bench.database.commands],
    )
    for job in JOBS:
        await bench.request("job.pause", name=job)
    await pass_time(100)
    verified = await bench.verified()
    assert verified.total.due > 30
    assert chaos.overlapped == []
    unsettled = [run for run in bench.database.runs.values() if not run.state.is_final]
    assert unsettled == []
    succeeded = {run.id for run in bench.database.runs.values() if run.state is RunState.SUCCEEDED}
    assert succeeded <= {line.run for line in bench.evidence}
    assert not [event for member in bench.members for event in member.said("service.crashed")]
    assert not [event for member in bench.members for event in member.said("candidate.crashed")]
