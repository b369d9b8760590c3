"""The instances of a namespace, from outside: which there are, and what one of them alone is told.

What an instance says of itself is as old as its last heartbeat; who holds is what the term document says. An
instance that is told something answers with its state: what is said is said again until that has changed,
because the one that it is for may be connecting at this moment.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronexec.domain.control import ControlMessage, ControlType, encode_control
from cronexec.domain.estimate import PAST_RUNS, Remaining, remaining, remaining_together
from cronexec.domain.run import Run, RunState
from cronexec.domain.term import TermRecord
from cronexec.errors import RefusedError, UnreachableError
from cronexec.ports import Broker, InstanceRecord, RunFilter, Store

LOST = "lost"
DRAINED = "drained"
DRAINING = ("draining", DRAINED)
OUT_OF_THE_RACE = (*DRAINING, "failed")
CONFIRM_TIMEOUT = 10.0
LOOK_INTERVAL = 0.2
SAY_AGAIN_AFTER = 1.0
MOST_RUNNING = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """An instance as it was read. `state`: what it says, corrected by what the term and the clock say."""

    record: InstanceRecord
    state: str
    since_at: datetime | None
    read_at: datetime

    @property
    def id(self) -> str:
        return self.record.executor.id

    @property
    def name(self) -> str:
        return self.record.executor.name

    @property
    def is_lost(self) -> bool:
        return self.state == LOST


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A run that an instance has to finish; `left` is None where nothing is known."""

    run: Run
    elapsed_s: float
    left: Remaining | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfinished:
    """What is left on an instance; `instance` is None once it has gone."""

    instance: Instance | None
    running: Sequence[Running] = ()

    @property
    def is_over(self) -> bool:
        return self.instance is None or self.instance.state in (DRAINED, LOST)

    @property
    def left(self) -> Remaining | None:
        return remaining_together(each.left for each in self.running)

    @property
    def unknown(self) -> int:
        """Return of how many runs nothing is known."""
        return sum(each.left is None for each in self.running)


class Instances:
    """Reads instances, and tells them what to do. `lost_after`: the setting `instance_lost_after`."""

    def __init__(self, store: Store, broker: Broker, *, issued_by: str, lost_after: timedelta) -> None:
        self._store = store
        self._broker = broker
        self._issued_by = issued_by
        self._lost_after = lost_after
        self._unsaid: UnreachableError | None = None  # why the last try to say something failed
        self._durations: dict[str, Sequence[float]] = {}

    async def list(self) -> list[Instance]:
        """Return all that have a record, by name; one that was killed keeps its record for a day."""
        term, records = await asyncio.gather(self._store.terms.read(), self._store.instances.list())
        return [self._judged(record, term) for record in records]

    def _judged(self, record: InstanceRecord, term: TermRecord) -> Instance:
        state, since_at = record.state, record.since_at
        holds = term.holder_id == record.executor.id
        if term.read_at - record.beat_at > self._lost_after:
            state, since_at = LOST, record.beat_at
        elif record.state not in OUT_OF_THE_RACE:
            if holds:
                state, since_at = "holder", term.since_at
            elif state == "holder":
                state, since_at = "standby", None  # since its last heartbeat
        return Instance(record=record, state=state, since_at=since_at, read_at=term.read_at)

    async def find(self, name_or_id: str) -> Instance:
        """Return the one that lives. Raises RefusedError where there is none, or several of one name."""
        found = [each for each in await self.list() if name_or_id in (each.id, each.name)]
        alive = [each for each in found if not each.is_lost]
        if len(alive) > 1:
            ids = ", ".join(each.id for each in alive)
            raise RefusedError("ambiguous", f"several instances are called {name_or_id}; give an id: {ids}")
        if not alive:
            lost = f": the last heartbeat of {name_or_id} was too long ago" if found else ""
            raise RefusedError("not_found", f"no instance {name_or_id} is alive{lost}")
        return alive[0]

    async def drain(self, instance: Instance) -> Instance | None:
        """Have it take nothing new; returns it as it has confirmed that, None where it has gone instead.

        Raises RefusedError where it does not confirm within `CONFIRM_TIMEOUT`.
        """
        return await self._tell(instance, ControlType.DRAIN, lambda state: state in DRAINING)

    async def undrain(self, instance: Instance) -> Instance | None:
        """Have it take part again; as `drain`."""
        return await self._tell(instance, ControlType.UNDRAIN, lambda state: state not in DRAINING)

    async def _tell(
        self, instance: Instance, what: ControlType, is_done: Callable[[str], bool]
    ) -> Instance | None:
        body = encode_control(ControlMessage(type=what, instance=instance.id, issued_by=self._issued_by))
        self._unsaid = None
        saying = asyncio.create_task(self._say(body))
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                return await self._changed(instance, is_done)
        except TimeoutError:
            if self._unsaid is not None:
                raise self._unsaid from None
            raise RefusedError(
                "unconfirmed",
                f"{instance.name} did not confirm within {CONFIRM_TIMEOUT:g} s: it may have no connection to "
                "the broker, or no permission for the exchange (its log tells: control.interrupted)",
            ) from None
        finally:
            saying.cancel()

    async def _say(self, body: bytes) -> None:
        """Say it again and again; that nobody listens at this moment, or the broker is away, may pass."""
        while True:
            try:
                await self._broker.publisher().publish_control(body)
            except RefusedError:
                self._unsaid = None
            except UnreachableError as error:
                self._unsaid = error
            else:
                self._unsaid = None
            await asyncio.sleep(SAY_AGAIN_AFTER)

    async def _changed(self, instance: Instance, is_done: Callable[[str], bool]) -> Instance | None:
        beat = instance.record.beat
        while True:
            now = await self._read(instance.id)
            if now is None or (is_done(now.record.state) and now.record.beat > beat):
                return now
            await asyncio.sleep(LOOK_INTERVAL)

    async def _read(self, instance_id: str) -> Instance | None:
        return next((each for each in await self.list() if each.id == instance_id), None)

    async def unfinished(self, instance_id: str) -> Unfinished:
        """Return what is left on an instance, with an estimate for each run."""
        instance = await self._read(instance_id)
        if instance is None or instance.state == DRAINED:
            return Unfinished(instance=instance)
        which = RunFilter(states=(RunState.RUNNING,), executor=instance_id, limit=MOST_RUNNING)
        runs = await self._store.runs.list(which)
        past = await self._past({run.job for run in runs})
        return Unfinished(
            instance=instance, running=[_running(run, past[run.job], instance.read_at) for run in runs]
        )

    async def _past(self, jobs: set[str]) -> Mapping[str, Sequence[float]]:
        for job in jobs - self._durations.keys():
            which = RunFilter(job=job, states=(RunState.SUCCEEDED,), limit=PAST_RUNS)
            runs = await self._store.runs.list(which)
            self._durations[job] = [run.duration_s for run in runs if run.duration_s is not None]
        return self._durations

    async def until_over(
        self, instance_id: str, pause: Callable[[], Awaitable[object]]
    ) -> AsyncIterator[Unfinished]:
        """Yield what is left, until nothing is."""
        while True:
            unfinished = await self.unfinished(instance_id)
            yield unfinished
            if unfinished.is_over:
                return
            await pause()


def _running(run: Run, durations_s: Sequence[float], now: datetime) -> Running:
    elapsed_s = max(0.0, (now - run.started_at).total_seconds()) if run.started_at else 0.0
    return Running(run=run, elapsed_s=elapsed_s, left=remaining(durations_s, elapsed_s))
