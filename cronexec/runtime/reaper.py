"""The reaper: what becomes of runs that other instances execute, as far as the holder must know.

A run that was started elsewhere (by the holder before this one) goes on there. The reaper looks once a second
whether it is settled, so that the next run of its job may start; takes back one that was given back
unstarted; and abandons the runs of an instance whose heartbeat stood still for `instance_lost_after`, counted
only while heartbeats could be read: an outage of the database kills nobody.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from cronexec.domain.ledger import Settle
from cronexec.domain.run import Outcome, Run, RunState
from cronexec.errors import CronexecError
from cronexec.ports import InstanceRecord
from cronexec.runtime.context import Context

LOOK_INTERVAL = 1.0


class Reaper:
    """Belongs to one term.

    `on_settled` and `on_returned` are told what became of runs; `submit` takes abandonments.
    """

    def __init__(
        self,
        context: Context,
        *,
        on_settled: Callable[[Run], None],
        on_returned: Callable[[Run], None],
        submit: Callable[[Iterable[Settle]], None],
    ) -> None:
        self._context = context
        self._on_settled = on_settled
        self._on_returned = on_returned
        self._submit = submit
        self._foreign: dict[str, Run] = {}
        self._beats = Heartbeats(context.settings.instance_lost_after.total_seconds())

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
                    self._beats.interrupted()
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
        if not self._foreign:
            return
        self._beats.observe(await store.instances.list(), self._context.clock.monotonic())
        self._abandon_lost()

    def _abandon_lost(self) -> None:
        now = self._context.clock.monotonic()
        lost = [
            run for run in self._foreign.values() if run.executor and self._beats.lost(run.executor.id, now)
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


class Heartbeats:
    """When each instance's heartbeat was last seen to change, on the observer's own monotonic clock."""

    def __init__(self, lost_after: float) -> None:
        self._lost_after = lost_after
        self._seen: dict[str, tuple[int, float]] = {}
        self._since: float | None = None

    def observe(self, records: Iterable[InstanceRecord], now: float) -> Mapping[str, tuple[int, float]]:
        """Take a successful reading of all heartbeats."""
        if self._since is None:
            self._since = now
        current = {record.executor.id: record.beat for record in records}
        for executor_id, beat in current.items():
            known = self._seen.get(executor_id)
            if known is None or known[0] != beat:
                self._seen[executor_id] = (beat, now)
        return self._seen

    def interrupted(self) -> None:
        """Heartbeats could not be read: nobody's silence counts from before."""
        self._since = None
        self._seen.clear()

    def lost(self, executor_id: str, now: float) -> bool:
        """Whether the instance's heartbeat stood still, or was not there at all, for too long."""
        if self._since is None:
            return False
        _, changed_at = self._seen.get(executor_id, (0, self._since))
        return now - changed_at > self._lost_after
