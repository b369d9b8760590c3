"""One instance of the real runtime, in its own process, with simulated ports; and what happens to it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from history import History, InstanceLog
from scenario import HOLD_TOGETHER, Scenario
from simulated_broker import BrokerServer, SimulatedBroker
from simulated_clock import SimulatedClock
from simulated_loop import Process, SimulatedLoop
from simulated_network import Network
from simulated_store import DatabaseClient, Fates, SimulatedDatabase, SimulatedTerms, remote_store
from simulated_targets import Look, SimulatedTargets
from watcher import Watcher

from cronexec.domain.run import Executor
from cronexec.runtime.context import Context
from cronexec.runtime.instance import Instance
from cronexec.runtime.tally import Tally
from cronexec.settings import Settings


@dataclass(kw_only=True)
class Servers:
    """What the instances share."""

    loop: SimulatedLoop
    network: Network
    history: History
    watcher: Watcher
    broker: BrokerServer
    database: SimulatedDatabase
    terms_type: type[SimulatedTerms]
    broker_type: type[SimulatedBroker]
    instance_type: type[Instance]


class NoWatchdog:
    """In the place of the watchdog's thread: `Member.block` does what it would."""

    def beat(self) -> None:
        """Nobody looks."""

    def start(self) -> None:
        """Start no thread."""

    def stop(self) -> None:
        """There is none."""


class Member:
    """`calm_since`: when it last met a fault; `is_stopping`: it was asked to end."""

    def __init__(
        self,
        name: str,
        servers: Servers,
        scenario: Scenario,
        random: Random,
        on_fate: Callable[["Member", str], None],
    ) -> None:
        self.name = name
        self.servers = servers
        self.process = Process(name)
        self.clock = SimulatedClock(
            servers.loop.time,
            drift=random.uniform(-0.005, 0.005),
            wrong_by=timedelta(seconds=random.choice((0, 0, 10, -10, 7200, -7200))),
        )
        self.executor = Executor(id=f"i-{name}", name=name, datacenter="east")
        self.is_stopping = False
        self.calm_since = 0.0
        self._lease = float(HOLD_TOGETHER["lease"])
        self.client = DatabaseClient(
            servers.network,
            servers.database,
            self.process,
            fates=Fates(random, dict(scenario.fates)),
            timeout=self._lease,
            history=servers.history,
            on_fate=lambda _, fate: on_fate(self, fate),
        )
        terms = servers.terms_type(servers.database, servers.watcher)
        self.store = remote_store(servers.database, terms, self.client, self.clock)
        self.broker = servers.broker_type(servers.broker, self.process)
        self.targets = SimulatedTargets(
            servers.watcher.effects,
            self.executor,
            random,
            longest=scenario.longest_run,
            look=self._look,
            stood_still_after=lambda instant: self.process.continued_at > instant,
        )
        self.instance = self.process.run(self._make, scenario)
        if scenario.slow:
            self.disturbed(lost=True)  # from time to time nobody hears of it

    def _make(self, scenario: Scenario) -> Instance:
        lengths = {name: timedelta(seconds=seconds) for name, seconds in HOLD_TOGETHER.items()}
        renew_interval = timedelta(seconds=scenario.renew_interval)
        settings = Settings.model_construct(
            **Settings(
                instance=self.name,
                max_running_handlers=scenario.places,
                baton_renew_interval=renew_interval,
                **lengths,
            ).__dict__
        )
        instance = self.servers.instance_type(
            Context(
                executor=self.executor,
                settings=settings,
                clock=self.clock,
                store=self.store,
                broker=self.broker,  # type: ignore[arg-type]
                publisher=self.broker,  # type: ignore[arg-type]
                targets=self.targets,
                log=InstanceLog(self.servers.history, self.name),  # type: ignore[arg-type]
                tally=Tally(self.clock.now),
            )
        )
        instance.watchdog = NoWatchdog()  # type: ignore[assignment]
        return instance

    def _look(self) -> Look:
        """Return what is left of the lease now, by the calls that were acknowledged."""
        lease_until = self.store.terms.acknowledged_at + self._lease  # type: ignore[attr-defined]
        return Look(at=self.servers.loop.time(), lease_left=lease_until - self.clock.monotonic())

    def start(self) -> None:
        self.servers.history.add(self.name, "starts", wrong_by=self.clock.wrong_by.total_seconds() or None)
        self.process.run(self.instance.start)

    def spawn(self, work: Callable[[], Any]) -> None:
        """Begin a coroutine in this process."""
        self.process.run(self.servers.loop.create_task, work())

    @property
    def lives(self) -> bool:
        return not self.process.is_dead

    def disturbed(self, *, lost: bool) -> None:
        """Take note of a fault. `lost`: others may take it for gone."""
        self.calm_since = self.servers.loop.time()
        if lost:
            self.servers.watcher.account.disturbed.add(self.executor.id)

    # --- what happens to its process ---

    def halt(self, seconds: float, *, gives_up_after: float) -> None:
        """Stop the process for a while; the broker gives its connections up when it misses heartbeats."""
        if not self.process.is_running:
            return
        self.servers.history.add(self.name, "process.stopped", seconds=seconds)
        self.disturbed(lost=True)
        self.process.is_stopped = True
        self.servers.network.after(seconds, self.go_on)
        if seconds > gives_up_after:
            drop = partial(self.servers.broker.drop, self.process, "missed heartbeats")
            self.servers.network.after(gives_up_after, drop)

    def block(self, seconds: float, *, gives_up_after: float) -> None:
        """Let the loop stand still; the watchdog's thread goes on, and ends the term."""
        self.halt(seconds, gives_up_after=gives_up_after)
        if seconds > self._lease:
            self.servers.network.after(self._lease, self._bark)

    def _bark(self) -> None:
        if self.process.is_stopped and not self.process.is_dead:
            self.servers.history.add(self.name, "engine.blocked")
            self.instance.candidate.end_term("engine_blocked")

    def go_on(self) -> None:
        if self.process.is_stopped and not self.process.is_dead:
            self.servers.history.add(self.name, "process.continued")
            self.disturbed(lost=True)
            self.servers.loop.resume(self.process)

    def die(self, how: str) -> None:
        """End the process; the kernel closes its connections."""
        if self.process.is_dead:
            return
        self.servers.history.add(self.name, f"process.{how}")
        self.process.die()
        self.disturbed(lost=how != "exited")
        self.servers.network.after(0.001, self.servers.broker.drop, self.process, "the process is gone")
