"""The candidate: an instance's way from standby to holder and back, for as long as it lives.

```
  the database answers ─▶ open a link, consume ─▶ wait ──baton──▶ hold ──┐
        ▲                                          │ link lost, silence,  │ any end
        └────────── backoff, full jitter ◀─────────┴─ database gone ◀─────┘
```

It consumes only while the database answers, so that the broker never hands the baton to an instance that
cannot hold it. When the schedule is silent it comes back on a fresh connection, declares the queues again,
and inserts a baton: at most one insertion per `baton_lost_after` in the whole namespace. Inserting too many
is harmless, inserting none would be a standstill.
"""

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from cronexec.errors import CronexecError, UnreachableError
from cronexec.ports import BatonArrived, Link, LinkLost
from cronexec.runtime.baton import CONFIRM_TIMEOUT, baton_body
from cronexec.runtime.context import Context
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.heartbeats import Heartbeats
from cronexec.runtime.holder import CLEAN_ENDS, Holder
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.observer import Observer
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.service import Backoff
from cronexec.runtime.yielder import REASON as YIELDED
from cronexec.runtime.yielder import Yielder

T = TypeVar("T")
AWAY_AT_MOST = 5.0  # seconds, for those to whom the baton was yielded to take it
RETURN_WITHIN = 3.0  # seconds: however long a server was away, slots run again soon after it is back
MOST_SAID = 10  # wordings of one outage


class Candidate:
    """Competes for the baton until it is stopped. `holder` is set while this instance holds."""

    def __init__(
        self,
        context: Context,
        *,
        table: JobTable,
        observer: Observer,
        dispatcher: Dispatcher,
        recorder: Recorder,
        heartbeats: Heartbeats,
        yielder: Yielder,
    ) -> None:
        self._yielder = yielder
        self._context = context
        self._table = table
        self._observer = observer
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._heartbeats = heartbeats
        self._stopping = asyncio.Event()
        self._why_stopped = "stopping"
        self._link: Link | None = None
        self._insertion_due = False
        self._yielded: int | None = None  # the epoch of the term that was
        self.holder: Holder | None = None
        self.problem: CronexecError | None = None
        self._said: set[str] = set()

    async def run(self) -> None:
        """Compete until `stop`."""
        backoff, away = Backoff(), Backoff(most=RETURN_WITHIN)
        while not self._stopping.is_set():
            waits = backoff
            try:
                clean = await self._compete(backoff)
                away.reset()
            except UnreachableError as error:
                clean, waits = False, away
                self.meet(error)
            except Exception:
                # A defect, of a kind that no one thought of: loud, and no reason never to compete again.
                self._context.log.exception("candidate.crashed")
                clean = False
            if not clean:
                await self._pause(waits.next())
            if self._yielded is not None:
                epoch, self._yielded = self._yielded, None
                self._yielder.came_to(await self._stay_away(epoch))

    @property
    def is_linked(self) -> bool:
        """Whether there is a link to the broker."""
        return self._link is not None

    def meet(self, problem: CronexecError) -> None:
        """Take note of what keeps this instance from competing; said once for each problem until it competes.

        One outage has several wordings (refused, no answer, no primary), which take turns.
        """
        if str(problem) not in self._said and len(self._said) < MOST_SAID:
            self._said.add(str(problem))
            self._context.log.warning("candidate.waiting", why=str(problem))
        self.problem = problem

    def stop(self, reason: str = "stopping") -> None:
        """Hand the baton over, if it is here, and compete no more; `run` returns once that is done."""
        self._why_stopped = reason
        self._stopping.set()
        if self.holder is not None:
            self.holder.guard.end(reason)

    def resume(self) -> None:
        """Have `run`, called again, compete as before `stop`."""
        self._stopping.clear()

    def end_term(self, reason: str) -> None:
        """End the term from outside the loop (the watchdog).

        Also takes the link down, so that the baton moves on.
        """
        holder, link = self.holder, self._link
        if holder is not None:
            holder.guard.end(reason)
        if link is not None:
            link.sever()

    async def _compete(self, backoff: Backoff) -> bool:
        """Spend the life of one link.

        Returns whether it ended well, so that no pause is needed before the next.
        """
        self._link = link = await self._unless_stopped(self._open_link())
        if link is None:
            return False
        self.problem = None
        self._said.clear()
        self._observer.reset()
        self._context.log.info("candidate.standing_by")
        inserting: asyncio.Task[None] | None = None
        try:
            if self._insertion_due:
                self._insertion_due = False
                inserting = asyncio.create_task(self._insert_baton("silent schedule"))
            opened_at = self._context.clock.monotonic()
            baton = await self._wait_for_baton(link)
            if baton is None:
                self._reset_after_long(opened_at, backoff)
                return False
            return await self._hold(link, baton, backoff)
        finally:
            if inserting is not None:
                inserting.cancel()
            await (link.release() if self._stopping.is_set() else link.close())
            self._link = None

    async def _open_link(self) -> Link:
        await self._context.store.terms.ping()
        return await self._context.broker.open_link()

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do what a stop is not to wait for: servers that are away may take their time. None: it was cut."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        return None if working.cancelled() else working.result()

    async def _wait_for_baton(self, link: Link) -> BatonArrived | None:
        """Stand by until there is a baton, or a reason to give the link up."""
        arrival = asyncio.create_task(self._arrival(link))
        reasons = {
            asyncio.create_task(self._stopping.wait()),
            asyncio.create_task(self._database_gone()),
        }
        try:
            while True:
                silence = asyncio.create_task(self._observer.silence.wait())
                await asyncio.wait({arrival, silence, *reasons}, return_when=asyncio.FIRST_COMPLETED)
                was_silent = silence.done()
                silence.cancel()
                if arrival.done():
                    return arrival.result()
                if any(reason.done() for reason in reasons):
                    return None
                if was_silent:
                    self._insertion_due = True
                    return None
        finally:
            for task in (arrival, *reasons):
                task.cancel()

    async def _arrival(self, link: Link) -> BatonArrived | None:
        event = await link.events()
        if isinstance(event, BatonArrived):
            self._context.log.info("baton.acquired", redelivered=event.redelivered)
            return event
        if isinstance(event, LinkLost):
            self._context.log.warning("link.lost", reason=event.reason)
        return None

    async def _database_gone(self) -> None:
        """Return when the database has not answered for as long as a lease."""
        lease = self._context.settings.lease.total_seconds()
        while True:
            await asyncio.sleep(lease / 10)
            since = self._observer.failing_since
            if since is not None and self._context.clock.monotonic() - since > lease:
                return

    async def _hold(self, link: Link, baton: BatonArrived, backoff: Backoff) -> bool:
        began_at = self._context.clock.monotonic()
        holder = Holder(
            self._context,
            link=link,
            first=baton,
            table=self._table,
            dispatcher=self._dispatcher,
            recorder=self._recorder,
            heartbeats=self._heartbeats,
            yielder=self._yielder,
        )
        self.holder, self._observer.holding = holder, True
        if self._stopping.is_set():
            holder.guard.end(self._why_stopped)
        try:
            reason = await holder.hold()
        finally:
            self.holder, self._observer.holding = None, False
            self._observer.reset()
        self._reset_after_long(began_at, backoff)
        self._yielded = holder.term.epoch if holder.term is not None and reason == YIELDED else None
        return reason in CLEAN_ENDS

    def _reset_after_long(self, began_at: float, backoff: Backoff) -> None:
        """Come back quickly after what lasted: only a term, or a link, that did shows that it works."""
        if self._context.clock.monotonic() - began_at > self._context.settings.lease.total_seconds():
            backoff.reset()

    async def insert_first_baton(self) -> None:
        """Publish the namespace's first baton: called by whoever created the term document."""
        await self._publish("new namespace")

    async def _insert_baton(self, why: str) -> None:
        """Insert a baton, if nobody else did within `baton_lost_after`."""
        try:
            if await self._context.store.terms.reserve_insertion(self._context.settings.baton_lost_after):
                self._context.log.warning("baton.inserted", why=why)
                await self._publish(why)
        except CronexecError as error:
            self._context.log.warning("baton.insertion_failed", error=str(error))

    async def _publish(self, why: str) -> None:
        body = baton_body(self._context.executor, why)
        if not await self._context.publisher.publish_baton(uuid.uuid4().hex, body, CONFIRM_TIMEOUT):
            self._context.log.warning("baton.insertion_unconfirmed", why=why)

    async def _stay_away(self, epoch: int) -> bool:
        """Leave the baton to the others until one holds, for a short time; returns whether one does."""
        until = self._context.clock.monotonic() + AWAY_AT_MOST
        while self._context.clock.monotonic() < until and not self._stopping.is_set():
            if (record := self._observer.record) is not None and record.epoch > epoch:
                return True
            await self._pause(AWAY_AT_MOST / 50)
        return False

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
