"""The reaper: what becomes of runs that other instances execute, as far as the holder must know.

A run that was started elsewhere (by the holder before this one) goes on there. The reaper looks once a second
whether it is settled, so that the next run of its job may start; takes back one that is queued again, because
it was given back unstarted, or for its next attempt; and abandons the runs of an instance that is lost
(`heartbeats`), as their jobs say: for good, for another attempt, or for a person to decide. One that was
asked to end, because it was cancelled or replaced, is abandoned for good.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from cronexec.domain.follow_up import repeats_abandoned, stays_undecided
from cronexec.domain.job import JobDocument
from cronexec.domain.ledger import Requeue, Settle
from cronexec.domain.run import INSTANCE_LOST, Outcome, Run, RunState
from cronexec.errors import CronexecError
from cronexec.runtime.context import Context
from cronexec.runtime.heartbeats import Heartbeats

LOOK_INTERVAL = 1.0

DocumentsOf = Callable[[Iterable[Run]], Awaitable[Mapping[tuple[str, int], JobDocument]]]


class Submit(Protocol):
    """Has the next fenced write carry these."""

    def __call__(self, settles: Iterable[Settle] = (), *, requeues: Iterable[Requeue] = ()) -> None: ...


class Reaper:
    """Belongs to one term.

    `on_settled` and `on_queued` are told what became of runs; `submit` takes abandonments.
    """

    def __init__(
        self,
        context: Context,
        *,
        heartbeats: Heartbeats,
        on_settled: Callable[[Run], None],
        on_queued: Callable[[Run], None],
        documents_of: DocumentsOf,
        submit: Submit,
    ) -> None:
        self._context = context
        self._on_settled = on_settled
        self._on_queued = on_queued
        self._documents_of = documents_of
        self._submit = submit
        self._foreign: dict[str, Run] = {}
        self._heartbeats = heartbeats

    def watch(self, runs: Iterable[Run]) -> None:
        """Look after these runs, which are running somewhere else, or wait for a person's decision."""
        self._foreign |= {run.id: run for run in runs}

    def leave(self, run_ids: Iterable[str]) -> None:
        """Look no more after runs that the holder has queued: what was seen of them is of their past."""
        for run_id in run_ids:
            self._foreign.pop(run_id, None)

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
        store, asked = self._context.store, list(self._foreign)
        states = await store.runs.states(asked)
        abandoned = [run_id for run_id, state in states.items() if state is RunState.ABANDONED]
        unknown = [run.id for run in self._foreign.values() if run.executor is None]
        looked_up = [*abandoned, *unknown]
        found = await store.runs.get_many(looked_up) if looked_up else {}
        for run_id in filter(self._foreign.__contains__, asked):
            state = states.get(run_id)  # None: somebody removed the entry
            if state is RunState.QUEUED:
                self._on_queued(self._foreign.pop(run_id))
            elif state is None or (found[run_id].is_settled if run_id in found else state.is_final):
                self._on_settled(self._foreign.pop(run_id))
        self._foreign |= {run_id: run for run_id, run in found.items() if run_id in self._foreign}
        await self._abandon_lost()

    async def _abandon_lost(self) -> None:
        now = self._context.clock.monotonic()
        vanished = [
            run.id
            for run in self._foreign.values()
            if run.executor is not None and not run.undecided and self._heartbeats.lost(run.executor.id, now)
        ]
        if not vanished:
            return
        # As they are now: somebody may have asked them to end since they were first seen.
        lost = list((await self._context.store.runs.get_many(vanished)).values())
        self._context.log.error(
            "run.abandoned", runs=[run.id for run in lost][:20], count=len(lost), reason=INSTANCE_LOST
        )
        self._abandon(lost, await self._documents_of(lost), self._context.clock.now())

    def _abandon(
        self, lost: Sequence[Run], documents: Mapping[tuple[str, int], JobDocument], at: datetime
    ) -> None:
        settles: list[Settle] = []
        requeues: list[Requeue] = []
        for run in lost:
            wanted = run.cancel_requested_by is None
            document = documents.get((run.job, run.version)) if wanted else None
            if document is not None and repeats_abandoned(document, run.attempt):
                requeues.append(_repetition(run, at))
            else:
                settles.append(_abandonment(run, document, at))
        self._submit(settles, requeues=requeues)


def _outcome(run: Run) -> Outcome:
    return Outcome(
        state=RunState.ABANDONED,
        reason=INSTANCE_LOST,
        error=f"the instance {run.executor.name if run.executor else '?'} vanished while it ran",
    )


def _abandonment(run: Run, document: JobDocument | None, at: datetime) -> Settle:
    outcome = _outcome(run)
    return Settle(
        run_id=run.id,
        attempt=run.attempt,
        expected=RunState.RUNNING,
        outcome=outcome,
        at=at,
        token=run.token,
        undecided=document is not None and stays_undecided(document, outcome),
    )


def _repetition(run: Run, at: datetime) -> Requeue:
    return Requeue(
        run_id=run.id,
        attempt=run.attempt,
        expected=RunState.RUNNING,
        outcome=_outcome(run),
        at=at,
        token=run.token,
        reason=INSTANCE_LOST,
    )
