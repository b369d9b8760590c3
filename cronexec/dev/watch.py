"""Watching: the live view in a terminal, a line every few seconds in a pipe.

Beside it, instances that were killed are started again, and holders are killed where that was asked for.

What is read may fail while servers are restarted by hand: then the last snapshot stays, with the reason as
the remark.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.live import Live

from cronexec.dev.development import Running
from cronexec.dev.failover import FailoverLog, kill_holder
from cronexec.dev.processes import ChildProcess
from cronexec.dev.snapshot import Snapshot, SnapshotReader
from cronexec.dev.view import Scene, draw, seconds_text
from cronexec.errors import CronexecError

VIEW_INTERVAL = timedelta(seconds=1)
PLAIN_INTERVAL = timedelta(seconds=5)
REVIVE_INTERVAL = timedelta(milliseconds=500)
READING_SHARE = 4  # a pause is at least so many times as long as the reading before it
REMARK_TIMEOUT = timedelta(seconds=15)


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """`kill_holder_every`, `stop_after`: None for never. `view`: the live view, else lines."""

    view: bool
    kill_holder_every: timedelta | None = None
    stop_after: timedelta | None = None


class Watch:
    """Watches until `stop_after`, or until it is cancelled. `say` prints a line."""

    def __init__(self, options: WatchOptions, *, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._failovers = FailoverLog()
        self._remark = ""
        self._remarked_at = 0.0
        self._live: Live | None = None

    async def run(self, running: Running) -> None:
        """Watch; raises CronexecError when the first reading fails, later ones may."""
        tasks: list[Coroutine[Any, Any, None]] = [self._show(running), self._revive(running)]
        if self._options.kill_holder_every is not None:
            tasks.append(self._kill_holders(running, self._options.kill_holder_every))
        stop_after = self._options.stop_after
        limit = None if stop_after is None else stop_after.total_seconds()
        await _until_first_ends(tasks, limit)

    def leave(self) -> None:
        """Give the terminal back. Idempotent."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    async def _show(self, running: Running) -> None:
        reader = SnapshotReader(running.connection.store)
        snapshot = await reader.read()
        show = self._show_view if self._options.view else self._show_line
        interval = VIEW_INTERVAL if self._options.view else PLAIN_INTERVAL
        while True:
            began = time.monotonic()
            with contextlib.suppress(CronexecError):
                snapshot = await self._read(reader)
            show(snapshot, running)
            spent = time.monotonic() - began
            await asyncio.sleep(max(interval.total_seconds() - spent, spent * READING_SHARE))

    async def _read(self, reader: SnapshotReader) -> Snapshot:
        try:
            snapshot = await reader.read()
        except CronexecError as error:
            self._note(str(error))
            raise
        self._failovers.saw(snapshot.term)
        return snapshot

    def _show_view(self, snapshot: Snapshot, running: Running) -> None:
        if self._live is None:
            self._live = Live(console=Console(), screen=True, auto_refresh=False, redirect_stdout=False)
            self._live.start()
        console = self._live.console
        scene = self._scene(snapshot, running)
        self._live.update(draw(scene, width=console.width, height=console.height), refresh=True)

    def _show_line(self, snapshot: Snapshot, running: Running) -> None:
        term, totals = snapshot.term, snapshot.totals
        up = sum(member.process.running for member in running.cluster.members.values())
        self._say(
            f"{term.read_at:%H:%M:%S} baton {term.holder_name or 'nobody'}, epoch {term.epoch}, "
            f"lag {seconds_text(max(term.lag.total_seconds(), 0))}; "
            f"{up} of {len(running.cluster.members)} instances; {len(snapshot.running)} running; "
            f"last minute: {totals.due} due, {totals.run} run, {totals.skipped} skipped, "
            f"{totals.failed} failed; failovers {len(self._failovers.failovers)}"
        )

    def _scene(self, snapshot: Snapshot, running: Running) -> Scene:
        members = running.cluster.members.values()
        return Scene(
            snapshot=snapshot,
            places={member.place.name: member.place.datacenter for member in members},
            down=frozenset(member.place.name for member in members if not member.process.running),
            failovers=self._failovers.failovers,
            remark=self._current_remark(running),
            hint=f"In another terminal: . {running.env_file}",
        )

    def _current_remark(self, running: Running) -> str:
        if self._remark and time.monotonic() - self._remarked_at < REMARK_TIMEOUT.total_seconds():
            return self._remark
        ended = [each for each in running.companions if not each.running]
        return _ended(ended[0]) if ended else ""

    def _note(self, remark: str) -> None:
        self._remark = remark
        self._remarked_at = time.monotonic()
        if not self._options.view:
            self._say(remark)

    async def _revive(self, running: Running) -> None:
        told: set[str] = set()
        while True:
            for name in await asyncio.to_thread(running.cluster.revive):
                self._note(f"{name} started again")
            for companion in running.companions:
                if not companion.running and companion.name not in told:
                    told.add(companion.name)
                    self._note(_ended(companion))
            await asyncio.sleep(REVIVE_INTERVAL.total_seconds())

    async def _kill_holders(self, running: Running, every: timedelta) -> None:
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                failover = await kill_holder(running.cluster, running.connection.store.terms, self._failovers)
            except CronexecError as error:
                self._note(f"the holder could not be killed: {error}")
                continue
            if failover is not None and failover.took is not None:
                took = seconds_text(failover.took.total_seconds())
                self._note(
                    f"killed {failover.killed} (kill -9); {failover.holder}'s first write came {took} later"
                )


def _ended(companion: ChildProcess) -> str:
    return f"{companion.name} has ended with exit code {companion.exit_code}: see {companion.log}"


async def _until_first_ends(work: list[Coroutine[Any, Any, None]], limit: float | None) -> None:
    """Run all until one ends (its error is raised) or `limit` seconds have passed; cancel the others."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
