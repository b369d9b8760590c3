"""The dispatcher: starts queued runs on this instance, in groups, and sees each through to its outcome.

It belongs to the instance and outlives terms. What is *queued* here belongs to the term that offered it and
is dropped with it; what is *started* belongs to the instance and goes on. Between the two lies the start: one
compare-and-set for a group no larger than what can begin at once, committed by a majority before any target
begins. When its answer is lost it is asked again (the group's token makes that idempotent); when the term has
ended by the time it is answered, the runs are given back, because nothing of them has begun.

Where a run can begin as soon as it is claimed, the claim itself is written as its start, and one commit does
for two: `reserve` keeps places for such runs while the claim is written, `begin_reserved` or `let_go` tells
how that ended.

Runs wait for places (`runtime.ready`), catch-ups also for a pace (`runtime.pace`): they must be no flood.
"""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial

from cronexec.domain.run import Executor, Outcome, Run, RunState
from cronexec.errors import CronexecError
from cronexec.log import Log
from cronexec.ports import Clock, RunStore, Start, Targets
from cronexec.runtime.attempt import Attempt
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.pace import Pace
from cronexec.runtime.ready import Pools, Ready, Reserved
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.service import Backoff, Breather, Wake

MOST_AT_ONCE = 500
MOST_RESERVED = 1_000
FEW = 64  # not worth a write of their own while another start is under way and more wait for places
STARTS_IN_FLIGHT = 2
SHORTEST_PAUSE = 0.01
RETURN_TIMEOUT = 10.0


class Dispatcher:
    """Executes runs. `may_start` says whether this instance is still seen as alive by the others."""

    def __init__(
        self,
        *,
        executor: Executor,
        runs: RunStore,
        targets: Targets,
        recorder: Recorder,
        clock: Clock,
        places: Mapping[str, int],
        pace: Pace,
        may_start: Callable[[], bool],
        log: Log,
    ) -> None:
        self._executor = executor
        self._runs = runs
        self._targets = targets
        self._recorder = recorder
        self._clock = clock
        self._may_start = may_start
        self._log = log
        self._pace = pace
        self._pools = Pools(places, lambda item: targets.pool_of(item.document.target))
        self._guard: TermGuard | None = None
        self.most_reserved = MOST_RESERVED
        self.on_refused: Callable[[Run], None] = lambda _: None
        self.on_ended: Callable[[Attempt], None] = lambda _: None
        self._running: dict[str, Attempt] = {}
        self._starting: dict[str, TermGuard] = {}
        self._returning: set[str] = set()
        self._wake = Wake()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle, self._empty = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._empty.set()
        recorder.is_starting = self._is_starting

    # --- the holder's side ---

    def offer(self, ready: Iterable[Ready], guard: TermGuard) -> None:
        """Take runs of the term that `guard` watches; they start as soon as there are places.

        Of a term that is over nothing is taken: the next one would find its own runs here twice.
        """
        if not guard.holds():
            return
        self._guard = guard
        self._pools.add(ready)
        self._wake.set()

    def reserve(self, claimed: Iterable[Ready], guard: TermGuard) -> Reserved | None:
        """Keep places for live runs that are about to be claimed, as far as there are any.

        What is reserved begins no target before `begin_reserved`.
        """
        if not guard.holds() or not self._may_start():
            return None
        items: list[Ready] = []
        for item in claimed:
            if len(items) < self.most_reserved and self._pools.reserve(item):
                items.append(item)
        if not items:
            return None
        self._guard = guard
        self._starting |= {item.run.id: guard for item in items}
        start = Start(token=uuid.uuid4().hex, executor=self._executor, at=self._clock.now())
        return Reserved(items=items, start=start, guard=guard)

    def begin_reserved(self, reserved: Reserved) -> None:
        """Begin reserved runs: their claim, and with it their start, is committed."""
        self._spawn(self._begin_or_give_back(deque(reserved.items), reserved.start.token, reserved.guard))

    def let_go(self, reserved: Reserved, *, shut_out: Callable[[], Awaitable[None]] | None) -> None:
        """Free the places of runs whose claim was not written as their start.

        `shut_out` is there when nobody knows whether it was. It makes sure that the claim does not arrive
        later; then the runs are given back, in case.
        """
        if shut_out is not None:
            work = self._give_back(reserved.items, reserved.start.token, reserved.guard, shut_out)
            self._spawn(work)
            return
        for item in reserved.items:
            self._starts_no_more(item, reserved.guard)
            self._release_place(item)

    def withdraw(self, run_ids: Iterable[str]) -> set[str]:
        """Drop queued runs. Returns the ids of those that were here and had not begun to start."""
        return self._pools.withdraw(set(run_ids))

    def drop_queued(self) -> int:
        """Forget everything that has not started: its term is over. Returns how many runs that were."""
        dropped = self._pools.clear()
        self._starting.clear()  # what has not begun by now is given back
        self._guard = None
        return dropped

    def _is_starting(self) -> bool:
        """Whether runs wait for nothing but their start."""
        return bool(self._starting) or self._pools.startable(self._pace.allowed()) > 0

    def starting_or_running(self) -> set[str]:
        """Return the ids of runs whose start is under way or committed here, to the end that is recorded.

        Or to their return: until that is written, the ledger may have them running.
        """
        here = self._starting.keys() | self._running.keys() | self._recorder.unrecorded()
        return here | self._returning

    # --- the instance's side ---

    @property
    def running(self) -> Mapping[str, Attempt]:
        return self._running

    def end(self, run_id: str, outcome: Outcome) -> bool:
        """End a running attempt with `outcome` (cancelled, abandoned). Returns whether it runs here."""
        attempt = self._running.get(run_id)
        if attempt is None:
            return False
        attempt.end(outcome)
        return True

    async def drain(self, timeout: float) -> bool:
        """Wait, once no term is on, until nothing runs here or is on its way back: at most `timeout` seconds.

        What is given back gets no more than `RETURN_TIMEOUT` of them after the last run: a database that is
        away must not hold up a stop for hours. Returns whether nothing is left.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()
                async with asyncio.timeout(RETURN_TIMEOUT):
                    await self._empty.wait()
        return self._empty.is_set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs here, begins or is on its way back."""
        return self._empty.is_set() and not self._starting

    async def abandon_all(self, reason: str, timeout: float) -> None:
        """End everything that runs here, and wait for it at most `timeout` seconds."""
        for run_id in list(self._running):
            self.end(run_id, Outcome(state=RunState.ABANDONED, reason=reason))
        await self.drain(timeout)

    async def run(self) -> None:
        """Start groups of runs as long as there are runs and places."""
        try:
            while True:
                await self._wake.wait(self._until_next_catch_up())
                while self._in_flight < STARTS_IN_FLIGHT and (group := self._take_group()):
                    self._in_flight += 1
                    self._spawn(self._start_group(group))
        finally:
            for task in self._tasks:
                task.cancel()

    def _until_next_catch_up(self) -> float | None:
        """Return the seconds until the pace lets another out; None where none could start."""
        guard = self._guard
        if guard is None or not guard.holds() or self._in_flight >= STARTS_IN_FLIGHT:
            return None
        return max(self._pace.pause(), SHORTEST_PAUSE) if self._pools.has_place_for_catch_up() else None

    def _take_group(self) -> list[Ready]:
        guard = self._guard
        if guard is None or not guard.holds():
            return []
        catch_ups = self._pace.allowed()
        if self._in_flight and self._places_are_short(catch_ups):
            return []
        group = self._pools.take(MOST_AT_ONCE, catch_ups)
        self._pace.spend(sum(item.run.catch_up for item in group))
        self._starting |= {item.run.id: guard for item in group}
        return group

    def _places_are_short(self, catch_ups: int) -> bool:
        """Whether runs wait for places, and only few of them have one by now."""
        return self._pools.startable(catch_ups) < min(FEW, self._pools.waiting(catch_ups))

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._empty.clear()
        task.add_done_callback(self._group_done)

    def _group_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("run.start_crashed", exc_info=error)
        self._note_empty()

    def _note_empty(self) -> None:
        if self._running:
            return
        self._idle.set()
        if not self._tasks:
            self._empty.set()

    async def _start_group(self, group: list[Ready]) -> None:
        guard, token, started_at = self._guard, uuid.uuid4().hex, self._clock.now()
        moved: set[str] = set()
        try:
            if guard is not None:
                moved = await self._commit_start([item.run for item in group], token, started_at, guard)
        finally:
            self._in_flight -= 1
            self._wake.set()
        for item in group:
            if item.run.id not in moved:
                self._refused(item, guard)
        if guard is not None:
            started = deque(item for item in group if item.run.id in moved)
            await self._begin_or_give_back(started, token, guard)

    def _refused(self, item: Ready, guard: TermGuard | None) -> None:
        """Let go of a run that the ledger did not let start: settled, adopted elsewhere, running already."""
        self._starts_no_more(item, guard)
        self._release_place(item)
        self._tell_refused(item.run, guard)

    def _tell_refused(self, run: Run, guard: TermGuard | None) -> None:
        """Tell the term that offered the run; the next one has read for itself what became of it."""
        if guard is self._guard:
            self.on_refused(run)

    async def _commit_start(
        self, runs: list[Run], token: str, started_at: datetime, guard: TermGuard
    ) -> set[str]:
        """Move runs to running; ask again while the answer is unknown and the term lasts."""
        start = Start(token=token, executor=self._executor, at=started_at)
        backoff = Backoff(first=0.05, most=1.0)
        while True:
            try:
                moved = set(await self._runs.start(runs, start))
            except CronexecError as error:
                self._log.warning("run.start_unclear", runs=len(runs), error=str(error))
                if not guard.holds():
                    return {run.id for run in runs}  # some may have been moved: to be given back
                await asyncio.sleep(backoff.next())
                continue
            if len(moved) < len(runs):
                self._log.warning("run.start_refused", runs=[run.id for run in runs if run.id not in moved])
            return moved

    async def _begin_or_give_back(self, group: deque[Ready], token: str, guard: TermGuard) -> None:
        await self._begin(group, token, guard)
        if group:
            await self._give_back(group, token, guard)

    async def _give_back(
        self,
        group: Iterable[Ready],
        token: str,
        guard: TermGuard,
        shut_out: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Return runs whose target never began, until the database has taken them back."""
        backoff = Backoff()
        for item in group:
            self._starts_no_more(item, guard)
            self._release_place(item)
        run_ids = [item.run.id for item in group]
        self._returning.update(run_ids)
        self._log.warning("run.given_back", runs=len(run_ids), first=run_ids[0])
        while True:
            try:
                if shut_out is not None:
                    await shut_out()
                await self._runs.give_back(run_ids, token)
            except CronexecError as error:
                self._log.warning("run.give_back_delayed", runs=len(run_ids), error=str(error))
                await asyncio.sleep(backoff.next())
            else:
                break
        self._returning.difference_update(run_ids)
        for item in group:
            self._tell_refused(item.run, guard)

    async def _begin(self, group: deque[Ready], token: str, guard: TermGuard) -> None:
        """Begin the runs, taken from the front, as long as this instance may; the rest stays in `group`."""
        breather = Breather(self._clock.monotonic)
        while group and guard.holds() and self._may_start():
            item = group.popleft()
            attempt = Attempt(
                run=item.run,
                document=item.document,
                token=token,
                targets=self._targets,
                clock=self._clock,
                recorder=self._recorder,
                log=self._log,
            )
            self._starts_no_more(item, guard)
            self._running[item.run.id] = attempt
            self._idle.clear()
            attempt.start(partial(self._ended, item))
            await breather.breathe()

    def _ended(self, item: Ready, attempt: Attempt) -> None:
        self._recorder.finish(attempt.finish())
        del self._running[item.run.id]
        self.on_ended(attempt)
        if attempt.kept_until is not None and not attempt.kept_until.done():
            attempt.kept_until.add_done_callback(lambda _: self._release_place(item))
        else:
            self._release_place(item)
        self._note_empty()

    def _starts_no_more(self, item: Ready, guard: TermGuard | None) -> None:
        """Take note that a start of that term is over; a later term's of the same run may be under way."""
        if self._starting.get(item.run.id) is guard:
            self._starting.pop(item.run.id, None)

    def _release_place(self, item: Ready) -> None:
        self._pools.release(item)
        self._wake.set()
