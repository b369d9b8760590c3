"""One term, from the first baton to the last ack.

```
baton delivered ─▶ raise the epoch ─▶ adopt (first fenced write) ─▶ read what changed ─▶ tick, tick … ─▶ end
                     majority          queued runs get my epoch      jobs, unsettled runs
```

The term ends at the first doubt (invariant I5): the guard is told by the link, the fence, the watchdog, a
crashed part, or whoever wants the baton handed over. Then, and always in this order: nothing more is claimed
or started; what is queued is forgotten (the ledger has it, the next holder adopts it); the baton goes back,
in good order when the link is healthy, by closing the connection otherwise. What runs, runs on.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cronexec.domain.occupancy import Occupancy
from cronexec.domain.run import Run, RunState
from cronexec.domain.term import Term
from cronexec.errors import CronexecError, TermLostError
from cronexec.ports import MOST_ADOPTED, Batch, BatonArrived, CommandArrived, Finish, Link, LinkLost
from cronexec.runtime.adoption import Adoption
from cronexec.runtime.baton import BatonKeeper
from cronexec.runtime.cleaner import Cleaner
from cronexec.runtime.commands import Commands
from cronexec.runtime.committer import Committer
from cronexec.runtime.context import Context
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.heartbeats import Heartbeats
from cronexec.runtime.inbox import Inbox
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.reaper import Reaper
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.scheduler import Scheduler
from cronexec.runtime.service import Breather, Service, Wake
from cronexec.runtime.stranded import Stranded
from cronexec.runtime.yielder import REASON as YIELDED
from cronexec.runtime.yielder import Yielder

CLEAN_ENDS = ("stopping", "draining", "released", YIELDED)
LAST_TICK_TIMEOUT = 1.0
KEEP_ALIVE_INTERVAL = 1.0


class Holder:
    """Holds one term.

    Made when a baton has arrived; `hold` returns when the term is over, with the reason.
    """

    def __init__(
        self,
        context: Context,
        *,
        link: Link,
        first: BatonArrived,
        table: JobTable,
        dispatcher: Dispatcher,
        recorder: Recorder,
        heartbeats: Heartbeats,
        yielder: Yielder,
    ) -> None:
        self._context = context
        self._yielder = yielder
        self._link = link
        self._table = table
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._heartbeats = heartbeats
        self._started_at = context.clock.monotonic()
        self._wake = Wake()
        self._occupancy = Occupancy()
        self.guard = TermGuard(
            lease=context.settings.lease, monotonic=context.clock.monotonic, renewed_at=self._started_at
        )
        self._keeper = BatonKeeper(
            first,
            link=link,
            publisher=context.publisher,
            executor=context.executor,
            guard=self.guard,
            renew_interval=context.settings.baton_renew_interval,
            log=context.log,
        )
        self._inbox = Inbox(
            link=link,
            publisher=context.publisher,
            store=context.store,
            log=context.log,
            wake=self._wake.set,
            renew_interval=context.settings.baton_renew_interval,
        )
        self._adoption = Adoption(table=table, jobs=context.store.jobs, clock=context.clock, log=context.log)
        self.term: Term | None = None
        self._committer: Committer | None = None

    @property
    def committed_term(self) -> Term | None:
        """The term as of its last fenced write; None before the first."""
        return self._committer.term if self._committer else None

    async def hold(self) -> str:
        """Hold the term until it is over; the link is closed then. Returns the reason."""
        pump = Service("link", self._pump, self._context.log)
        pump.start(self.guard.end)
        services: list[Service] = []
        try:
            self.term = await self._begin()
            services = await self._serve(self.term)
            await self.guard.wait_ended()
        except TermLostError:
            pass  # the guard knows why
        except CronexecError as error:
            self.guard.end(f"{type(error).__name__}: {error}")
        finally:
            self.guard.end("cancelled")
            await self._finish([*services, pump])
        return self.guard.reason or "ended"

    async def _begin(self) -> Term:
        """Raise the epoch: from its majority commit on, this instance is the holder."""
        await asyncio.sleep(
            0
        )  # the link may have been lost already, or the process stopped since the delivery
        if not self.guard.holds():
            raise TermLostError(f"the baton is gone: {self.guard.reason}")
        started_at = self._context.clock.monotonic()
        term = await self._context.store.terms.raise_epoch(self._context.executor)
        self.guard.renew(started_at)
        lag = (self._context.clock.now() - term.watermark).total_seconds()
        self._context.log.info(
            "term.began", epoch=term.epoch, watermark=term.watermark.isoformat(), lag_s=round(lag, 3)
        )
        return term

    async def _serve(self, term: Term) -> list[Service]:
        """Adopt, read what changed, and start the parts of the term."""
        context = self._context
        self._committer = committer = Committer(
            terms=context.store.terms, term=term, guard=self.guard, clock=context.clock, log=context.log
        )
        await committer.commit(_nothing_new(term, adopt=True))
        context.log.info(
            "term.first_commit",
            epoch=term.epoch,
            after_ms=round((context.clock.monotonic() - self._started_at) * 1000, 1),
        )
        await self._inbox.open()
        async with self._kept_alive(committer):
            unsettled = await self._read(term)
        await self._adopt_rest(unsettled, committer)
        stranded = Stranded(targets=context.targets, log=context.log)
        scheduler = Scheduler(
            committer=committer,
            table=self._table,
            occupancy=self._occupancy,
            dispatcher=self._dispatcher,
            commands=self._commands(term),
            stranded=stranded,
            guard=self.guard,
            clock=context.clock,
            wake=self._wake,
            log=context.log,
        )
        reaper = self._reaper(scheduler)
        cleaner = Cleaner(context, table=self._table, unsettled=self._occupancy.unsettled)
        self._listen(scheduler, reaper)
        async with self._kept_alive(committer):
            await self._adopt(unsettled, term, scheduler, reaper)
        services = [
            Service("scheduler", scheduler.run, context.log),
            Service("baton", self._keeper.run, context.log),
            Service("reaper", reaper.run, context.log),
            Service("cleaner", cleaner.run, context.log),
            Service("yielder", lambda: self._yielder.watch(self.guard), context.log),
        ]
        for service in services:
            service.start(self.guard.end)
        return services

    @asynccontextmanager
    async def _kept_alive(self, committer: Committer) -> AsyncIterator[None]:
        """Keep the term while much is read, or a long line taken in: either may outlast a lease."""
        done = Wake()
        keeping = asyncio.create_task(_keep_alive(committer, done))
        try:
            yield
        finally:
            done.set()
            await asyncio.wait([keeping])
            failed = keeping.exception()  # taken note of even where reading failed as well
        if failed is not None:
            raise failed

    def _commands(self, term: Term) -> Commands:
        return Commands(
            inbox=self._inbox,
            table=self._table,
            occupancy=self._occupancy,
            epoch=term.epoch,
            clock=self._context.clock,
            log=self._context.log,
        )

    async def _read(self, term: Term) -> list[Run]:
        """Read what this instance must know before its first decision; returns the unsettled runs."""
        store = self._context.store
        unsettled, beyond, _ = await asyncio.gather(
            store.runs.unsettled(),
            store.runs.beyond(term.watermark),
            self._table.refresh(store.jobs, term.watermark),
        )
        await self._table.skip_decided((entry.job, entry.until or entry.slot) for entry in beyond)
        return unsettled

    async def _adopt_rest(self, unsettled: Sequence[Run], committer: Committer) -> None:
        """Adopt what one write could not."""
        epoch = committer.term.epoch
        earlier = sum(run.state is RunState.QUEUED and run.epoch < epoch for run in unsettled)
        for _ in range(0, earlier, MOST_ADOPTED):
            await committer.commit(_nothing_new(committer.term, adopt=True))

    async def _adopt(
        self, unsettled: Sequence[Run], term: Term, scheduler: Scheduler, reaper: Reaper
    ) -> None:
        """Continue the runs that are there already.

        Those running elsewhere are watched, queued ones are ours now.
        """
        running = [run for run in unsettled if _is_elsewhere(run)]
        for run in running:
            self._occupancy.occupy(run)
        ends_here = (
            self._dispatcher.running.keys() | self._recorder.unrecorded()
        )  # whose end `_listen` is told
        reaper.watch(run for run in running if run.id not in ends_here)
        queued = await self._adoption.queued(unsettled, term.epoch)
        # Those that wait for their next attempt, or were given back, have had their places already.
        queued.sort(key=lambda run: run.attempt == 1)
        await scheduler.take_over(await self._adoption.ready(queued, scheduler.submit))
        if unsettled:
            self._context.log.info("run.adopted", queued=len(queued), running=len(running))

    def _reaper(self, scheduler: Scheduler) -> Reaper:
        return Reaper(
            self._context,
            heartbeats=self._heartbeats,
            on_settled=lambda run: scheduler.settled(run.id),
            on_queued=lambda run: scheduler.submit(returned=[run.id]),
            documents_of=self._adoption.documents_of,
            submit=scheduler.submit,
        )

    def _listen(self, scheduler: Scheduler, reaper: Reaper) -> None:
        def recorded(finishes: list[Finish]) -> None:
            for finish in finishes:
                if finish.again_at is None and not finish.undecided:
                    scheduler.settled(finish.run_id)
            # A run that waits for its next attempt keeps its place; the next fenced write adopts it.
            if again := [finish.run_id for finish in finishes if finish.again_at is not None]:
                scheduler.submit(returned=again)

        async def adopted(run_ids: Sequence[str]) -> None:
            found = await self._context.store.runs.get_many(run_ids)
            queued = [run for run in found.values() if run.state is RunState.QUEUED]
            for run_id in run_ids:
                if run_id not in found or found[run_id].is_settled:
                    scheduler.settled(run_id)
            here = self._dispatcher.starting_or_running()
            reaper.watch(run for run in found.values() if _is_elsewhere(run) and run.id not in here)
            reaper.leave(run.id for run in queued)
            await scheduler.take_over(await self._adoption.ready(queued, scheduler.submit))

        def refused(finishes: list[Finish]) -> None:
            scheduler.submit(returned=[finish.run_id for finish in finishes])  # whatever became of them

        scheduler.on_adopted = adopted
        self._recorder.on_recorded, self._recorder.on_refused = recorded, refused
        self._dispatcher.on_refused = lambda run: reaper.watch([run])

    async def _pump(self) -> None:
        """Hand on what the link delivers, until it is lost or the term is over."""
        breather = Breather(self._context.clock.monotonic)
        while True:
            event = await self._link.events()
            await breather.breathe()
            match event:
                case BatonArrived():
                    self._keeper.arrived(event)
                case CommandArrived():
                    self._inbox.arrive(event)
                case LinkLost(reason=reason):
                    self.guard.end(f"link_lost: {reason}")
                    return

    async def _finish(self, services: list[Service]) -> None:
        """End the term: no more claims and starts, then the baton goes back."""
        reason = self.guard.reason or "ended"
        self._wake.set()
        for service in services:
            if service.name == "scheduler":
                await _settle_down(service)
        dropped = self._dispatcher.drop_queued()
        self._recorder.on_recorded = self._recorder.on_refused = lambda _: None
        self._dispatcher.on_refused = lambda _: None
        if reason in CLEAN_ENDS:
            await self._link.release()
        else:
            await self._link.close()
        for service in services:
            await service.stop()
        await self._inbox.close()
        log = self._context.log.info if reason in CLEAN_ENDS else self._context.log.warning
        log("term.ended", epoch=self.term.epoch if self.term else None, reason=reason, queued_left=dropped)


def _is_elsewhere(run: Run) -> bool:
    """Whether an unsettled run is not this holder's to start: it runs, or waits for a person."""
    return run.state is not RunState.QUEUED and not run.is_settled


async def _keep_alive(committer: Committer, done: Wake) -> None:
    """Write nothing, once a second, until `done`."""
    while not await done.wait(KEEP_ALIVE_INTERVAL):
        await committer.commit(_nothing_new(committer.term))


def _nothing_new(term: Term, *, adopt: bool = False) -> Batch:
    """Return a write of a term that is not ready to decide yet, and says so to who observes it."""
    return Batch(until=term.watermark, revision=term.revision, adopt=adopt, catching_up=True)


async def _settle_down(service: Service) -> None:
    """Let the scheduler finish the write that it is in: bounded, because the database may be what is gone."""
    try:
        async with asyncio.timeout(LAST_TICK_TIMEOUT):
            await service.wait()
    except TimeoutError:
        await service.stop()
