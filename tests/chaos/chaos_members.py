"""The instances of a chaos run: processes on *seats*, each seat with ways of its own to the servers.

Whoever takes a seat again after an end is another instance, with another name: `a1`, `a2` … on seat `a`. So
an instance's name says which process it was. It listens for callbacks where its predecessor did: what is told
to the dead reaches the living, who must know nothing of it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos_log import DriverLog
from chaos_servers import ChaosServers
from proxy import Proxy, Route

from cronexec.dev import tether
from cronexec.dev.processes import LOOPBACK, free_ports

MEMBER = Path(__file__).with_name("chaos_member.py")
SEATS = "abcdefgh"
ENDS_WITHIN = 60.0  # seconds after SIGTERM: the grace, and the writing down of what is left
Answer = dict[str, Any]


@dataclass
class Member:
    """One process. `frozen`: stopped, to be continued. `ending`: after SIGTERM, or kill -9."""

    name: str
    seat: "Seat"
    process: asyncio.subprocess.Process
    frozen: bool = False
    ending: bool = False

    @property
    def lives(self) -> bool:
        return self.process.returncode is None and not self.frozen and not self.ending

    def order(self, do: str, **what: Any) -> bool:
        """Have the process do something; returns whether it lives."""
        if self.process.returncode is not None or self.process.stdin is None:
            return False
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        return True

    def freeze(self) -> None:
        self.frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)


@dataclass
class Seat:
    """A place for an instance: its ways to the servers, its port for callbacks, and who is on it."""

    name: str
    to_rabbitmq: Route
    to_mongodb: dict[int, Route]
    callbacks: int
    taken: int = 0
    member: Member | None = None

    def routes(self, link: str) -> list[Route]:
        """Return the ways to `rabbitmq`, `mongodb` or `both`."""
        mongodb = list(self.to_mongodb.values())
        return {"rabbitmq": [self.to_rabbitmq], "mongodb": mongodb, "both": [self.to_rabbitmq, *mongodb]}[
            link
        ]


class Members:
    """All seats. `on_answer` gets what members answer to commands."""

    def __init__(
        self,
        count: int,
        *,
        servers: ChaosServers,
        proxy: Proxy,
        log: DriverLog,
        directory: Path,
        environ: dict[str, str],
    ) -> None:
        self._servers = servers
        self._log = log
        self._directory = directory
        self._environ = environ
        self._readers: set[asyncio.Task[None]] = set()
        self.on_answer: Callable[[Answer], None] = lambda _: None
        self.exits: list[tuple[str, int]] = []
        self.crashes: list[tuple[str, int]] = []
        self.seats = [
            Seat(
                name=name,
                to_rabbitmq=proxy.route("127.0.0.1", servers.amqp_port),
                to_mongodb={port: proxy.route("127.0.0.1", port) for port in servers.mongo_ports},
                callbacks=callbacks,
            )
            for name, callbacks in zip(SEATS, free_ports(count), strict=False)
        ]

    def alive(self) -> Iterator[Member]:
        """Yield those that run, and are neither frozen nor about to end."""
        for seat in self.seats:
            if seat.member is not None and seat.member.lives:
                yield seat.member

    def named(self, name: str | None) -> Member | None:
        return next((member for member in self.alive() if member.name == name), None)

    async def fill(self) -> None:
        """Start an instance on every empty seat."""
        for seat in self.seats:
            if seat.member is None:
                await self.start(seat)

    async def start(self, seat: Seat) -> Member:
        seat.taken += 1
        name = f"{seat.name}{seat.taken}"
        command = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), sys.executable, str(MEMBER)]
        with (self._directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=self._environ | self._own(seat, name),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        seat.member = Member(name, seat, process)
        reader = asyncio.create_task(self._read(seat.member))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return seat.member

    def _own(self, seat: Seat, name: str) -> dict[str, str]:
        detours = {str(port): route.port for port, route in seat.to_mongodb.items()}
        return {
            "CRONEXEC_INSTANCE": name,
            "CRONEXEC_DATACENTER": "east" if seat.name in "ace" else "west",
            "CRONEXEC_AMQP_URL": self._servers.amqp_url(seat.to_rabbitmq.port),
            "CRONEXEC_MONGO_URL": self._servers.mongo_url,
            "CRONEXEC_CALLBACK_LISTEN": f"{LOOPBACK}:{seat.callbacks}",
            "CRONEXEC_CALLBACK_URL": f"http://{LOOPBACK}:{seat.callbacks}",
            "CHAOS_DETOURS": json.dumps(detours),
        }

    async def _read(self, member: Member) -> None:
        """Take what a process answers, and note that it ended if nobody has ended it."""
        assert member.process.stdout is not None
        while line := await member.process.stdout.readline():
            if line.startswith(b"{"):
                self.on_answer(json.loads(line))
        code = await member.process.wait()
        if not member.ending:
            self._log.write("crashed", instance=member.name, code=code)
            self.crashes.append((member.name, code))

    async def kill(self, member: Member) -> float:
        """Kill -9. Returns the instant just before."""
        began_at = self._log.write("killing", instance=member.name)
        member.ending = True
        member.process.kill()
        await member.process.wait()
        self._log.write("killed", instance=member.name)
        member.seat.member = None
        return began_at

    async def end(self, member: Member) -> int:
        """SIGTERM, and wait. Returns the exit code; one that does not end in time is killed, and noted."""
        member.ending = True
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself: its exit code tells
            member.process.terminate()
        try:
            async with asyncio.timeout(ENDS_WITHIN):
                code = await member.process.wait()
        except TimeoutError:
            await self.kill(member)
            code = -9
        member.seat.member = None
        self._log.write("ended", instance=member.name, code=code)
        self.exits.append((member.name, code))
        return code

    async def end_all(self) -> None:
        everybody = [seat.member for seat in self.seats if seat.member is not None]
        await asyncio.gather(*(self.end(member) for member in everybody))

    def kill_all(self) -> None:
        """End whatever is left, when the driver itself has failed."""
        for seat in self.seats:
            if seat.member is not None and seat.member.process.returncode is None:
                seat.member.ending = True
                seat.member.process.kill()
