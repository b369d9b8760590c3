"""Starts in the ledger: queued runs become running, and come back where their target never began.

A start is one compare-and-set for a group, no larger than what can begin at once, committed by a majority
before any target begins. When its answer is lost it is asked for again (the group's token makes that
idempotent) as long as the term lasts. What may have been started and is not to begin is given back, until the
database has it: nobody else would ever take it up while this instance lives. Giving back burns the token, so
that a start which arrives after that moves nothing.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from cronexec.domain.run import Executor, Run
from cronexec.errors import CronexecError
from cronexec.log import Log
from cronexec.ports import RunStore, Start
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.service import Backoff


class Starts:
    """Belongs to an instance. `returning`: the ids of runs on their way back."""

    def __init__(self, *, runs: RunStore, executor: Executor, log: Log) -> None:
        self._runs = runs
        self._executor = executor
        self._log = log
        self.returning: set[str] = set()

    def draw(self, at: datetime) -> Start:
        """Return a start with a token of its own."""
        return Start(token=uuid.uuid4().hex, executor=self._executor, at=at)

    async def commit(self, runs: Sequence[Run], start: Start, guard: TermGuard) -> set[str]:
        """Move runs to running. Returns those that were moved, or may have been when the term ended."""
        if not guard.holds():
            return set()
        backoff = Backoff(first=0.05, most=1.0)
        while True:
            try:
                moved = set(await self._runs.start(runs, start))
            except CronexecError as error:
                self._log.warning("run.start_unclear", runs=len(runs), error=str(error))
                if not guard.holds():
                    return {run.id for run in runs}
                await asyncio.sleep(backoff.next())
                continue
            if len(moved) < len(runs):
                self._log.warning("run.start_refused", runs=[run.id for run in runs if run.id not in moved])
            return moved

    async def give_back(
        self, run_ids: Sequence[str], token: str, *, shut_out: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Return runs whose target never began; `shut_out` comes first each time, where it is given."""
        backoff = Backoff()
        self.returning.update(run_ids)
        self._log.warning("run.given_back", runs=len(run_ids), first=run_ids[0])
        while True:
            try:
                if shut_out is not None:
                    await shut_out()
                await self._runs.give_back(run_ids, token)
            except CronexecError as error:
                self._log.warning("run.give_back_delayed", runs=len(run_ids), error=str(error))
            except Exception:  # noqa: BLE001  a defect: nobody but this instance can return them
                self._log.exception("run.start_crashed", runs=len(run_ids))
            else:
                break
            await asyncio.sleep(backoff.next())
        self.returning.difference_update(run_ids)
