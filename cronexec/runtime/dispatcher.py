"""The dispatcher: starts queued runs on this instance, in groups, and sees each through to its outcome.

It belongs to the instance and outlives terms. What is *queued* here belongs to the term that offered it and
is dropped with it; what is *started* belongs to the instance and goes on. Between the two lies the start of a
group (`runtime.starts`); when the term has ended by the time it is answered, the runs are given back, because
nothing of them has begun. So they are after a defect: it is told of, and costs neither a run nor a place.

Where a run can begin as soon as it is claimed, the claim itself is written as its start, and one commit does
for two: `reserve` keeps places for such runs while the claim is written, `begin_reserved` or `let_go` tells
how that ended.

Runs wait for places (`runtime.ready`), catch-ups also for a pace (`runtime.pace`): they must be no flood.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial

from cronexec.domain.replacement import cancellation
from cronexec.domain.run import Executor, Outcome, Run, RunState
from cronexec.log import Log
from cronexec.ports import Clock, RunStore, Start, Targets
from cronexec.runtime.attempt import Attempt
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.pace import Pace
from cronexec.runtime.ready import Pools, Ready, Reserved
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.running import Running
from cronexec.runtime.service import Breather, Wake
from cronexec.runtime.starts import Starts

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
        self._starts = Starts(runs=runs, executor=executor, log=log)
        self._running = Running(targets=targets, recorder=recorder, clock=clock, log=log)
        self._recorder = recorder
        self._clock = clock
        self._may_start = may_start
        self._log = log
        self._pace = pace
        self._pools = Pools(places, lambda item: targets.pool_of(item.document.target))
        self._guard: TermGuard | None = None
        self.most_reserved = MOST_RESERVED
        self.on_refused: Callable[[Run], None] = lambda _: None
        self._starting: dict[str, TermGuard] = {}
        self._wake = Wake()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        recorder.is_starting = self._is_starting

    # --- the holder's side ---

    def offer(self, ready: Iterable[Ready], guard: TermGuard) -> None:
        """Take runs of the term that `guard` watches; they start as soon as there are places.

        Of a term that is over nothing is taken: the next one would find its own runs here twice. Nor is what
        has begun to start in this one: several look after a run that comes back, and may not have seen it.
        """
        if not guard.holds():
            return
        self._guard = guard
        self._pools.add(item for item in ready if not self._is_under_way(item.run.id, guard))
        self._wake.set()

    def _is_under_way(self, run_id: str, guard: TermGuard) -> bool:
        return run_id in self._running.attempts or self._starting.get(run_id) is guard

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
        return Reserved(items=items, start=self._starts.draw(self._clock.now()), guard=guard)

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
        here = self._starting.keys() | self._running.attempts.keys() | self._recorder.unrecorded()
        return here | self._starts.returning

    # --- the instance's side ---

    @property
    def running(self) -> Mapping[str, Attempt]:
        """The attempts that run here, by run id."""
        return self._running.attempts

    def on_ended(self, told: Callable[[Attempt], None]) -> None:
        """Have `told` called with each attempt that has ended."""
        self._running.on_ended = told

    def end(self, run_id: str, outcome: Outcome) -> bool:
        """End a running attempt with `outcome` (cancelled, abandoned). Returns whether it runs here."""
        return self._running.end(run_id, outcome)

    def cancel(self, run_id: str, asked_by: str) -> None:
        """End a run that bears the mark `asked_by`, if it runs here; told of once, however often asked."""
        attempt = self.running.get(run_id)
        if attempt is not None and not attempt.is_ending:
            self._log.info("run.cancelling", run=run_id, by=asked_by)
            attempt.end(cancellation(asked_by))

    async def drain(self, timeout: float) -> bool:
        """Wait, once no term is on, until nothing runs here or is on its way back: at most `timeout` seconds.

        What is given back gets no more than `RETURN_TIMEOUT` of them after the last run: a database that is
        away must not hold up a stop for hours. Returns whether nothing is left.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._running.idle.wait()
                async with asyncio.timeout(RETURN_TIMEOUT):
                    while self._tasks:
                        await asyncio.wait(self._tasks)
        return not (self._running.attempts or self._tasks)

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs here, begins or is on its way back."""
        return not (self._running.attempts or self._tasks or self._starting)

    async def abandon_all(self, reason: str, timeout: float) -> None:
        """End everything that runs here, and wait for it at most `timeout` seconds."""
        for run_id in list(self._running.attempts):
            self.end(run_id, Outcome(state=RunState.ABANDONED, reason=reason))
        await self.drain(timeout)

    async def run(self) -> None:
        """Start groups of runs as long as there are runs and places."""
        try:
            while True:
                await self._wake.wait(self._until_next_catch_up())
                self._start_groups()
        finally:
            for task in self._tasks:
                task.cancel()

    def _start_groups(self) -> None:
        while (guard := self._guard) and self._in_flight < STARTS_IN_FLIGHT and (group := self._take_group()):
            self._in_flight += 1
            self._spawn(self._start_group(group, guard))

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
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("run.start_crashed", exc_info=error)

    async def _start_group(self, group: list[Ready], guard: TermGuard) -> None:
        start = self._starts.draw(self._clock.now())
        moved = await self._commit_start(group, start, guard)
        if moved is None:
            await self._give_back(group, start.token, guard)
            return
        for item in group:
            if item.run.id not in moved:
                self._refused(item, guard)
        started = deque(item for item in group if item.run.id in moved)
        await self._begin_or_give_back(started, start.token, guard)

    async def _commit_start(self, group: list[Ready], start: Start, guard: TermGuard) -> set[str] | None:
        """Move a group to running. Returns the ids of those that were; None after a defect."""
        try:
            return await self._starts.commit([item.run for item in group], start, guard)
        except Exception:  # noqa: BLE001  see the module's docstring
            self._log.exception("run.start_crashed", runs=len(group))
            return None
        finally:
            self._in_flight -= 1
            self._wake.set()

    def _refused(self, item: Ready, guard: TermGuard) -> None:
        """Let go of a run that the ledger did not let start: settled, adopted elsewhere, running already."""
        self._starts_no_more(item, guard)
        self._release_place(item)
        self._tell_refused(item.run, guard)

    def _tell_refused(self, run: Run, guard: TermGuard) -> None:
        """Tell the term that offered the run; the next one has read for itself what became of it."""
        if guard is self._guard:
            self.on_refused(run)

    async def _begin_or_give_back(self, group: deque[Ready], token: str, guard: TermGuard) -> None:
        try:
            await self._begin(group, token, guard)
        except Exception:  # noqa: BLE001  see the module's docstring
            self._log.exception("run.start_crashed", runs=len(group))
        if group:
            await self._give_back(group, token, guard)

    async def _give_back(
        self,
        group: Collection[Ready],
        token: str,
        guard: TermGuard,
        shut_out: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Free the places of runs whose target never began, and return these."""
        for item in group:
            self._starts_no_more(item, guard)
            self._release_place(item)
        await self._starts.give_back([item.run.id for item in group], token, shut_out=shut_out)
        for item in group:
            self._tell_refused(item.run, guard)

    async def _begin(self, group: deque[Ready], token: str, guard: TermGuard) -> None:
        """Begin the runs, taken from the front, as long as this instance may; the rest stays in `group`."""
        breather = Breather(self._clock.monotonic)
        while group and guard.holds() and self._may_start():
            item = group[0]
            self._running.begin(item, token, partial(self._release_place, item))
            group.popleft()
            self._starts_no_more(item, guard)
            await breather.breathe()

    def _starts_no_more(self, item: Ready, guard: TermGuard) -> None:
        """Take note that a start of that term is over; a later term's of the same run may be under way."""
        if self._starting.get(item.run.id) is guard:
            self._starting.pop(item.run.id, None)

    def _release_place(self, item: Ready) -> None:
        self._pools.release(item)
        self._wake.set()
