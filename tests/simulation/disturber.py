"""The disturber: does to the instances, the servers and the network what its seed says, until it ends.

Each disturbance is a method by the name that `scenario.DISTURBANCES` has.
"""

import asyncio
from datetime import timedelta
from functools import partial
from random import Random
from typing import Protocol

from scenario import HOLD_TOGETHER, Scenario
from simulated_member import Member, Servers

from cronexec.adapters.memory_hub import BATON, MemoryMessage

LEASE = HOLD_TOGETHER["lease"]
DIRECTIONS = ((True, True), (True, True), (True, False), (False, True))  # (up, down)


class World(Protocol):
    """What the disturber needs of the world."""

    servers: Servers
    scenario: Scenario
    members: list[Member]

    def start_member(self) -> Member: ...
    def shut_down(self, member: Member, grace: float) -> None: ...


class Disturber:
    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._servers = world.servers
        self._random = random
        self._gives_up_after = random.uniform(0.5, 3.0)

    async def run(self) -> None:
        scenario = self._world.scenario
        loop = self._servers.loop
        while loop.time() < scenario.lasts:
            await asyncio.sleep(self._random.expovariate(1.0 / scenario.every))
            getattr(self, self._random.choice(scenario.disturbances))()

    def heal(self) -> None:
        """End all that lasts."""
        servers = self._servers
        servers.history.add("*", "everything heals")
        servers.database.is_gone = False
        servers.broker.is_down = False
        servers.broker.unblock()
        servers.network.heal_all()
        for member in self._world.members:
            member.client.fates.clear()
            member.process.trap_at = -1
            member.targets.absent.clear()
            member.go_on()

    def _anybody(self) -> Member | None:
        """Choose one that lives, the holder more often than not."""
        living = [member for member in self._world.members if member.lives]
        holders = [member for member in living if member.instance.candidate.holder is not None]
        among = holders if holders and self._random.random() < 0.6 else living
        return self._random.choice(among) if among else None

    def _busy_holder(self) -> Member | None:
        """Return the holder, if it has something to finish before it may go."""
        for member in self._world.members:
            holds = member.lives and member.instance.candidate.holder is not None
            if holds and member.instance.dispatcher.running:
                return member
        return None

    def _seconds(self) -> float:
        """Return how long something lasts: about as long as what it is to overlap with."""
        return self._random.choice((0.3, 1.0, LEASE, 2 * LEASE, 4 * LEASE)) * self._random.uniform(0.5, 1.5)

    def _note(self, what: str, **facts: object) -> None:
        self._servers.history.add("*", what, **facts)

    def _all_disturbed(self, *, lost: bool) -> None:
        for member in self._world.members:
            member.disturbed(lost=lost)

    # --- processes ---

    def stop_process(self) -> None:
        if member := self._anybody():
            member.halt(self._seconds(), gives_up_after=self._gives_up_after)

    def block_loop(self) -> None:
        if member := self._anybody():
            member.block(self._seconds(), gives_up_after=1000.0)

    def kill(self) -> None:
        if member := self._anybody():
            self.killed(member)

    def killed(self, member: Member) -> None:
        if member.lives:
            member.die("killed")
            self._servers.network.after(self._random.uniform(0.01, 3.0), self._world.start_member)

    def shut_down(self) -> None:
        member = self._busy_holder() or self._anybody()
        if member is not None and not member.is_stopping and member.process.is_running:
            self._world.shut_down(member, self._random.choice((0.0, 1.0, 8.0, 8.0)))
            self._servers.network.after(self._random.uniform(0.01, 2.0), self._world.start_member)

    def trap(self) -> None:
        """Stop or kill a process some steps from now, at whichever await that is."""
        if member := self._anybody():
            member.process.trap_at = member.process.steps + self._random.randint(1, 400)
            member.process.trap = partial(self.fate, member, self._random.choice(("stopped", "killed")))

    def fate(self, member: Member, fate: str) -> None:
        """Do to a process what befell it in the middle of something."""
        member.disturbed(lost=True)
        if fate == "stopped":
            member.halt(self._seconds(), gives_up_after=self._gives_up_after)
        elif fate == "killed":
            self.killed(member)

    # --- the network ---

    def cut_broker(self) -> None:
        self._cut("broker")

    def cut_database(self) -> None:
        self._cut("database")

    def cut_both(self) -> None:
        self._cut("broker", "database")

    def _cut(self, *services: str) -> None:
        member = self._anybody()
        if member is None:
            return
        (up, down), seconds = self._random.choice(DIRECTIONS), self._seconds()
        self._note("network.cut", of=member.name, services=services, up=up, down=down, seconds=seconds)
        network, process = self._servers.network, member.process
        member.disturbed(lost=True)
        for service in services:
            wire = network.wire(process, service)
            network.cut(wire, up=up, down=down)
            network.after(seconds, network.heal, wire)
        if "broker" in services and seconds > self._gives_up_after:
            drop = partial(self._servers.broker.drop, process, "missed heartbeats")
            if up:
                network.after(self._gives_up_after, drop)
            if down:
                lose = partial(self._lose_link, member)
                network.in_process(process, self._gives_up_after * self._random.uniform(0.5, 1.5), lose)

    def _lose_link(self, member: Member) -> None:
        """Let the client miss the server's heartbeats."""
        for session in [each for each in self._servers.broker.sessions if each.process is member.process]:
            session.link.lose("missed heartbeats")

    # --- the servers ---

    def database_gone(self) -> None:
        self._database_away(self._seconds())

    def database_steps_down(self) -> None:
        self._database_away(self._random.uniform(0.2, 1.5))

    def _database_away(self, seconds: float) -> None:
        self._note("database.gone", seconds=seconds)
        self._all_disturbed(lost=False)
        self._servers.database.is_gone = True
        self._servers.network.after(seconds, self._database_back)

    def _database_back(self) -> None:
        self._note("database.back")
        self._servers.database.is_gone = False
        self._all_disturbed(lost=False)

    def broker_restarts(self) -> None:
        seconds = self._random.uniform(0.1, 3.0)
        self._note("broker.down", seconds=seconds)
        self._all_disturbed(lost=False)
        self._servers.broker.go_down()
        self._servers.network.after(seconds, setattr, self._servers.broker, "is_down", False)

    def alarm(self) -> None:
        seconds = self._seconds()
        self._note("broker.alarm", seconds=seconds)
        self._all_disturbed(lost=False)
        self._servers.broker.is_blocked = True
        self._servers.network.after(seconds, self._servers.broker.unblock)

    def drop_links(self) -> None:
        if member := self._anybody():
            self._note("broker.drops", of=member.name)
            member.disturbed(lost=False)
            self._servers.broker.drop(member.process, "the connection was reset")

    def cancel_consumer(self) -> None:
        if sessions := self._servers.broker.sessions:
            session = self._random.choice(sessions)
            self._note("broker.cancels", of=session.process.name)
            self._all_disturbed(lost=False)
            session.take_away()

    def extra_baton(self) -> None:
        self._servers.broker.publish(BATON, MemoryMessage(body=b"{}", message_id="extra"))

    def lose_batons(self) -> None:
        self._note("broker.loses_batons")
        self._all_disturbed(lost=False)
        self._servers.broker.lose_batons()

    def step_clock(self) -> None:
        if member := self._anybody():
            by = self._random.choice((-7200, -120, -5, 5, 120, 7200))
            self._note("clock.stepped", of=member.name, by=by)
            member.clock.step(timedelta(seconds=by))
