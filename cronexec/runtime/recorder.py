"""The recorder: writes what executors know into the ledger, in bulk, until the database has it.

It belongs to the instance, not to a term: an outcome is a compare-and-set on (run, attempt, token), so it is
right whoever holds the baton by now, and however late it comes. A database that is away delays outcomes and
loses none while the process lives.

Starts go first: while runs that are due wait for nothing but their start, outcomes are held for up to half a
second, so that in a burst the database does what somebody waits for.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from cronexec.domain.run import Outcome, Progress
from cronexec.errors import CronexecError, UnwritableError
from cronexec.log import Log
from cronexec.ports import Finish, RunStore
from cronexec.runtime.service import Backoff, Wake

MOST_AT_ONCE = 500
PROGRESS_INTERVAL = 0.5
UNWRITABLE = "what is to be said of the outcome cannot be stored in the database"
HELD_FOR = 0.5
REFUSED_AGAIN_AFTER = 30.0


class Recorder:
    """Collects outcomes; `on_recorded` is told which the ledger has now, `on_refused` which it will never."""

    def __init__(self, *, runs: RunStore, log: Log) -> None:
        self._runs = runs
        self._log = log
        self._finishes: deque[Finish] = deque()
        self._progress: dict[tuple[str, str], Progress] = {}
        self._overran: dict[tuple[str, str], datetime] = {}
        self._wake = Wake()
        self._idle = asyncio.Event()
        self._idle.set()
        self.on_recorded: Callable[[list[Finish]], None] = lambda _: None
        self.on_refused: Callable[[list[Finish]], None] = lambda _: None
        self.is_starting: Callable[[], bool] = lambda: False
        self.dropped = 0
        self.is_writing = True  # False once its loop has ended: nothing is recorded any more
        self._set_aside: dict[str, Finish] = {}  # bare outcomes that the database refuses, for now
        self._singly = 0  # outcomes that are to be written one by one, to find the one that cannot be

    def finish(self, finish: Finish) -> None:
        """Take an outcome; it is written soon, and retried until it is."""
        last = self._progress.pop((finish.run_id, finish.token), None)
        self._finishes.append(finish if last is None else replace(finish, progress=last))
        self._idle.clear()
        self._wake.set()

    def unrecorded(self) -> set[str]:
        """Return the ids of runs that are over here, and that the ledger still has running."""
        return {finish.run_id for finish in self._finishes} | self._set_aside.keys()

    def progress(self, run_id: str, token: str, progress: Progress) -> None:
        """Take the latest progress of a run; of several within half a second only the last is written."""
        self._progress[run_id, token] = progress

    def overran(self, run_id: str, token: str, at: datetime) -> None:
        """Take note that an attempt takes longer than expected; it is written with the next progress."""
        self._overran[run_id, token] = at

    async def run(self) -> None:
        """Write outcomes as they come, and progress every half second."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write_finishes())
                group.create_task(self._write_progress())
        finally:
            self.is_writing = False

    async def flush(self, timeout: float) -> int:
        """Wait until everything is written, at most `timeout` seconds. Returns how many outcomes are not."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            pass
        return len(self._finishes) + len(self._set_aside)

    async def _write_finishes(self) -> None:
        backoff = Backoff()
        while True:
            if not self._finishes:
                self._idle.set()
                await self._wake.wait()
                await self._let_starts_go_first()
                continue
            most = 1 if self._singly else MOST_AT_ONCE
            group = [self._finishes[i] for i in range(min(most, len(self._finishes)))]
            try:
                missed = set(await self._runs.finish(group))
            except UnwritableError as error:
                self._take_apart(group, str(error))
                continue
            except CronexecError as error:
                self._log.warning("run.outcome_delayed", runs=len(group), error=str(error))
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self._singly = max(0, self._singly - 1)
            for _ in group:
                self._finishes.popleft()
            self.on_recorded([finish for finish in group if finish.run_id not in missed])
            if missed:
                self._deal_with([finish for finish in group if finish.run_id in missed])

    async def _let_starts_go_first(self) -> None:
        try:
            async with asyncio.timeout(HELD_FOR):
                while self.is_starting():  # noqa: ASYNC110  to be told of each would cost the starts
                    await asyncio.sleep(HELD_FOR / 50)
        except TimeoutError:
            pass

    def _take_apart(self, group: list[Finish], why: str) -> None:
        """Find the outcome that the database will never take, and write it without what was said of it.

        Where it refuses even that, it is the database that is wrong (a validator on the collection, say): its
        run would be `running` for ever, and its job stand still, so it is asked again from time to time.
        """
        if len(group) > 1:
            self._singly = len(group)
            return
        finish = self._finishes.popleft()
        self._log.error("run.outcome_unwritable", run=finish.run_id, attempt=finish.attempt, why=why)
        bare = Outcome(state=finish.outcome.state, error=UNWRITABLE)
        if (finish.outcome, finish.progress) != (bare, None):
            self._finishes.appendleft(replace(finish, outcome=bare, progress=None))
        else:
            self._set_aside[finish.run_id] = finish
            asyncio.get_running_loop().call_later(REFUSED_AGAIN_AFTER, self._take_up, finish)

    def _take_up(self, finish: Finish) -> None:
        del self._set_aside[finish.run_id]
        self.finish(finish)

    def _deal_with(self, missed: list[Finish]) -> None:
        """Try outcomes otherwise that were not recorded, or tell that they never will be.

        Another attempt follows a running one only: of one that was abandoned meanwhile, this is the end.
        """
        self._finishes.extend(
            replace(finish, again_at=None) for finish in missed if finish.again_at is not None
        )
        if refused := [finish for finish in missed if finish.again_at is None]:
            for finish in refused:
                self._report_missed(finish)
            self.on_refused(refused)

    def _report_missed(self, finish: Finish) -> None:
        self.dropped += 1
        self._log.error(
            "run.outcome_refused",
            run=finish.run_id,
            attempt=finish.attempt,
            outcome=finish.outcome.state.value,
            why="the ledger has another start of this run, or its end already",
        )

    async def _write_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL)
            if self._overran:
                await self._write_overran()
            if not self._progress:
                continue
            latest, self._progress = self._progress, {}
            try:
                await self._runs.progress(latest)
            except CronexecError as error:
                self._log.warning("run.progress_not_written", runs=len(latest), error=str(error))

    async def _write_overran(self) -> None:
        """Write the marks, and keep those that are not written: unlike progress, no later one follows."""
        marks, self._overran = self._overran, {}
        try:
            await self._runs.overran(marks)
        except CronexecError as error:
            self._overran = marks | self._overran
            self._log.warning("run.overrun_not_written", runs=len(marks), error=str(error))
