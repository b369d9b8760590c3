"""Runs that may start, and the places for them.

Places are limited for each pool (threads, coroutines, processes, connections); runs beyond them wait, live
slots before catch-ups.
"""

from collections import deque
from collections.abc import Sequence
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
    live: deque[Ready] = field(default_factory=deque)
    catch_up: deque[Ready] = field(default_factory=deque)

    def waiting(self, catch_ups: int) -> int:
        """How many runs wait for a place or their start, when so many catch-ups may start."""
        return len(self.live) + min(len(self.catch_up), catch_ups)

    def startable(self, catch_ups: int) -> int:
        """How many runs wait for nothing but their start."""
        return min(self.places - self.taken, self.waiting(catch_ups))

    def take(self, most: int, catch_ups: int) -> list[Ready]:
        """Take runs for which there are places, and occupy these: live ones before catch-ups."""
        count = max(0, min(most, self.startable(catch_ups)))
        live = min(count, len(self.live))
        self.taken += count
        return [
            *(self.live.popleft() for _ in range(live)),
            *(self.catch_up.popleft() for _ in range(count - live)),
        ]
