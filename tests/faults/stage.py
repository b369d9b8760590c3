"""Where faults are tried: three instances as processes, each with ways of its own to the servers.

A stage is shared by many tests: whoever is killed is replaced before the next test, by an instance with
another name on the same *seat* (`a1`, `a2` … on seat `a`). A few dozen jobs run every second or every
third one, all the while, and leave evidence outside. A fault is tried within `Stage.trial`, which measures,
judges what must hold after every fault (`trial`), and adds a row to the table.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import members
from chaos import evidence
from chaos.proxy import Proxy, Route
from fault_table import Row
from members import Member, wait_for
from pymongo.uri_parser import parse_uri
from trial import LogEvent, Trial

from cronexec.domain.term import TermRecord
from cronexec.errors import CronexecError

FULL = os.environ.get("FULL") == "1"
PROGRAM = Path(__file__).with_name("fault_member.py")
TESTS = Path(__file__).parent.parent
SEATS = "abc"
QUICKLY = {
    "LEASE": "3s",
    "BATON_LOST_AFTER": "5s",
    "INSTANCE_LOST_AFTER": "10s",
    "HEARTBEAT": "2s",
    "BATON_RENEW_INTERVAL": "3s",
}
DEFAULTS = {"BATON_RENEW_INTERVAL": "20s"}  # nobody waits five minutes for a renewal to disturb
EVERY_SECOND, IN_THREADS, EVERY_THIRD, SLOW = 20, 6, 6, 2
WANTED = {"overlap": "allow", "misfire": {"grace": "10m"}}  # every slot is wanted, however late


@dataclass
class Seat:
    """A place for an instance, and its ways to the servers."""

    name: str
    to_rabbitmq: Route
    to_mongodb: dict[int, Route]
    taken: int = 0
    member: Member | None = None

    def routes(self, link: str) -> list[Route]:
        """Return the ways to `rabbitmq`, `mongodb` or `both`."""
        mongodb = list(self.to_mongodb.values())
        ways = {"rabbitmq": [self.to_rabbitmq], "mongodb": mongodb, "both": [self.to_rabbitmq, *mongodb]}
        return ways[link]


@dataclass
class Stage(members.Cluster):
    seats: dict[str, Seat] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    versions: tuple[str, str] = ("", "")
    hit_at: dict[str, float] = field(default_factory=dict)  # when a fault last hit which instance
    _logs: dict[str, list[LogEvent]] = field(default_factory=dict)
    _work: list[evidence.Work] = field(default_factory=list)
    _read_to: dict[Path, int] = field(default_factory=dict)
    _stepped: set[str] = field(default_factory=set)

    # --- instances ---

    @property
    def evidence_file(self) -> Path:
        return self.directory / f"{self.settings.namespace}-evidence"

    def take(self, seat: Seat) -> Member:
        """Start a new instance on a seat."""
        seat.taken += 1
        amqp = self.settings.amqp_urls[0]
        seat.member = self.launch(
            f"{seat.name}{seat.taken}",
            PROGRAM,
            CRONEXEC_AMQP_URL=amqp.replace(f":{port_of(amqp)}/", f":{seat.to_rabbitmq.port}/"),
            FAULT_EVIDENCE=str(self.evidence_file),
            FAULT_DETOURS=json.dumps({str(port): route.port for port, route in seat.to_mongodb.items()}),
            PYTHONPATH=os.pathsep.join(map(str, (TESTS / "chaos", TESTS.parent))),
        )
        return seat.member

    def seat_of(self, member: Member) -> Seat:
        return self.seats[member.name[0]]

    def order(self, member: Member, do: str, **what: Any) -> None:
        """Have a member do something."""
        assert member.process.stdin is not None
        member.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        member.process.stdin.flush()

    def bury(self, member: Member) -> None:
        """Take a member that has been killed, or has killed itself, off its seat."""
        member.process.wait(10)
        self.seat_of(member).member = None
        self.dead.append(self.members.pop(member.name))

    def freeze(self, member: Member) -> None:
        member.process.send_signal(signal.SIGSTOP)

    def thaw(self, member: Member) -> float:
        """Let a frozen member go on; returns the instant just before."""
        at = time.time()
        member.process.send_signal(signal.SIGCONT)
        return at

    def step_clock(self, member: Member, offset: float) -> None:
        """Have a member's wall clock be wrong by so many seconds, from now on."""
        self._stepped.add(member.name)
        self.order(member, "clock", offset=offset)
        if not offset:
            self._stepped.discard(member.name)

    async def holding(self, *, other_than: Member | None = None, timeout: float = 60) -> Member:
        """Wait for a living holder that keeps up, and return it."""
        name = None if other_than is None else other_than.name
        return self.members[str((await self.holder(other_than=name, timeout=timeout)).holder_name)]

    async def holder(self, *, other_than: str | None = None, timeout: float = 60) -> TermRecord:
        """See `members.Cluster.holder`; a database that is away is waited for."""
        until = time.monotonic() + timeout
        while True:
            with suppress(CronexecError):
                left = max(until - time.monotonic(), 0.1)
                try:
                    return await super().holder(other_than=other_than, timeout=left)
                except TimeoutError as error:
                    error.add_note(self._last_words())
                    raise
            await asyncio.sleep(0.1)

    def _last_words(self) -> str:
        """Return what each member has logged last; their logs are gone when the test's report is read."""
        return "\n".join(f"{name}: …{member.log.read_text()[-800:]}" for name, member in self.members.items())

    async def standby(self) -> Member:
        """Return one that does not hold."""
        holder = await self.holding()
        return next(member for member in self.members.values() if member is not holder)

    async def ready(self) -> None:
        """Have three instances, one of which holds and keeps up, while the others stand by."""
        for seat in self.seats.values():
            for route in seat.routes("both"):
                route.heal()
            if seat.member is None:
                self.take(seat)
            else:
                self.thaw(seat.member)
        for name in self._stepped & self.members.keys():
            self.step_clock(self.members[name], 0.0)
        await self.holding(timeout=90)
        await wait_for(self._all_linked, "every instance to hold or stand by", timeout=60)

    async def _all_linked(self) -> bool:
        return all(self._is_linked(member) for member in self.members.values())

    def _is_linked(self, member: Member) -> bool:
        member.require_alive()
        last = [
            entry["event"]
            for entry in self.log_of(member)
            if entry["event"] in {"candidate.standing_by", "link.lost", "term.ended", "term.first_commit"}
        ]
        return bool(last) and last[-1] in {"candidate.standing_by", "term.first_commit"}

    # --- what is seen ---

    def log_of(self, member: Member) -> list[LogEvent]:
        """Return what a member has logged; `at` is in seconds since 1970."""
        events = self._logs.setdefault(member.name, [])
        new = self._unread(member.log).splitlines()
        events.extend(LogEvent.read(line, member.name) for line in new if line.startswith("{"))
        return events

    def work(self) -> list[evidence.Work]:
        """Return the evidence of all runs."""
        if self.evidence_file.exists():
            self._work.extend(evidence.read(self._unread(self.evidence_file).splitlines()))
        return self._work

    def _unread(self, path: Path) -> str:
        """Return the whole lines of a growing file that have not been read."""
        with path.open("rb") as file:
            file.seek(self._read_to.get(path, 0))
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to[path] = self._read_to.get(path, 0) + len(whole)
        return whole.decode()

    def events(self, *names: str, since: float, by: Member | None = None) -> list[LogEvent]:
        """Return the events of these names, by one member or by all, those that are dead too, in order."""
        everybody = [by] if by else [*self.members.values(), *self.dead]
        found = [
            entry
            for member in everybody
            for entry in self.log_of(member)
            if entry["event"] in names and entry.at >= since
        ]
        return sorted(found, key=lambda entry: entry.at)

    async def event(
        self, name: str, *, since: float, by: Member | None = None, timeout: float = 30, **fields: Any
    ) -> LogEvent:
        """Wait for an event with these fields; a text matches if the field begins with it."""

        async def seen() -> LogEvent | None:
            found = self.events(name, since=since, by=by)
            return next((entry for entry in found if entry.has(fields)), None)

        what = f"{name} {fields} by {by.name if by else 'anybody'}"
        return await wait_for(seen, what, timeout=timeout, interval=0.02)

    async def slots_run(self, count: int, *, timeout: float = 60) -> None:
        """Wait until runs of `count` slots from now on have begun."""
        since = time.time()

        async def have_run() -> bool:
            return len({work.slot for work in self.work() if work.slot >= since}) >= count

        await wait_for(have_run, f"{count} more slots to run", timeout=timeout)

    async def begun(self, job: str, *, timeout: float = 30) -> evidence.Work:
        """Wait for the first run of a job, and return its evidence."""

        async def has_begun() -> evidence.Work | None:
            return next((work for work in self.work() if work.job == job), None)

        return await wait_for(has_begun, f"a run of {job}", timeout=timeout, interval=0.02)

    async def until(
        self, condition: Callable[[], Awaitable[bool]], what: str, *, timeout: float = 60
    ) -> None:
        """Wait for a condition; while the database is away, it is not met."""

        async def is_met() -> bool:
            with suppress(CronexecError):
                return await condition()
            return False

        await wait_for(is_met, what, timeout=timeout, interval=0.02)

    # --- trying a fault ---

    @asynccontextmanager
    async def trial(self, fault: str, module: str) -> AsyncIterator[Trial]:
        """Try a fault; afterwards what must hold is judged, and a row is added to the table."""
        row = Row(fault=fault, module=module, rabbitmq=self.versions[0], mongodb=self.versions[1])
        self.rows.append(row)
        await self.ready()
        trial = Trial(self, row, (await self.holder()).epoch)
        yield trial
        await trial.judge()
        row.held = True

    async def open(self) -> None:
        """Fill the seats, and put the jobs."""
        for seat in self.seats.values():
            self.take(seat)
        await self.holder(timeout=60)
        await self.put(list(jobs()))
        await self.slots_run(2)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def jobs() -> Iterator[dict[str, Any]]:
    kinds = [
        ("quick", "quick", EVERY_SECOND, "1s"),
        ("threaded", "threaded", IN_THREADS, "1s"),
        ("third", "quick", EVERY_THIRD, "3s"),
        ("slow", "slow", SLOW, "3s"),
    ]
    for kind, handler, count, every in kinds:
        for number in range(count):
            target = {"type": "handler", "name": handler}
            yield {"name": f"{kind}-{number}", "schedule": {"every": every}, "target": target, **WANTED}


@asynccontextmanager
async def open_stage(
    directory: Path,
    *,
    namespace: str,
    amqp_url: str,
    mongo_url: str,
    versions: tuple[str, str],
    rows: list[Row],
    settings: Mapping[str, str],
) -> AsyncIterator[Stage]:
    """Yield a stage on which three instances carry out the schedule; all are dead afterwards."""
    given = {"AMQP_URL": amqp_url, "MONGO_URL": mongo_url, "NAMESPACE": namespace, **settings}
    mongo_ports = [port for _, port in parse_uri(mongo_url)["nodelist"]]
    with Proxy() as proxy:
        async with members.open_cluster(Stage, directory, **given) as stage:
            stage.rows, stage.versions = rows, versions
            for name in SEATS:
                stage.seats[name] = Seat(
                    name=name,
                    to_rabbitmq=proxy.route("127.0.0.1", port_of(amqp_url)),
                    to_mongodb={port: proxy.route("127.0.0.1", port) for port in mongo_ports},
                )
            try:
                await stage.open()
                yield stage
            finally:
                for member in stage.members.values():
                    stage.thaw(member)
                for seat in stage.seats.values():
                    for route in seat.routes("both"):
                        route.heal()
