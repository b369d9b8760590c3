"""One history: a namespace, its instances, an application on each that sends commands, and what befalls them.

It has three parts. While it *lasts*, faults come and go. Then everything heals, and it *settles*: whatever
happened, within a bounded time somebody holds, every command is safe, every run has ended, and there is one
baton. In the end the whole ledger is verified once more, from the documents.
"""

import asyncio
import json
import random as global_random
from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from disturber import Disturber
from history import History
from mutation import NOTHING, Mutation
from orders import CommandQueue, Orders
from scenario import definition, draw
from simulated_broker import BrokerServer
from simulated_clock import NOON, ServerClock
from simulated_loop import NOBODY, SimulatedLoop, StandstillError
from simulated_member import Member, Servers
from simulated_network import Network
from simulated_store import SimulatedDatabase
from watcher import WatchedRuns, Watcher

from cronexec.adapters.memory_hub import COMMANDS
from cronexec.adapters.memory_store import MemoryStore
from cronexec.domain.job import Job, JobDocument, JobVersion
from cronexec.domain.run import RunState
from cronexec.errors import CronexecError
from cronexec.verify import verify_ledger

SETTLES_WITHIN = 60.0
LOOK_INTERVAL = 0.25
STILL_FOR = 1.5
HANDED_OVER_AFTER = 2.0
QUICKLY_HANDED_OVER_AFTER = 0.5  # where nothing can be under way that hangs
COMMAND_TYPES = (
    *("job.put", "job.pause", "job.resume", "job.delete", "job.trigger"),
    *("job.put", "job.trigger", "run.cancel", "run.retry", "baton.release", "job.unheard-of"),
    *("job.pause", "job.skip", "job.blackout", "job.unblackout", "job.backfill"),
)
YEAR = timedelta(days=365)
_kept: list[Any] = []  # worlds are not taken apart: their tasks would run their last words


class World:
    """`run` lives one history through."""

    def __init__(self, seed: int, mutation: Mutation = NOTHING) -> None:
        _kept.append(self)
        self.scenario = draw(seed)
        self._random = Random(f"history {seed}")  # noqa: S311  to be repeatable
        global_random.seed(f"jitter {seed}")
        self.loop = SimulatedLoop()
        self.loop.set_exception_handler(self._crashed)
        self.history = History(self.loop.time)
        self.history.over = self.loop.stop
        self.members: list[Member] = []
        self._names = iter(f"m{number}" for number in range(1, 1000))
        self._mutation = mutation
        self._is_healed = False
        self.servers = self._servers()
        self._disturber = Disturber(self, self._random)

    def _servers(self) -> Servers:
        database = SimulatedDatabase(ServerClock(self.loop.time))
        watcher = Watcher(self.history, database)
        database.runs = WatchedRuns(watcher)
        network = Network(self.loop, self._random)
        network.slow = self.scenario.slow
        broker = BrokerServer(network, self.history, watcher)
        broker.queues[COMMANDS] = CommandQueue()
        watcher.orders = Orders(self.history, database, broker.queues)
        return Servers(
            loop=self.loop,
            network=network,
            history=self.history,
            watcher=watcher,
            broker=broker,
            database=database,
            terms_type=self._mutation.terms,
            broker_type=self._mutation.broker,
            instance_type=self._mutation.instance,
        )

    def _crashed(self, _: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and "never retrieved" not in context["message"]:
            self.history.violate("crash", f"{context['message']}: {error!r}")

    def run(self) -> History:
        """Live it through, to the end or to the first violation."""
        with self._mutation.applied(), self._mutation.surroundings(self.scenario):
            try:
                self.loop.run_until_complete(self.loop.create_task(self._live(), context=NOBODY))
            except StandstillError as error:
                self.history.violate("liveness", str(error))
            except RuntimeError:
                if self.history.violation is None:
                    raise
        return self.history

    # --- the history ---

    async def _live(self) -> None:
        self._tell_scenario()
        self._seed_jobs()
        for _ in range(self.scenario.instances):
            self.start_member()
        await self._disturber.run()
        self._disturber.heal()
        self._is_healed = True
        await self._settle()
        await self._verify()

    def _tell_scenario(self) -> None:
        told = self.scenario
        self.history.add(
            "*",
            f"seed {told.seed}",
            lasts=told.lasts,
            disturbances=told.disturbances,
            fates=list(told.fates),
            jobs=[
                f"{job.name}/{next(iter(job.to_document()['schedule'].values()))}/{job.overlap.policy.value}/{job.misfire.policy.value}"
                for job in told.jobs
            ],
        )

    def _seed_jobs(self) -> None:
        """Have some of the jobs there from the start."""
        terms = MemoryStore(self.servers.database).store.terms
        if self._random.random() < 0.5:
            return  # everything begins with an empty database
        self._perform(terms.prepare())
        database = self.servers.database
        self._disturber.extra_baton()
        for document in self.scenario.jobs:
            assert database.term is not None
            database.term = replace(database.term, revision=database.term.revision + 1)
            self._seed_job(document, database.term.revision)

    def _seed_job(self, document: JobDocument, revision: int) -> None:
        database, name = self.servers.database, document.name
        job = Job(document=document, version=1, revision=revision, from_at=NOON, updated_at=NOON)
        database.jobs[name] = job
        database.versions[name, 1] = JobVersion(
            name=name, version=1, document=document, from_at=NOON, to_at=None
        )
        self.servers.watcher.orders.seeded(name, document.to_document())

    def _perform(self, work: Any) -> None:
        try:
            work.send(None)
        except StopIteration:
            return
        raise AssertionError("the in-memory store waited for something")

    # --- instances ---

    def start_member(self) -> Member:
        member = Member(next(self._names), self.servers, self.scenario, self._random, self._disturber.fate)
        self.members.append(member)
        if self._is_healed:
            member.client.fates.clear()
        elif self._random.random() < 0.1:
            member.targets.absent.add(self._random.choice(self.scenario.jobs).name)
        member.start()
        member.spawn(partial(self._application, member))
        return member

    def shut_down(self, member: Member, grace: float) -> None:
        self.history.add(member.name, "stop", grace=grace)
        member.is_stopping = True
        member.spawn(partial(self._stop, member, grace))
        if self.servers.network.reaches_all(member.process) and not self.servers.database.is_gone:
            asked_at = self.loop.time()
            is_quick = not self.scenario.fates and asked_at - member.calm_since > HANDED_OVER_AFTER
            within = QUICKLY_HANDED_OVER_AFTER if is_quick else HANDED_OVER_AFTER
            self.servers.network.after(within, self._check_handed_over, member, asked_at)

    async def _stop(self, member: Member, grace: float) -> None:
        began_at = self.loop.time()
        await member.instance.stop(grace)
        if member.calm_since < began_at and not self.scenario.slow:
            self._check_nothing_left(member)
        else:
            member.disturbed(lost=True)  # of what it could not record in time nobody hears
        member.die("exited")

    def _check_handed_over(self, member: Member, asked_at: float) -> None:
        """I8: whatever still runs, the baton goes first."""
        if member.calm_since >= asked_at or self.scenario.slow:
            return
        held = sum(each.batons() for each in self.servers.broker.sessions if each.process is member.process)
        if held:
            self.history.violate("I8", f"{member.name} was asked to stop, and keeps the baton")

    def _check_nothing_left(self, member: Member) -> None:
        left = [
            run.id
            for run in self.servers.database.runs.values()
            if run.state is RunState.RUNNING and run.executor == member.executor
        ]
        if left:
            self.history.violate("I8", f"{member.name} has stopped, and left {left} running")

    async def _application(self, member: Member) -> None:
        """Send commands now and then; what is not confirmed is sent again, with its id."""
        random = self._random
        number = 0
        while not member.is_stopping:
            await asyncio.sleep(random.expovariate(1.0 / self.scenario.commands_every))
            if self.loop.time() > self.scenario.lasts:
                return
            number += 1
            await self._send(member, f"{member.name}-{number}", self._command(random))

    def _command(self, random: Random) -> dict[str, Any]:
        job = random.choice(self.scenario.jobs)
        kind = random.choice(COMMAND_TYPES)
        fields: dict[str, Any] = {"name": job.name}
        if kind == "job.put":
            overlap = job.to_document().get("overlap", "queue")
            fields = {"job": definition(random, job.name, overlap).to_document()}
        elif kind == "baton.release":
            fields = {}
        elif kind in {"run.cancel", "run.retry"}:
            fields = {"run": random.choice([*self.servers.database.runs, "a@nothing"])}
        elif kind in {"job.pause", "job.blackout"} and random.random() < 0.7:
            fields["until" if kind == "job.pause" else "end"] = self._ahead(random)
        elif kind == "job.backfill":
            fields |= {"since": self._past(random, 12.0), "until": self._past(random, 4.0)}
            fields |= {"ran": random.choice(["refuse", "skip", "again"]), "limit": random.randint(1, 4)}
        elif kind == "job.skip":
            fields["count"] = random.randint(0, 4)
        return {"schema": 1, "type": kind, **fields}

    def _ahead(self, random: Random) -> str:
        now = self.servers.database.clock.now()
        return (now + timedelta(seconds=random.uniform(-1.0, 20.0))).isoformat()

    def _past(self, random: Random, most: float) -> str:
        now = self.servers.database.clock.now()
        return (now - timedelta(seconds=random.uniform(0.0, most))).isoformat()

    async def _send(self, member: Member, command_id: str, command: dict[str, Any]) -> None:
        body = json.dumps(command | {"id": command_id}).encode()
        self.history.add(member.name, f"sends {command['type']}", id=command_id)
        for _ in range(3):
            try:
                await member.broker.publish_command(body, command_id=command_id, reply_to="application")
            except CronexecError:
                await asyncio.sleep(self._random.uniform(0.0, 1.0))
            else:
                return

    # --- the end ---

    async def _settle(self) -> None:
        """Wait until everything is as it should be, and stays so for a moment."""
        until = self.loop.time() + SETTLES_WITHIN
        well_since: float | None = None
        while well_since is None or self.loop.time() - well_since < STILL_FOR:
            await asyncio.sleep(LOOK_INTERVAL)
            wrong = self._wrong()
            if not wrong and well_since is None:
                well_since = self.loop.time()
            elif wrong:
                well_since = None
            if self.loop.time() > until:
                self.history.violate("liveness", f"after {SETTLES_WITHIN:g} s: {wrong}")
                return

    def _wrong(self) -> str | None:
        """Return what is not yet as it should be in the end."""
        for look in (self._wrong_term, self._wrong_batons, self._wrong_commands, self._wrong_runs):
            if (wrong := look()) is not None:
                return wrong
        return None

    def _wrong_term(self) -> str | None:
        term = self.servers.database.term
        if term is None:
            return "there is no term document"
        holders = [each.name for each in self.members if each.lives and each.instance.candidate.holder]
        if len(holders) != 1:
            return f"the holders are {holders}"
        behind = self.servers.database.clock.now() - term.watermark
        return f"the watermark is {behind} behind" if behind > timedelta(seconds=1.5) else None

    def _wrong_batons(self) -> str | None:
        batons = self.servers.broker.batons()
        if 1 <= batons <= (2 if self.scenario.renew_interval < STILL_FOR else 1):
            return None
        return f"there are {batons} batons"

    def _wrong_commands(self) -> str | None:
        missing = self.servers.watcher.orders.missing()
        return f"commands are nowhere: {missing}" if missing else None

    def _wrong_runs(self) -> str | None:
        """Return the runs of the dead: the living's end by themselves, and others take their place."""
        living = {each.executor.id for each in self.members if each.lives}
        left = [
            run.id
            for run in self.servers.database.runs.values()
            if run.state is RunState.RUNNING and run.executor and run.executor.id not in living
        ]
        left += [
            run_id
            for each in self.members
            for run_id in self.servers.watcher.moves.running_at(each.executor)
            if each.lives and run_id not in each.instance.dispatcher.starting_or_running()
        ]
        oldest = self.servers.database.clock.now() - timedelta(seconds=30)
        left += [
            run.id
            for run in self.servers.database.runs.values()
            if run.state.value in {"queued", "running"} and run.slot < oldest
        ]
        return f"nobody ends {left}" if left else None

    async def _verify(self) -> None:
        verified = await verify_ledger(MemoryStore(self.servers.database).store, retention=YEAR)
        if not verified.total.ok:
            self.history.violate("I1", f"the ledger is not right: {verified.total.findings}")
        begun = self.servers.watcher.account.begun
        for run in self.servers.database.runs.values():
            if run.state is RunState.SUCCEEDED and (run.id, run.attempt) not in begun:
                self.history.violate("I7", f"{run.id} succeeded, and never began")
        self.servers.watcher.moves.check_successors()
        self.history.add("*", "verified", due=verified.total.due, begun=len(begun))
