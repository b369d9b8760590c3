"""One chaos run from beginning to end: servers, five instances, jobs, faults, commands, settling, checking.

```
driver (this process) ── proxy ── every instance's ways to the servers
   ├── RabbitMQ, MongoDB            private, in a directory of the run
   ├── a1 b1 c1 d1 e1 …             instances; killed, frozen, cut off
   ├── receiver of webhooks
   └── DIRECTORY/driver.jsonl, evidence, NAME.log
```

When the time is up everything is healed and all seats are taken; then every slot must be decided, every run
over and every command answered within `settle`. The instances are ended by SIGTERM, and the checker reads
what is left.
"""

import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from chaos_commands import GARBAGE, Sender, Traffic
from chaos_faults import FAULTS, Chaos, disturb
from chaos_figures import figures
from chaos_jobs import JobMaker
from chaos_log import DriverLog
from chaos_members import Members
from chaos_servers import DATABASE, NAMESPACE, ChaosServers
from chaos_terms import TermWatch
from checker import check
from checker_due import length
from checker_history import History, read_history
from checker_report import Tolerances
from proxy import Proxy

RECEIVER = Path(__file__).with_name("chaos_receiver.py")
PUT_AT_ONCE = 200
KNOWN_AFTER = 15  # seconds after an instance is lost, until its runs are known to be over


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What to do. `broker` None: the machine's own RabbitMQ. `settings`: of all instances."""

    length: timedelta
    seed: int = 7
    broker: str | None = None
    mongodb_members: int = 3
    instances: int = 5
    per_second: int = 350
    per_minute: int = 2000
    changing: int = 20
    commands_per_second: float = 2.0
    faults: Sequence[str] = tuple(FAULTS)
    settle: timedelta = timedelta(minutes=5)
    settings: dict[str, str] = field(default_factory=dict)
    tolerances: Tolerances = field(default_factory=Tolerances)


async def run_chaos(options: Options, directory: Path) -> dict[str, Any]:
    """Do all of it; returns the result, `ok` among it."""
    with ExitStack() as stack:
        log = DriverLog(directory / "driver.jsonl")
        stack.callback(log.close)
        servers = stack.enter_context(_servers(options, directory))
        proxy = stack.enter_context(Proxy())
        with _receiver(directory / "evidence") as url:
            members = Members(
                options.instances,
                servers=servers,
                proxy=proxy,
                log=log,
                directory=directory,
                environ=_environ(options, directory),
            )
            terms = TermWatch(servers.mongo_url, DATABASE, NAMESPACE, log)
            try:
                problems = await _Run(options, directory, log, servers, members, terms, url).perform()
            finally:
                members.kill_all()
                await asyncio.to_thread(terms.close)
        return await asyncio.to_thread(_judge, options, directory, servers, problems)


@dataclass
class _Run:
    options: Options
    directory: Path
    log: DriverLog
    servers: ChaosServers
    members: Members
    terms: TermWatch
    receiver: str

    async def perform(self) -> list[str]:
        """Returns what went wrong other than what the checker will find."""
        rng = random.Random(self.options.seed)  # noqa: S311  to be repeatable
        sender = Sender(self.members, self.terms, self.log, random.Random(rng.random()))  # noqa: S311
        chaos = Chaos(self.members, self.servers, self.terms, sender, self.log, random.Random(rng.random()))  # noqa: S311
        await self.members.fill()
        await chaos.recovered("the start")
        end = time.time() + self.options.length.total_seconds()
        maker = JobMaker(rng=rng, file=str(self.directory / "evidence"), receiver=self.receiver, end=end + 5)
        stable = [*maker.every_second(self.options.per_second), *maker.every_minute(self.options.per_minute)]
        await self._put(sender, stable)
        names = [document["name"] for document in stable]
        slow = [document["name"] for document in stable if document["target"].get("name") == "slow"]
        traffic = Traffic(sender, maker, rng, stable=names, slow=slow or names)
        sending = traffic.run(end, changing=self.options.changing, rate=self.options.commands_per_second)
        commands = asyncio.create_task(sending)
        await asyncio.to_thread(self.servers.send_garbage, list(GARBAGE))
        await disturb(chaos, end, list(self.options.faults))
        problems = [f"nothing ran for long after {after}" for after in chaos.stalled]
        problems += await self._settle(commands, max(end, time.time()) + 15)
        await self.members.end_all()
        return problems + self._bad_exits()

    async def _put(self, sender: Sender, documents: list[dict[str, Any]]) -> None:
        for start in range(0, len(documents), PUT_AT_ONCE):
            part = documents[start : start + PUT_AT_ONCE]
            await asyncio.gather(*(sender.send({"type": "job.put", "job": document}) for document in part))

    async def _settle(self, commands: "asyncio.Task[None]", end: float) -> list[str]:
        """Wait until everything is over. Returns what is not."""
        await self.members.fill()
        deadline = time.monotonic() + self.options.settle.total_seconds()
        left = "the commands"
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._remaining(deadline)):
                await commands
                left = "the last slots"
                while self.terms.watermark < end:  # noqa: ASYNC110  it is read in another thread
                    await asyncio.sleep(0.5)
                left = "the runs"
                while await asyncio.to_thread(self.servers.unsettled):  # noqa: ASYNC110  as above
                    await asyncio.sleep(1)
        except TimeoutError:
            return [f"{left} were not over {self.options.settle} after the last fault"]
        return []

    def _remaining(self, deadline: float) -> float:
        return max(0.0, deadline - time.monotonic())

    def _bad_exits(self) -> list[str]:
        crashed = [f"{name} ended by itself with {code}" for name, code in self.members.crashes]
        return crashed + [
            f"{name} ended with {code} after SIGTERM" for name, code in self.members.exits if code
        ]


def _judge(options: Options, directory: Path, servers: ChaosServers, problems: list[str]) -> dict[str, Any]:
    log = directory / "driver.jsonl"
    history = read_history(log, directory / "evidence", servers.mongo_url, DATABASE, NAMESPACE)
    report = check(history, _tolerances(options))
    if not report.ok:
        _keep_entries(history, directory / "ledger.jsonl")
    rejected = len(servers.rejected())
    if rejected < len(GARBAGE):
        problems.append(f"{rejected} of {len(GARBAGE)} messages that are no commands were kept")
    if not history.disturbances:
        problems.append("no fault was made: the jobs were not put in time")
    return {
        "ok": report.ok and not problems,
        "seed": options.seed,
        "minutes": options.length.total_seconds() / 60,
        "rabbitmq": servers.rabbitmq.version,
        "mongodb": servers.mongo.version,
        "mongodb_members": options.mongodb_members,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "instances": options.instances,
        "per_second": options.per_second,
        "per_minute": options.per_minute,
        "problems": problems,
        "rejected": rejected,
        "checked": report.to_json(),
        "figures": figures(log),
    }


def _tolerances(options: Options) -> Tolerances:
    lost_after = length(options.settings.get("INSTANCE_LOST_AFTER", "60s"))
    return replace(options.tolerances, lost_after=lost_after, settle=lost_after + KNOWN_AFTER)


def _servers(options: Options, directory: Path) -> ChaosServers:
    return ChaosServers(directory, broker=options.broker, mongodb_members=options.mongodb_members)


def _keep_entries(history: History, file: Path) -> None:
    """Write the ledger to a file, to be looked into when the servers are gone."""
    with file.open("w") as lines:
        for entry in sorted(history.entries, key=lambda entry: (entry.job, entry.slot)):
            lines.write(json.dumps(asdict(entry)) + "\n")


def _environ(options: Options, directory: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRONEXEC_")}
    given = {"NAMESPACE": NAMESPACE, "ALLOW_SHELL": "true", **options.settings}
    own = {f"CRONEXEC_{name}": value for name, value in given.items()}
    return inherited | own | {"CHAOS_EVIDENCE": str(directory / "evidence")}


@contextmanager
def _receiver(evidence: Path) -> Iterator[str]:
    """Yield the URL of a receiver of webhooks."""
    process = subprocess.Popen(
        [sys.executable, str(RECEIVER), str(evidence)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
