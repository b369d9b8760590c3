"""The scheduler: the tick of one term.

Everything that the holder decides goes through it, and is written in one fenced transaction a tick.

```
wait (next slot | a command | something settled | one second)
  └▶ complete the plan ─▶ decide: slots up to `until`, then commands ─▶ one fenced write ─▶ start, ack, reply
```

- Nothing starts before its claim is committed by a majority. What can begin at once is claimed as started:
  one commit, not two. What arrives while a write is in flight travels together in the next.
- Slots are decided before commands, so that a changed job's old version has accounted for everything up to
  the change (I1).
- A large catch-up is cut into several writes (`runtime.claims`), one a tick, behind the live slots that come
  due meanwhile, and with no job change in between. The watermark stays below what is undecided; what was
  written beyond it is found again by `RunStore.beyond` should the term end half-way.
- What the database will never store, or cannot be decided, stops nothing else: a command is rejected, a job
  is parked (`runtime.culprits`, `runtime.claims`).
- An idle holder commits once a second: its `seq` is the sign of life that standbys watch.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from cronexec.domain.ending import MOST_ENDED
from cronexec.domain.ledger import Claiming, Requeue, Settle
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.parking import Parked
from cronexec.domain.run import RunState
from cronexec.errors import DuplicateEntryError, TermLostError, UnreachableError, UnwritableError
from cronexec.log import Log
from cronexec.ports import Clock
from cronexec.runtime.claims import Claims
from cronexec.runtime.commands import Commands
from cronexec.runtime.committer import Committer
from cronexec.runtime.culprits import Culprits
from cronexec.runtime.decision import Decision
from cronexec.runtime.delayed import Delayed
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.ready import Ready
from cronexec.runtime.service import Breather, Wake
from cronexec.runtime.stranded import Stranded

IDLE_INTERVAL = 1.0
MOST_ENTRIES = 500
OFFERED_AT_ONCE = 500
SECOND = timedelta(seconds=1)


class Scheduler:
    """Belongs to one term."""

    def __init__(
        self,
        *,
        committer: Committer,
        table: JobTable,
        occupancy: Occupancy,
        dispatcher: Dispatcher,
        commands: Commands,
        stranded: Stranded,
        guard: TermGuard,
        clock: Clock,
        wake: Wake,
        log: Log,
    ) -> None:
        self._committer = committer
        self._table = table
        self._occupancy = occupancy
        self._dispatcher = dispatcher
        self._commands = commands
        self._stranded = stranded
        self._guard = guard
        self._clock = clock
        self._wake = wake
        self._log = log
        self._claims = Claims(occupancy, unavailable=stranded.why, log=log)
        self._unsettled: dict[str, Ready] = {}
        self._delayed = Delayed()
        self._settles: list[Settle] = []
        self._requeues: list[Requeue] = []
        self._returned: list[str] = []
        self.on_adopted: Callable[[Sequence[str]], Awaitable[None]] | None = None

    def submit(
        self,
        settles: Iterable[Settle] = (),
        *,
        requeues: Iterable[Requeue] = (),
        returned: Iterable[str] = (),
    ) -> None:
        """Have the next fenced write carry these.

        Moves of runs, and the adoption of runs that are queued again: unstarted, or for their next attempt.
        """
        self._settles.extend(settles)
        self._requeues.extend(requeues)
        self._returned.extend(returned)
        self._wake.set()

    async def run(self) -> None:
        """Tick until the term is over (TermLostError ends it too: whoever raised it told the guard)."""
        try:
            with suppress(TermLostError):
                while self._guard.holds():
                    await self.tick()
                    await self._wake.wait(self._pause())
        finally:
            self._table.plan.restore()  # it outlives the term

    def _pause(self) -> float:
        """Return the seconds until there is something to do: at most one."""
        if self._is_behind():
            return 0.0
        instants = [at for at in (self._table.plan.next_at(), self._delayed.next_at()) if at is not None]
        until_next = (min(instants) - self._clock.now()).total_seconds() if instants else IDLE_INTERVAL
        return min(max(until_next, 0.0), IDLE_INTERVAL)

    def _is_behind(self) -> bool:
        """Whether the next write has something to carry already."""
        left = self._settles or self._requeues or self._claims.are_waiting or self._commands.are_waiting
        return bool(left) or not self._table.plan.is_complete()

    async def tick(self) -> None:
        """Decide and write what there is up to now; of a catch-up, as much as one write takes."""
        commands = self._commands.waiting  # no later ones: they must not count from before they were sent
        until = max(_milliseconds(self._clock.now()), self._committer.term.watermark)
        self._release(self._delayed.due(until))
        self._release(self._stranded.recovered(until))
        await self._table.complete()
        claiming = Claiming(epoch=self._committer.term.epoch, until=until, judged_at=until)
        self._claims.add(await self._table.due(until), claiming)
        await self._decide_and_write(until, commands)
        while self._claims.are_urgent:
            await self._decide_and_write(until, commands)

    async def _decide_and_write(self, until: datetime, commands: int) -> None:
        decision = self._decision(until)
        await self._claims.fill(decision, MOST_ENTRIES, Breather(self._clock.monotonic))
        decided_until = self._decided_until(decision)
        decision.watermark = max(self._committer.term.watermark, decided_until)
        if decided_until == until and not decision.parked:
            await self._commands.apply_to(decision, commands)
        self._reserve(decision)
        await self._write_or_let_go(decision)
        self._claims.leave_out(decision.parked)

    def _decided_until(self, decision: Decision) -> datetime:
        """Return the instant up to which every slot is decided.

        Of a job that was begun in an earlier tick, no slot since then has been asked for.
        """
        undecided_at = self._claims.first_at()
        bounds = [decision.until, *decision.due]
        return min(bounds if undecided_at is None else [*bounds, undecided_at - SECOND])

    def _decision(self, until: datetime) -> Decision:
        settles = self._settles[:MOST_ENDED]
        settles += self._stranded.expired(until, MOST_ENDED - len(settles))
        requeues = self._requeues[:MOST_ENDED]
        del self._settles[:MOST_ENDED], self._requeues[:MOST_ENDED]
        returned, self._returned = self._returned, []
        decision = Decision(
            epoch=self._committer.term.epoch,
            until=until,
            watermark=until,
            revision=self._committer.term.revision,
            settles=tuple(settles),
            requeues=requeues,
            returned=returned,
            reasons=self._stranded.reasons(MOST_ENDED),
        )
        for failed in self._table.plan.failed():
            decided_until = max(failed.after, self._committer.term.watermark)
            decision.park(failed.job, decided_until.replace(microsecond=0) + SECOND, failed.why)
        return decision

    def _reserve(self, decision: Decision) -> None:
        """Have live runs that nothing holds back start with their claim: one commit less to wait for."""
        reserved = self._dispatcher.reserve(self._startable(decision), self._guard)
        if reserved is not None:
            decision.reserve(reserved)

    def _startable(self, decision: Decision) -> Iterator[Ready]:
        settled = decision.settled_by_commands()
        begun: Counter[str] = Counter()
        for item in decision.queued():
            run = item.run
            if run.catch_up:
                return  # these are let out at a pace, and come last
            if run.not_before is not None:
                continue
            if (most := item.document.overlap.most_active) is not None:
                if self._occupancy.active(run.job) + begun[run.job] >= most:
                    continue
                begun[run.job] += 1
            if run.id not in settled and self._stranded.why(item.document) is None:
                yield item

    async def _write_or_let_go(self, decision: Decision) -> None:
        try:
            await self._write(decision)
        except BaseException as error:
            if (reserved := decision.unreserve()) is not None:
                unknown = not isinstance(error, TermLostError) or error.maybe_written
                self._dispatcher.let_go(reserved, shut_out=self._committer.shut_out if unknown else None)
            raise

    def _only_claim(self, decision: Decision) -> None:
        """After a refusal: what could have started with this write starts in one of its own."""
        if (reserved := decision.unreserve()) is not None:
            self._dispatcher.let_go(reserved, shut_out=None)

    async def _write(self, decision: Decision) -> None:
        """Write the decision, without what the database says is there already or will never take."""
        while True:
            try:
                await self._committer.commit(decision.batch())
            except DuplicateEntryError as error:
                self._only_claim(decision)
                self._log.error("run.already_claimed", runs=error.run_ids[:10], count=len(error.run_ids))
                decision.drop_entries(error.run_ids)
                decision.drop_ranges(error.run_ids)
            except UnwritableError as error:
                self._only_claim(decision)
                if not decision.effects:
                    await Culprits(decision, committer=self._committer, log=self._log).write()
                    break
                self._commands.refuse_unwritable(decision, str(error), self._committer.term.revision)
            else:
                break
        await self._committed(decision)

    async def _committed(self, decision: Decision) -> None:
        """Now, and only now, act on the decision: start runs, answer commands, go on with the plan."""
        for job in decision.changed():
            self._table.put(job, after=decision.until)
            self._table.revision = max(self._table.revision, job.revision)
        self._tell_parked(decision.parked)
        for decided_until, due in decision.due.items():
            self._table.plan.resume(due, after=decided_until)
        if decision.reserved is not None:
            for item in decision.reserved.items:
                self._occupancy.occupy(item.run)
            self._dispatcher.begin_reserved(decision.reserved)
            decision.reserved = None
        await self.take_over(decision.queued())
        endings = decision.endings()
        self._drop_cancelled(decision.settled())
        for each in endings:
            for run_id, asked_by in each.cancels.items():
                self._dispatcher.cancel(run_id, asked_by)
        await self._adopted([*decision.returned, *decision.requeued_by_commands()])
        self._commands.committed(decision.effects)
        if any(effects.release for _, effects in decision.effects):
            self._guard.end("released")

    def _tell_parked(self, parked: Mapping[str, Parked]) -> None:
        for name, each in parked.items():
            remedy = f"mend the cause, then: cronexec job resume {name}"
            self._log.error("job.parked", job=name, why=each.why, remedy=remedy)

    async def _adopted(self, returned: Sequence[str]) -> None:
        if returned and self.on_adopted is not None:
            try:
                await self.on_adopted(returned)
            except UnreachableError as error:
                self._log.warning("run.adoption_delayed", runs=len(returned), error=str(error))
                self._returned.extend(returned)

    async def take_over(self, queued: Iterable[Ready]) -> None:
        """Take queued runs in: those that nothing holds back start, the others wait in their job's line."""
        ready: list[Ready] = []
        breather = Breather(self._clock.monotonic)
        for item in map(self._stranded.note, queued):
            self._unsettled[item.run.id] = item
            if self._occupancy.enter(item.run, item.document.overlap):
                ready.append(item)
            if len(ready) >= OFFERED_AT_ONCE:
                self._release(ready)
                ready = []
            await breather.breathe()
        self._release(ready)

    def _release(self, ready: Iterable[Ready]) -> None:
        now = self._clock.now()
        able = [
            item for item in ready if not self._delayed.keep(item, now) and not self._stranded.keep(item, now)
        ]
        if able:
            self._dispatcher.offer(able, self._guard)

    def _drop_cancelled(self, settles: Iterable[Settle]) -> None:
        """Forget queued runs that the write has settled.

        One that is starting was not settled, or will not start: its end tells.
        """
        for settle in settles:
            if settle.expected is RunState.ABANDONED:  # a person has decided
                self.settled(settle.run_id)
        queued = [settle.run_id for settle in settles if settle.expected is RunState.QUEUED]
        if not queued:
            return
        self._delayed.drop(queued)
        self._stranded.drop(queued)
        here = self._dispatcher.starting_or_running()
        self._dispatcher.withdraw(queued)
        released = [item for run_id in queued if run_id not in here for item in self._settle(run_id)]
        self._release(
            [item for item in released if item.run.id in self._unsettled]
        )  # the rest is settled, too

    def settled(self, run_id: str) -> None:
        """Take note that a run is over: the next of its job may start."""
        if released := self._settle(run_id):
            self._release(released)

    def _settle(self, run_id: str) -> list[Ready]:
        """Take a run out of its line. Returns those that may start now."""
        self._unsettled.pop(run_id, None)
        released = self._occupancy.settle(run_id)
        return [self._unsettled[run.id] for run in released if run.id in self._unsettled]


def _milliseconds(instant: datetime) -> datetime:
    return instant - timedelta(microseconds=instant.microsecond % 1000)
