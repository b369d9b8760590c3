"""An instance's runtime: its parts, started and stopped in the right order.

```
Instance ── Candidate ── Holder ── Scheduler, BatonKeeper, Reaper, Inbox      (one term)
   │ └────── Observer, JobTable                                               (every instance, always)
   ├──────── Closer                                           (where the broker's management is configured)
   ├──────── Dispatcher ── Attempt …, Recorder                                (runs outlive terms)
   └──────── Heart, Watchdog
```

Stopping: the baton first, so that the next holder decides the next slot; then what runs here finishes, up to
`shutdown_grace`; what remains is recorded `abandoned reason=shutdown`; outcomes are flushed; the heartbeat
goes last, because a draining instance is alive (invariant I8).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cronexec.domain.follow_up import repeats_abandoned
from cronexec.domain.run import Outcome, RunState
from cronexec.errors import CronexecError, UnreachableError
from cronexec.runtime.abilities import Abilities
from cronexec.runtime.candidate import Candidate
from cronexec.runtime.closer import Closer
from cronexec.runtime.context import Context
from cronexec.runtime.control import ControlListener
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.drain import Drain
from cronexec.runtime.heart import Heart
from cronexec.runtime.heartbeats import Heartbeats
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.observer import Observer
from cronexec.runtime.pace import Pace
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.service import Backoff, Service
from cronexec.runtime.transcripts import Transcripts
from cronexec.runtime.watchdog import BEAT_INTERVAL, Watchdog
from cronexec.runtime.yielder import Yielder
from cronexec.settings import Settings

CANCEL_INTERVAL = 1.0
REPEATABLE_INTERVAL = 0.5
CUT_OFF = "cut_off"  # why an instance abandons a run that others may repeat: it cannot beat
FLUSH_TIMEOUT = 10.0
TRANSCRIPTS_TIMEOUT = 5.0
KILL_TIMEOUT = 15.0


@dataclass(frozen=True, kw_only=True)
class Health:
    """What an instance knows of itself and of the schedule; lag and ages in seconds.

    `events`: how often it has logged which event of warning or error level since its start.
    """

    state: str
    instance: str
    epoch: int | None
    holder: str | None
    lag_s: float | None
    running: int
    database: str
    broker: str
    crashed: str | None = None  # why it has failed: a part of it ended by an error of its own
    events: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.database == "ok" and self.broker == "ok" and self.crashed is None


class Instance:
    """Made and started on the engine's event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.table = JobTable(context.clock.monotonic, context.log)
        self.recorder = Recorder(runs=context.store.runs, log=context.log)
        self.abilities = Abilities(self.table, context.targets, context.clock.monotonic)
        self.heart = Heart(
            context,
            state=self._state,
            running=lambda: len(self.dispatcher.running),
            lacks=self.abilities.told,
        )
        self.dispatcher = Dispatcher(
            executor=context.executor,
            runs=context.store.runs,
            targets=context.targets,
            recorder=self.recorder,
            clock=context.clock,
            places=_places(context.settings),
            pace=Pace(context.settings.catch_up_rate, context.clock.monotonic),
            may_start=self.heart.is_alive,
            log=context.log,
        )
        self.transcripts = Transcripts(
            outputs=context.store.outputs,
            running=lambda: self.dispatcher.running,
            monotonic=context.clock.monotonic,
            log=context.log,
        )
        self.dispatcher.on_ended(self.transcripts.ended)
        self.heartbeats = Heartbeats(context.settings.instance_lost_after.total_seconds())
        self.observer = Observer(context, self.table)
        self.candidate = Candidate(
            context,
            table=self.table,
            observer=self.observer,
            dispatcher=self.dispatcher,
            recorder=self.recorder,
            heartbeats=self.heartbeats,
            yielder=Yielder(context, self.abilities, self.heartbeats),
        )
        self.watchdog = Watchdog(
            self.candidate,
            limit=context.settings.lease,
            monotonic=context.clock.monotonic,
            log=context.log,
        )
        self.drain = Drain(
            withdraw=self._withdraw,
            compete=self._compete,
            dispatcher=self.dispatcher,
            recorder=self.recorder,
            heart=self.heart,
            log=context.log,
        )
        self._draining = False
        self._crashed: str | None = None
        self._competing: Service | None = None
        self._services: list[Service] = []
        self._boot: Service | None = None

    def start(self) -> None:
        """Start in the background: neither server needs to answer yet."""
        self._boot = Service("boot", self._start_parts, self._context.log)
        self._boot.start(self._fail)

    async def _start_parts(self) -> None:
        await self._prepare()
        parts: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("heart", self.heart.run),
            ("heartbeats", partial(self.heartbeats.watch, self._context)),
            ("observer", self.observer.run),
            ("recorder", self.recorder.run),
            ("dispatcher", self.dispatcher.run),
            ("transcripts", self.transcripts.run),
            ("cancels", self._watch_cancels),
            ("repeatable", self._end_repeatable),
            ("pulse", self._pulse),
            ("control", ControlListener(self._context, self.drain).run),
        ]
        if self._context.management is not None:
            closer = Closer(self._context, self._context.management, self._stands_by)
            parts.append(("closer", closer.run))
        self._services = [Service(name, run, self._context.log) for name, run in parts]
        self.watchdog.start()
        for service in self._services:
            service.start(self._fail)
        self._compete()

    def _compete(self) -> None:
        """Begin to compete, where this instance is to."""
        if self._competes and self._crashed is None:
            self.candidate.resume()
            self._competing = Service("candidate", self.candidate.run, self._context.log)
            self._competing.start(self._fail)

    @property
    def _competes(self) -> bool:
        return self._context.settings.candidate and not self._draining and not self.drain.is_on

    async def _withdraw(self, reason: str) -> None:
        """Hand over, and compete no more."""
        self.candidate.stop(reason)
        if self._competing is not None:
            await self._competing.wait()

    def _fail(self, problem: str) -> None:
        """Leave the baton to the others: half alive, this one would hold and record nothing, say.

        What runs goes on; nothing brings a part back but a new process, and that is the host's to decide.
        """
        if self._crashed is not None:
            return
        self._crashed = problem
        self._context.log.error("instance.failed", why=problem, running=len(self.dispatcher.running))
        if not self.recorder.is_writing:
            self.heart.silence()  # its runs have nobody to record them: the others may abandon them in time
        self.candidate.end_term(problem)
        self.candidate.stop()

    async def _prepare(self) -> None:
        """Make what is missing in the database, however long it takes until it answers.

        The creator inserts the first baton.
        """
        backoff = Backoff()
        created = False
        while True:
            try:
                created = await self._context.store.terms.prepare() or created
                if created:
                    await self.candidate.insert_first_baton()
                    created = False
                await self.heart.beat()
            except CronexecError as error:
                self.candidate.meet(error)
                await asyncio.sleep(backoff.next())
            else:
                self.candidate.problem = None
                return

    async def stop(self, grace: float) -> bool:
        """Hand over, finish what runs within `grace` seconds from now, record the rest.

        Returns whether nothing was cut off.
        """
        monotonic = self._context.clock.monotonic
        grace_until = monotonic() + grace
        self._draining = True
        await self._withdraw("stopping")
        await self.drain.stop()
        finished = await self.dispatcher.drain(max(0.0, grace_until - monotonic()))
        if not finished:
            self._context.log.error("run.abandoned", runs=list(self.dispatcher.running), reason="shutdown")
            await self.dispatcher.abandon_all("shutdown", KILL_TIMEOUT)
        await self._shut_down()
        return finished

    async def stop_now(self) -> None:
        """End at once: the connections close, the broker hands over, what runs here is abandoned."""
        await self.stop(grace=0.0)

    async def _shut_down(self) -> None:
        if self._boot is not None:
            await self._boot.stop()
        if self._services:
            left = await self.recorder.flush(FLUSH_TIMEOUT if self.recorder.is_writing else 0.0)
            if left:
                self._context.log.error("run.outcomes_lost", runs=left)
            if not left and (unstored := await self.transcripts.flush(TRANSCRIPTS_TIMEOUT)):
                self._context.log.error("run.output_lost", runs=unstored)
        for service in self._services:
            await service.stop()
        self.watchdog.stop()
        if self._services:
            await self.heart.leave()

    def health(self) -> Health:
        """Return what is known right now, without asking anybody."""
        record = self.observer.record
        holder = self.candidate.holder
        term = holder.committed_term if holder else None
        lag = (self._context.clock.now() - term.watermark).total_seconds() if term else None
        return Health(
            state=self._state(),
            instance=self._context.executor.name,
            epoch=term.epoch if term else record.epoch if record else None,
            holder=self._context.executor.name if term else record.holder_name if record else None,
            lag_s=lag if term else record.lag.total_seconds() if record else None,
            running=len(self.dispatcher.running),
            database=self._database(),
            broker=self._broker(),
            crashed=self._crashed,
            events=self._context.tally.counts(),
        )

    def _database(self) -> str:
        problem = self.candidate.problem
        if isinstance(problem, UnreachableError) and problem.service == "database":
            return str(problem)
        if self.observer.failing_since is not None and self.candidate.holder is None:
            return "it does not answer"
        holds = self.candidate.holder is not None
        return "ok" if holds or self.observer.record is not None else "connecting"

    def _broker(self) -> str:
        problem = self.candidate.problem
        if isinstance(problem, UnreachableError) and problem.service == "broker":
            return str(problem)
        return "ok" if self.candidate.is_linked or not self._competes else "connecting"

    def _state(self) -> str:
        if self._draining:
            return "draining"
        if self._crashed is not None:
            return "failed"
        if self.drain.is_on:
            return self.drain.state
        holder = self.candidate.holder
        if holder is not None and holder.committed_term is not None:
            return "holder"
        competes = self._context.settings.candidate
        return "standby" if self.candidate.is_linked or not competes else "waiting"

    def _stands_by(self) -> bool:
        return self.candidate.is_linked and self.candidate.holder is None and self._competes

    async def _pulse(self) -> None:
        """Tell the watchdog that the loop turns."""
        while True:
            self.watchdog.beat()
            await asyncio.sleep(BEAT_INTERVAL)

    async def _end_repeatable(self) -> None:
        """While this instance cannot beat, end its runs that others will repeat; the rest may finish."""
        while True:
            await asyncio.sleep(REPEATABLE_INTERVAL)
            if not self.heart.is_doubtful():
                continue
            for run_id, attempt in list(self.dispatcher.running.items()):
                if attempt.is_ending or not repeats_abandoned(attempt.document, attempt.run.attempt):
                    continue
                why = "the instance could not reach the database, and the run is repeated elsewhere"
                self._context.log.error("run.abandoned", runs=[run_id], reason=CUT_OFF)
                self.dispatcher.end(run_id, Outcome(state=RunState.ABANDONED, reason=CUT_OFF, error=why))

    async def _watch_cancels(self) -> None:
        """End runs of this instance that somebody marked in the ledger."""
        while True:
            await asyncio.sleep(CANCEL_INTERVAL)
            if not self.dispatcher.running:
                continue
            try:
                requests = await self._context.store.runs.cancel_requests(self._context.executor.id)
            except CronexecError as error:
                self._context.log.warning("run.cancels_not_read", error=str(error))
                continue
            for run_id, who in requests:
                self.dispatcher.cancel(run_id, who)


def _places(settings: Settings) -> dict[str, int]:
    """Return how many runs of each pool (`Targets.pool_of`) may run at once on this instance."""
    return {
        "handlers": settings.max_running_handlers,
        "async_handlers": settings.max_running_async_handlers,
        "processes": settings.max_running_processes,
        "shell": settings.max_running_shell,
        "webhooks": settings.max_running_webhooks,
        "publishes": settings.max_running_publishes,
    }
