"""Runs in memory: the compare-and-sets of `mongo_runs` and `mongo_content`, on a dictionary."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from cronexec.domain.run import (
    RETRY,
    UNSETTLED,
    Cause,
    Outcome,
    Progress,
    Run,
    RunState,
    SkipReason,
    sources_of,
)
from cronexec.ports import CloseRange, Finish, Reach, Requeue, RunFilter, Settle, Start


class Database(Protocol):
    """The part of `MemoryDatabase` that runs need."""

    runs: dict[str, Run]

    async def reach(self) -> None: ...


class MemoryRunStore:
    """Implements `ports.RunStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._returned: dict[str, str] = {}  # run id to the token that no longer starts it

    async def unsettled(self) -> list[Run]:
        await self._database.reach()
        return _by_slot(run for run in self._runs.values() if run.state in UNSETTLED or run.undecided)

    async def beyond(self, watermark: datetime) -> list[Reach]:
        await self._database.reach()
        found = _by_slot(
            run
            for run in self._runs.values()
            if _reaches_beyond(run, watermark) and run.reason != SkipReason.PAUSED
        )
        return [Reach(job=run.job, slot=run.slot, until=run.until) for run in found]

    async def start(self, runs: Sequence[Run], start: Start) -> list[str]:
        await self._database.reach()
        return [run.id for run in runs if self._start(run, start)]

    async def give_back(self, run_ids: Sequence[str], token: str) -> None:
        """See `ports.RunStore.give_back`. No start with `token` moves any of the runs from now on."""
        await self._database.reach()
        for run_id in run_ids:
            run = self._runs.get(run_id)
            if run is None:
                continue
            if run.state is RunState.QUEUED or (run.state, run.token) == (RunState.RUNNING, token):
                self._returned[run_id] = token
                self._runs[run_id] = replace(
                    run,
                    state=RunState.QUEUED,
                    token=None,
                    executor=None,
                    started_at=None,
                    progress=None,
                    overrun_at=None,
                )

    async def finish(self, finishes: Sequence[Finish]) -> list[str]:
        await self._database.reach()
        return [finish.run_id for finish in finishes if not self._finish(finish)]

    async def progress(self, progress: Mapping[tuple[str, str], Progress]) -> None:
        await self._database.reach()
        for (run_id, token), latest in progress.items():
            run = self._runs.get(run_id)
            if run is not None and (run.state, run.token) == (RunState.RUNNING, token):
                self._runs[run_id] = replace(run, progress=latest)

    async def overran(self, since: Mapping[tuple[str, str], datetime]) -> None:
        await self._database.reach()
        for (run_id, token), at in since.items():
            run = self._runs.get(run_id)
            if run is not None and run.token == token:
                self._runs[run_id] = replace(run, overrun_at=at)

    async def cancel_requests(self, executor_id: str) -> list[tuple[str, str]]:
        await self._database.reach()
        return [
            (run.id, run.cancel_requested_by)
            for run in self._runs.values()
            if run.state is RunState.RUNNING
            and run.cancel_requested_by is not None
            and run.executor is not None
            and run.executor.id == executor_id
        ]

    async def states(self, run_ids: Sequence[str]) -> dict[str, RunState]:
        await self._database.reach()
        return {run_id: self._runs[run_id].state for run_id in run_ids if run_id in self._runs}

    async def get(self, run_id: str) -> Run | None:
        await self._database.reach()
        return self._runs.get(run_id)

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        await self._database.reach()
        return {run_id: self._runs[run_id] for run_id in run_ids if run_id in self._runs}

    async def scheduled(self, since: datetime | None = None) -> AsyncIterator[Run]:
        """See `ports.RunStore.scheduled`; what the runs printed is left out."""
        await self._database.reach()
        found = [
            run
            for run in self._runs.values()
            if run.cause is Cause.SCHEDULE and (since is None or _reaches_beyond(run, since))
        ]
        for run in sorted(found, key=lambda run: (run.job, run.slot)):
            yield replace(run, outcome=run.outcome and replace(run.outcome, output=None))

    async def at_slots(self, job: str, slots: Sequence[datetime]) -> list[Run]:
        await self._database.reach()
        wanted = set(slots)
        return [
            replace(run, outcome=run.outcome and replace(run.outcome, output=None))
            for run in self._runs.values()
            if run.job == job
            and run.slot in wanted
            and run.cause is not Cause.TRIGGER
            and run.state is not RunState.SKIPPED
        ]

    async def list(self, which: RunFilter) -> list[Run]:
        await self._database.reach()
        found = sorted((run for run in self._runs.values() if _matches(run, which)), key=lambda run: run.id)
        return sorted(found, key=lambda run: run.slot, reverse=True)[: which.limit]

    @property
    def _runs(self) -> dict[str, Run]:
        return self._database.runs

    def _start(self, run: Run, start: Start) -> bool:
        found = self._runs.get(run.id)
        if found is None:
            return False
        expected = (RunState.QUEUED, run.epoch, run.attempt)
        is_ready = (found.state, found.epoch, found.attempt) == expected
        if is_ready and self._returned.get(run.id) != start.token:
            self._returned.pop(run.id, None)
            self._runs[run.id] = replace(
                found,
                state=RunState.RUNNING,
                token=start.token,
                executor=start.executor,
                started_at=start.at,
                reason=None,
            )
            return True
        return (found.state, found.token) == (RunState.RUNNING, start.token)

    def _finish(self, finish: Finish) -> bool:
        run = self._runs.get(finish.run_id)
        if run is None:
            return False
        if finish.again_at is not None and any(former.token == finish.token for former in run.attempts):
            return True
        if (run.attempt, run.token) != (finish.attempt, finish.token):
            return False
        if finish.again_at is not None:
            return self._queue_again(replace(run, started_at=finish.started_at), finish)
        if run.state is RunState.QUEUED or run.state not in sources_of(finish.outcome.state):
            return (run.state, run.finished_at) == (finish.outcome.state, finish.finished_at)
        self._runs[run.id] = replace(
            _ended(run, finish.outcome, finish.finished_at),
            started_at=finish.started_at,
            progress=finish.progress or run.progress,
            undecided=finish.undecided,
        )
        return True

    def _queue_again(self, run: Run, finish: Finish) -> bool:
        if run.state is not RunState.RUNNING:
            return False
        self._runs[run.id] = run.queued_again(
            finish.outcome, ended_at=finish.finished_at, not_before=finish.again_at, reason=RETRY
        )
        return True


def settle(runs: dict[str, Run], change: Settle) -> None:
    """Do what `Settle` says, where it matches."""
    run = runs.get(change.run_id)
    if run is None or (run.state, run.attempt) != (change.expected, change.attempt):
        return
    if change.token in (None, run.token):
        runs[run.id] = replace(_ended(run, change.outcome, change.at), undecided=change.undecided)


def requeue(runs: dict[str, Run], change: Requeue, epoch: int) -> None:
    """Do what `Requeue` says, where it matches."""
    run = runs.get(change.run_id)
    if run is None or (run.state, run.attempt) != (change.expected, change.attempt):
        return
    if change.token in (None, run.token):
        ended_at = run.finished_at or change.at
        again = run.queued_again(change.outcome, ended_at=ended_at, not_before=None, reason=change.reason)
        runs[run.id] = replace(again, epoch=epoch, claimed_at=change.at, cancel_requested_by=None)


def close_range(runs: dict[str, Run], close: CloseRange) -> None:
    """Do what `CloseRange` says, if the range reaches as far as that expects."""
    run = runs.get(close.run_id)
    if run is None or (run.open_ended, run.until) != (close.foreseen is None, close.foreseen):
        return
    if close.until < run.slot:
        del runs[run.id]
    else:
        runs[run.id] = replace(run, open_ended=False, until=close.until)


def _ended(run: Run, outcome: Outcome, at: datetime) -> Run:
    return replace(run, state=outcome.state, outcome=outcome, finished_at=at)


def _by_slot(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: run.slot)


def _reaches_beyond(run: Run, instant: datetime) -> bool:
    last = run.until or run.slot
    return run.cause is Cause.SCHEDULE and (run.open_ended or last > instant)


def _matches(run: Run, which: RunFilter) -> bool:
    return (
        which.job in (None, run.job)
        and (which.executor is None or (run.executor is not None and run.executor.id == which.executor))
        and (not which.states or run.state in which.states)
        and (not which.causes or run.cause in which.causes)
        and (run.undecided or not which.undecided)
        and (which.since is None or run.slot >= which.since)
        and (which.until is None or run.slot <= which.until)
    )
