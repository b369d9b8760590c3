"""Runs that may start, and the places for them.

Places are limited for each pool (threads, coroutines, processes, connections); runs beyond them wait, live
slots before catch-ups. A run waits once, however often it is added: whoever looks after it may not be alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from cronexec.domain.job import JobDocument
from cronexec.domain.run import Run, RunState
from cronexec.ports import Start
from cronexec.runtime.guard import TermGuard


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A run that may start, with the version of the job that it was claimed with."""

    run: Run
    document: JobDocument


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserved:
    """Runs with places that begin once their claim, written as `start`, is committed."""

    items: Sequence[Ready]
    start: Start
    guard: TermGuard

    def started(self, run: Run) -> Run:
        """Return the entry of a run that starts with its claim."""
        start = self.start
        return replace(
            run, state=RunState.RUNNING, token=start.token, executor=start.executor, started_at=start.at
        )


@dataclass(slots=True)
class Pool:
    """The places of one kind of target, and the runs that wait for them: live ones before catch-ups."""

    places: int
    taken: int = 0
    live: OrderedDict[str, Ready] = field(default_factory=OrderedDict)
    catch_up: OrderedDict[str, Ready] = field(default_factory=OrderedDict)

    def waiting(self, catch_ups: int) -> int:
        """How many runs wait for a place or their start, when so many catch-ups may start."""
        return len(self.live) + min(len(self.catch_up), catch_ups)

    def startable(self, catch_ups: int) -> int:
        """How many runs wait for nothing but their start."""
        return min(self.places - self.taken, self.waiting(catch_ups))

    def add(self, item: Ready) -> None:
        (self.catch_up if item.run.catch_up else self.live)[item.run.id] = item

    def reserve(self) -> bool:
        """Occupy a place for a live run, if there is one and nobody waits for it. Returns whether."""
        is_free = self.taken < self.places and not self.live
        self.taken += is_free
        return is_free

    def withdraw(self, run_ids: AbstractSet[str]) -> set[str]:
        """Drop runs that wait. Returns the ids of those that did."""
        lines = (self.live, self.catch_up)
        return {run_id for run_id in run_ids for line in lines if line.pop(run_id, None) is not None}

    def clear(self) -> int:
        """Drop all runs that wait. Returns how many they were."""
        dropped = len(self.live) + len(self.catch_up)
        self.live.clear()
        self.catch_up.clear()
        return dropped

    def take(self, most: int, catch_ups: int) -> list[Ready]:
        """Take runs for which there are places, and occupy these: live ones before catch-ups."""
        count = max(0, min(most, self.startable(catch_ups)))
        live = min(count, len(self.live))
        self.taken += count
        return [
            *(self.live.popitem(last=False)[1] for _ in range(live)),
            *(self.catch_up.popitem(last=False)[1] for _ in range(count - live)),
        ]


class Pools:
    """The pools of an instance. `pool_of` names the one of a run; `places` has the places of each."""

    def __init__(self, places: Mapping[str, int], pool_of: Callable[[Ready], str]) -> None:
        self._pools = {name: Pool(places=most) for name, most in places.items()}
        self._pool_of = pool_of

    def add(self, items: Iterable[Ready]) -> None:
        for item in items:
            self._pool(item).add(item)

    def reserve(self, item: Ready) -> bool:
        """Occupy a place for a live run, if there is one and nobody waits for it. Returns whether."""
        return self._pool(item).reserve()

    def release(self, item: Ready) -> None:
        """Free the place of a run."""
        self._pool(item).taken -= 1

    def withdraw(self, run_ids: AbstractSet[str]) -> set[str]:
        """Drop runs that wait. Returns the ids of those that did."""
        return {run_id for pool in self._pools.values() for run_id in pool.withdraw(run_ids)}

    def clear(self) -> int:
        """Drop all runs that wait. Returns how many they were."""
        return sum(pool.clear() for pool in self._pools.values())

    def startable(self, catch_ups: int) -> int:
        """How many runs wait for nothing but their start, when so many catch-ups may start."""
        return sum(max(0, pool.startable(catch_ups)) for pool in self._pools.values())

    def waiting(self, catch_ups: int) -> int:
        """How many runs wait for a place or their start, when so many catch-ups may start."""
        return sum(pool.waiting(catch_ups) for pool in self._pools.values())

    def has_place_for_catch_up(self) -> bool:
        """Whether a catch-up waits that has a place."""
        return any(pool.catch_up and pool.taken < pool.places for pool in self._pools.values())

    def take(self, most: int, catch_ups: int) -> list[Ready]:
        """Take runs for which there are places, and occupy these; no more than `catch_ups` catch-ups."""
        items: list[Ready] = []
        for pool in self._pools.values():
            taken = pool.take(most - len(items), catch_ups)
            catch_ups -= sum(item.run.catch_up for item in taken)
            items += taken
        return items

    def _pool(self, item: Ready) -> Pool:
        return self._pools[self._pool_of(item)]
