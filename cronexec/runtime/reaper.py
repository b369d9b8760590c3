"""The reaper: what becomes of runs that other instances execute, as far as the holder must know.

A run that was started elsewhere (by the holder before this one) goes on there. The reaper looks once a second
whether it is settled, so that the next run of its job may start; takes back one that was given back
unstarted; and abandons the runs of an instance that is lost (`heartbeats`).
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from cronexec.domain.ledger import Settle
from cronexec.domain.run import Outcome, Run, RunState
from cronexec.errors import CronexecError
from cronexec.runtime.context import Context
from cronexec.runtime.heartbeats import Heartbeats

LOOK_INTERVAL = 1.0


class Reaper:
    """Belongs to one term.

    `on_settled` and `on_returned` are told what became of runs; `submit` takes abandonments.
    """

    def __init__(
        self,
        context: Context,
        *,
        heartbeats: Heartbeats,
        on_settled: Callable[[Run], None],
        on_returned: Callable[[Run], None],
        submit: Callable[[Iterable[Settle]], None],
    ) -> None:
        self._context = context
        self._on_settled = on_settled
        self._on_returned = on_returned
        self._submit = submit
        self._foreign: dict[str, Run] = {}
        self._heartbeats = heartbeats

    def watch(self, runs: Iterable[Run]) -> None:
        """Look after these runs, which are running somewhere else."""
        self._foreign |= {run.id: run for run in runs}

    async def run(self) -> None:
        """Look once a second."""
        while True:
            if self._foreign:
                try:
                    await self._look()
                except CronexecError as error:
                    self._context.log.warning("reaper.look_failed", error=str(error))
            await asyncio.sleep(LOOK_INTERVAL)

    async def _look(self) -> None:
        store = self._context.store
        states = await store.runs.states(list(self._foreign))
        for run_id, state in states.items():
            if state is RunState.QUEUED:
                self._on_returned(self._foreign.pop(run_id))
            elif state.is_final:
                self._on_settled(self._foreign.pop(run_id))
        unknown = [run.id for run in self._foreign.values() if run.executor is None]
        self._foreign |= await store.runs.get_many(unknown) if unknown else {}
        self._abandon_lost()

    def _abandon_lost(self) -> None:
        now = self._context.clock.monotonic()
        lost = [
            run
            for run in self._foreign.values()
            if run.executor is not None and self._heartbeats.lost(run.executor.id, now)
        ]
        if not lost:
            return
        self._context.log.error(
            "run.abandoned", runs=[run.id for run in lost][:20], count=len(lost), reason="instance_lost"
        )
        at = self._context.clock.now()
        self._submit([_abandonment(run, at) for run in lost])


def _abandonment(run: Run, at: datetime) -> Settle:
    outcome = Outcome(
        state=RunState.ABANDONED,
        reason="instance_lost",
        error=f"the instance {run.executor.name if run.executor else '?'} vanished while it ran",
    )
    return Settle(
        run_id=run.id, attempt=run.attempt, expected=RunState.RUNNING, outcome=outcome, at=at, token=run.token
    )
