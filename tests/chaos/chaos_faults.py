"""The faults of a chaos run, one after the other and sometimes two at once, drawn from a seed.

Each is a function that does harm and makes it good again, within `Chaos.disturbance`, which writes to the log
when it began, whom it hit, and when it was healed. The holder is hit more often than the others.

The draw follows from the seed alone; whom a fault hits follows from who holds at that moment.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from chaos_commands import Sender
from chaos_log import DriverLog
from chaos_members import Member, Members, Seat
from chaos_servers import ChaosServers
from chaos_terms import TermWatch
from proxy import Direction

RECOVERED_WITHIN = 120.0
LAG = 3.0
CLOCK_STEPS = (5.0, -5.0, 120.0, -120.0, 7200.0, -7200.0)
Fault = Callable[["Chaos"], Awaitable[None]]


@dataclass
class Chaos:
    """What faults can reach. `stalled`: after which faults slots did not run again in time."""

    members: Members
    servers: ChaosServers
    terms: TermWatch
    sender: Sender
    log: DriverLog
    rng: random.Random
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    stalled: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def disturbance(self, kind: str, target: str) -> AsyncIterator[None]:
        number = next(self.numbers)
        before = {"epoch": self.terms.epoch, "held": target == self.terms.holder}
        self.log.write("disturbed", number=number, kind=kind, target=target, **before)
        try:
            yield
        finally:
            self.log.write("healed", number=number)

    def victim(self) -> Member:
        """Return the holder most of the time, else some other member that lives."""
        alive = list(self.members.alive())
        holder = self.members.named(self.terms.holder)
        if holder is not None and self.rng.random() < 0.75:
            return holder
        return self.rng.choice(alive)

    def seconds(self, least: float, most: float) -> float:
        return self.rng.uniform(least, most)

    async def recovered(self, after: str) -> None:
        """Wait until slots are decided in time again."""
        deadline = time.monotonic() + RECOVERED_WITHIN
        while self.terms.lag > LAG or self.members.named(self.terms.holder) is None:
            if time.monotonic() > deadline:
                self.stalled.append(after)
                self.log.write("stalled", after=after)
                return
            await asyncio.sleep(0.05)


async def kill(chaos: Chaos) -> None:
    member = chaos.victim()
    async with chaos.disturbance("kill -9", member.name):
        await chaos.members.kill(member)
        await asyncio.sleep(chaos.seconds(0, 2))
        await chaos.members.start(member.seat)


async def terminate(chaos: Chaos) -> None:
    member = chaos.victim()
    async with chaos.disturbance("SIGTERM", member.name):
        await chaos.members.end(member)
        await chaos.members.start(member.seat)


async def drain(chaos: Chaos) -> None:
    """Drain an instance by another one, as a deploy does, and stop it a moment later."""
    member = chaos.victim()
    async with chaos.disturbance("drain, SIGTERM", member.name):
        for other in chaos.members.alive():
            if other is not member:
                other.order("drain", name=member.name)
                break
        await asyncio.sleep(chaos.seconds(1, 6))
        await chaos.members.end(member)
        await chaos.members.start(member.seat)


async def freeze(chaos: Chaos) -> None:
    member = chaos.victim()
    async with chaos.disturbance("SIGSTOP", member.name):
        member.freeze()
        await asyncio.sleep(chaos.rng.choice((1.0, 5.0, 15.0, 30.0)))
        member.thaw()


async def cut(chaos: Chaos) -> None:
    await _on_the_way(chaos, "cut", lambda seat, link: [route.cut() for route in seat.routes(link)])


async def hold(chaos: Chaos) -> None:
    await _on_the_way(chaos, "hold", lambda seat, link: [route.hold() for route in seat.routes(link)])


async def hold_one_way(chaos: Chaos) -> None:
    way = cast("Direction", chaos.rng.choice(("to_server", "to_client")))
    await _on_the_way(chaos, f"hold {way}", lambda seat, link: [way_.hold(way) for way_ in seat.routes(link)])


async def delay(chaos: Chaos) -> None:
    await _on_the_way(
        chaos, "500 ms late", lambda seat, link: [route.delay(0.5) for route in seat.routes(link)]
    )


async def _on_the_way(chaos: Chaos, what: str, harm: Callable[[Seat, str], object]) -> None:
    """Harm a member's ways to the servers for a while."""
    link = chaos.rng.choice(("rabbitmq", "mongodb", "both"))
    seconds = chaos.seconds(1, 20)
    member = chaos.victim()
    async with chaos.disturbance(f"{what}: {link}", member.name):
        harm(member.seat, link)
        await asyncio.sleep(seconds)
        for route in member.seat.routes("both"):
            route.heal()


async def restart_rabbitmq(chaos: Chaos) -> None:
    async with chaos.disturbance("RabbitMQ restarted", "rabbitmq"):
        await asyncio.to_thread(chaos.servers.rabbitmq.restart)


async def kill_rabbitmq(chaos: Chaos) -> None:
    async with chaos.disturbance("RabbitMQ killed", "rabbitmq"):
        await asyncio.to_thread(chaos.servers.rabbitmq.kill)
        await asyncio.sleep(chaos.seconds(0, 5))
        await asyncio.to_thread(chaos.servers.rabbitmq.start)


async def alarm(chaos: Chaos) -> None:
    seconds = chaos.seconds(3, 15)
    async with chaos.disturbance("memory alarm", "rabbitmq"):
        await asyncio.to_thread(lambda: chaos.servers.alarm(on=True))
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(lambda: chaos.servers.alarm(on=False))


async def alarm_and_kill(chaos: Chaos) -> None:
    member = chaos.victim()
    await asyncio.to_thread(lambda: chaos.servers.alarm(on=True))
    try:
        async with chaos.disturbance("memory alarm, kill -9", member.name):
            await chaos.members.kill(member)
            await asyncio.sleep(3)
            await chaos.members.start(member.seat)
    finally:
        await asyncio.to_thread(lambda: chaos.servers.alarm(on=False))


async def add_batons(chaos: Chaos) -> None:
    count = chaos.rng.randint(1, 3)
    async with chaos.disturbance("extra batons", "rabbitmq"):
        await asyncio.to_thread(chaos.servers.insert_batons, count)


async def purge_and_kill(chaos: Chaos) -> None:
    """Purge the baton queue while the holder dies, and its baton is on its way to the next one."""
    member = chaos.victim()
    async with chaos.disturbance("purge, kill -9", member.name):
        purging = asyncio.create_task(asyncio.to_thread(chaos.servers.purge_batons))
        await chaos.members.kill(member)
        await purging
        await asyncio.to_thread(chaos.servers.purge_batons)
        await chaos.members.start(member.seat)


async def restart_mongodb(chaos: Chaos) -> None:
    async with chaos.disturbance("MongoDB restarted", "mongodb"):
        await asyncio.to_thread(chaos.servers.mongo.restart)


async def kill_mongodb(chaos: Chaos) -> None:
    async with chaos.disturbance("MongoDB killed", "mongodb"):
        await asyncio.to_thread(chaos.servers.mongo.kill)
        await asyncio.sleep(chaos.seconds(0, 10))
        await asyncio.to_thread(chaos.servers.mongo.start)


async def step_down(chaos: Chaos) -> None:
    replica_set = chaos.servers.replica_set
    assert replica_set is not None
    async with chaos.disturbance("MongoDB stepped down", "mongodb"):
        await asyncio.to_thread(replica_set.step_down)


async def kill_primary(chaos: Chaos) -> None:
    replica_set = chaos.servers.replica_set
    assert replica_set is not None
    async with chaos.disturbance("MongoDB's primary killed", "mongodb"):
        killed = await asyncio.to_thread(replica_set.kill_primary)
        await asyncio.to_thread(replica_set.wait_for_primary)
    await asyncio.sleep(chaos.seconds(0, 5))
    await asyncio.to_thread(killed.start)


async def step_clock(chaos: Chaos) -> None:
    offset = chaos.rng.choice(CLOCK_STEPS)
    seconds = chaos.seconds(2, 10)
    member = chaos.victim()
    async with chaos.disturbance("clock step", member.name):
        member.order("clock", offset=offset)
        await asyncio.sleep(seconds)
        member.order("clock", offset=0.0)


async def block_handlers(chaos: Chaos) -> None:
    await _block(chaos, "handlers")


async def block_engine(chaos: Chaos) -> None:
    await _block(chaos, "engine")


async def _block(chaos: Chaos, loop: str) -> None:
    seconds = chaos.rng.choice((1.0, 5.0, 12.0, 30.0))
    member = chaos.victim()
    async with chaos.disturbance(f"blocked loop: {loop}", member.name):
        member.order(f"block_{loop}", seconds=seconds)
        await asyncio.sleep(seconds)


async def release(chaos: Chaos) -> None:
    async with chaos.disturbance("release", chaos.terms.holder or "nobody"):
        await chaos.sender.send({"type": "baton.release"})


FAULTS: dict[str, tuple[Fault, int]] = {
    "kill": (kill, 5),
    "terminate": (terminate, 4),
    "drain": (drain, 2),
    "freeze": (freeze, 4),
    "cut": (cut, 2),
    "hold": (hold, 3),
    "hold_one_way": (hold_one_way, 3),
    "delay": (delay, 2),
    "restart_rabbitmq": (restart_rabbitmq, 1),
    "kill_rabbitmq": (kill_rabbitmq, 1),
    "alarm": (alarm, 1),
    "alarm_and_kill": (alarm_and_kill, 1),
    "add_batons": (add_batons, 2),
    "purge_and_kill": (purge_and_kill, 1),
    "restart_mongodb": (restart_mongodb, 1),
    "kill_mongodb": (kill_mongodb, 1),
    "step_down": (step_down, 2),
    "kill_primary": (kill_primary, 1),
    "step_clock": (step_clock, 3),
    "block_handlers": (block_handlers, 1),
    "block_engine": (block_engine, 2),
    "release": (release, 2),
}
ON_REPLICA_SETS = {"step_down", "kill_primary"}
ON_ONE_MEMBER = ("kill", "terminate", "drain", "freeze", "cut", "hold", "hold_one_way", "delay", "step_clock")


async def disturb(chaos: Chaos, until: float, only: list[str]) -> None:
    """Do harm until `until`, with time to recover in between; the faults are those named in `only`."""
    if chaos.servers.replica_set is None:
        only = [name for name in only if name not in ON_REPLICA_SETS]
    weights = [FAULTS[name][1] for name in only]
    second = [name for name in only if name in ON_ONE_MEMBER]
    while time.time() < until:
        name = chaos.rng.choices(only, weights)[0]
        both = [FAULTS[name][0](chaos)]
        if second and chaos.rng.random() < 0.2:
            both.append(_later(chaos, FAULTS[chaos.rng.choice(second)][0]))
        await asyncio.gather(*both)
        await chaos.recovered(name)
        await asyncio.sleep(chaos.seconds(0.5, 4))


async def _later(chaos: Chaos, fault: Fault) -> None:
    await asyncio.sleep(chaos.seconds(0, 3))
    if any(chaos.members.alive()):
        await fault(chaos)
