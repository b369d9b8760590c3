"""Commands that flow all the while, sent by standbys, and each followed until it is answered.

A command without an answer (its sender was killed, nobody holds, the broker is gone) is sent again with the
same id, by whoever lives: it must be applied once all the same, and answered as the first time. Some are sent
twice at once for the same reason. Commands about one job never overlap, and keep a distance that lets the
checker tell their effects apart.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

from chaos_jobs import JobMaker
from chaos_log import DriverLog
from chaos_members import Answer, Member, Members
from chaos_terms import TermWatch

APART = 3.0  # seconds between two commands about one job; twice the checker's tolerance, and more
LONG = 8.0  # seconds that a run lasts unless it is cancelled
RETRIED = 0.5  # of the cancelled runs
PATIENCE = 20.0  # seconds until a command without any answer is sent again
HOUR = 3600.0
BREAKS = (40.0, 70.0)  # seconds that a pause with an end lasts: longer than any command waits for its answer
KINDS = ("put", "pause", "resume", "delete", "wrong", "break", "skip", "blackout", "unblackout")
WEIGHTS = (4, 3, 3, 1, 1, 1, 2, 2, 1)
EXCEPTIONS = {"break", "skip", "blackout", "unblackout"}
GARBAGE = (b"", b"{", b"[]", b'{"schema": 1, "id": "x"}', b"\xff\xfe", b'{"schema": 1, "type": "job.put"}')
Document = dict[str, Any]


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


class Sender:
    """Sends commands by members, and knows their answers."""

    def __init__(self, members: Members, terms: TermWatch, log: DriverLog, rng: random.Random) -> None:
        self._members = members
        self._terms = terms
        self._log = log
        self._rng = rng
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        members.on_answer = self._answered

    async def send(self, command: Document, *, twice: bool = False) -> Document:
        """Send until a reply arrives, and return that."""
        command_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        patience = 0.2
        while True:
            member = await self._somebody()
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting[command_id] = answer
            self._log.write("command.sent", id=command_id, sender=member.name, command=command)
            member.order("send", id=command_id, command=command)
            if twice:
                (await self._somebody()).order("send", id=command_id, command=command)
            try:
                async with asyncio.timeout(PATIENCE):
                    found = await answer
            except TimeoutError:
                continue
            if "reply" in found:
                reply: Document = found["reply"]
                return reply
            await asyncio.sleep(patience)
            patience = min(2 * patience, 2.0)

    def _answered(self, answer: Answer) -> None:
        command_id = answer["id"]
        if "reply" in answer:
            self._log.write("command.answered", id=command_id, reply=answer["reply"])
        else:
            self._log.write(
                "command.failed", id=command_id, why=answer["failed"], confirmed=answer["confirmed"]
            )
        waiting = self._waiting.get(command_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _somebody(self) -> Member:
        """Return a member that lives; a standby if there is one."""
        while not (alive := list(self._members.alive())):  # noqa: ASYNC110  processes come and go
            await asyncio.sleep(0.1)
        standbys = [member for member in alive if member.name != self._terms.holder]
        return self._rng.choice(standbys or alive)


class Traffic:
    """Changes a few jobs over and over, triggers others, and cancels what it has triggered of slow ones.

    Has some run what was before, and what has just been: each job once or twice, one after the other.
    """

    def __init__(
        self, sender: Sender, maker: JobMaker, rng: random.Random, *, stable: list[str], slow: list[str]
    ) -> None:
        self._filled: set[str] = set()
        self._sender = sender
        self._maker = maker
        self._rng = rng
        self._stable = stable
        self._slow = slow
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, until: float, *, changing: int, rate: float) -> None:
        """Send about `rate` commands a second until `until`; then wait for what is under way."""
        for number in range(changing):
            self._spawn(self._change(f"changing-{number}", until))
        while time.time() < until:
            await asyncio.sleep(self._rng.expovariate(rate))
            self._spawn(self._singly())
        await asyncio.gather(*self._tasks)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _change(self, name: str, until: float) -> None:
        """Send one change of a job after the other."""
        changes = self._changes(name)
        while True:
            await asyncio.sleep(APART + self._rng.expovariate(0.5))
            if time.time() > until:
                return
            command = next(changes)
            await self._sender.send(command, twice=self._rng.random() < 0.1)
            if "until" in command:  # when it goes on by itself, nothing else changes
                over_at = datetime.fromisoformat(command["until"]).timestamp()
                if over_at > until:
                    return
                await asyncio.sleep(max(over_at - time.time(), 0.0))

    def _changes(self, name: str) -> Iterator[Document]:
        yield self._put(name)
        while True:
            kind = self._rng.choices(KINDS, WEIGHTS)[0]
            if kind in EXCEPTIONS:
                yield self._exception(kind, name)
            elif kind == "put":
                yield self._put(name)
            elif kind == "wrong":
                yield {**self._put(name), "if_version": 1_000_000}
            else:
                yield {"type": f"job.{kind}", "name": name}

    def _exception(self, kind: str, name: str) -> Document:
        """Return a command that lets slots be skipped for a time, or some of them, or takes that back."""
        command: Document = {"type": "job.pause" if kind == "break" else f"job.{kind}", "name": name}
        now = time.time()
        if kind == "break":
            return command | {"until": _text(now + self._rng.uniform(*BREAKS))}
        if kind == "blackout":
            start = now + self._rng.uniform(0.0, 10.0)
            return command | {"start": _text(start), "end": _text(start + self._rng.uniform(1.0, 15.0))}
        return command | ({"count": self._rng.randint(0, 4)} if kind == "skip" else {})

    def _put(self, name: str) -> Document:
        return {"type": "job.put", "job": self._maker.changing(name)}

    async def _singly(self) -> None:
        """Send a command that leaves the schedule of other jobs alone."""
        number = next(self._numbers)
        kinds = ("trigger", "key", "cancel", "backfill", "once", "nothing")
        kind = self._rng.choices(kinds, (4, 2, 2, 1, 1, 1))[0]
        if kind == "cancel":
            await self._cancel(f"cancelled-{number}")
            return
        if kind == "backfill":
            await self._backfill()
            return
        name = self._rng.choice(self._stable)
        commands: dict[str, Document] = {
            "trigger": {"type": "job.trigger", "name": name},
            "key": {"type": "job.trigger", "name": name, "key": f"key-{number}"},
            "once": {"type": "job.put", "job": self._maker.once(f"once-{number}", self._instant())},
            "nothing": {"type": "job.delete", "name": f"nothing-{number}"},
        }
        await self._sender.send(commands[kind], twice=self._rng.random() < 0.2)

    async def _cancel(self, key: str) -> None:
        """Trigger a slow run, cancel it wherever it is by then, and try some of those again."""
        name = self._rng.choice(self._slow)
        long = {"seconds": LONG}
        reply = await self._sender.send({"type": "job.trigger", "name": name, "key": key, "params": long})
        if not reply["ok"]:
            return  # it runs, and skips what overlaps
        run = f"{name}#{key}"
        await asyncio.sleep(self._rng.random())
        reply = await self._sender.send({"type": "run.cancel", "run": run}, twice=self._rng.random() < 0.2)
        if self._rng.random() < RETRIED:
            await asyncio.sleep(APART)
            await self._sender.send({"type": "run.retry", "run": run})

    async def _backfill(self) -> None:
        """Have a job run some slots of a time in which it was not there, or of half a minute ago."""
        name = self._rng.choice(self._stable)
        if name in self._filled:
            return
        self._filled.add(name)
        interval = 60.0 if name.startswith("minute") else 1.0
        ago = self._rng.choice((HOUR, HOUR, 30.0))
        until = int(time.time() - ago)
        command = {"type": "job.backfill", "name": name, "until": _text(until)}
        command["since"] = _text(until - interval * self._rng.randint(0, 5))
        for _ in range(2):
            ran = self._rng.choice(("refuse", "skip", "again"))
            await self._sender.send(command | {"ran": ran}, twice=self._rng.random() < 0.2)
            await asyncio.sleep(APART)

    def _instant(self) -> float:
        return time.time() + self._rng.choice((-5.0, 1.0, 10.0))
