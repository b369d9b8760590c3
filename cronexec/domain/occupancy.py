"""Occupancy: which runs of a job are active, and which wait for them.

Derived from the unsettled runs of the ledger at the start of a term, kept up by the holder while it lasts,
thrown away at its end. A run is *active* once it may start (it need not have started: its instance's places
may be short, or its next attempt not due), and *waiting* while the overlap policy holds it back. Live slots
wait before those of a catch-up, and these before backfills, which keep no slot of the schedule from its
place; within each, the oldest slot is released first.

How many may be active beside a run is said by the version of the job that it was claimed with: runs that were
allowed to overlap all settle before one that waits under `queue`.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from cronexec.domain.job import Overlap
from cronexec.domain.places import Places
from cronexec.domain.run import Cause, Run

_Waiting = OrderedDict[str, tuple[Run, int | None]]  # with how many may be active at most


class _Rank(IntEnum):
    """In which order those that wait are released."""

    LIVE = 0
    CATCH_UP = 1
    BACKFILL = 2


@dataclass(slots=True)
class _Line:
    """The unsettled runs of one job. A line may be 100,000 long, and any run of it may settle.

    Of most jobs nothing ever waits: then there are no lines to make, to look through and to throw away.
    """

    active: dict[str, Run] = field(default_factory=dict)
    waiting: dict[_Rank, _Waiting] = field(default_factory=dict)

    def has_place(self, most: int | None) -> bool:
        return most is None or len(self.active) < most

    def drop(self, run_id: str) -> None:
        self.active.pop(run_id, None)
        for waiting in self.waiting.values():
            waiting.pop(run_id, None)

    def activate(self, run: Run) -> None:
        self.drop(run.id)
        self.active[run.id] = run

    def wait(self, run: Run, most: int | None) -> None:
        self.waiting.setdefault(_rank(run), OrderedDict())[run.id] = run, most

    def waits(self, rank: _Rank) -> int:
        return len(self.waiting.get(rank, ()))

    def release(self) -> Iterator[Run]:
        """Make the first of those that wait active, as long as it has a place."""
        for rank in sorted(self.waiting):
            waiting = self.waiting[rank]
            while waiting:
                run_id = next(iter(waiting))
                run, most = waiting[run_id]
                if not self.has_place(most):
                    return
                del waiting[run_id]
                self.active[run_id] = run
                yield run

    def runs(self) -> Iterator[Run]:
        yield from self.active.values()
        for rank in sorted(self.waiting):
            for run, _ in self.waiting[rank].values():
                yield run


def _rank(run: Run) -> _Rank:
    if run.cause is Cause.BACKFILL:
        return _Rank.BACKFILL
    return _Rank.CATCH_UP if run.catch_up else _Rank.LIVE


class Occupancy:
    """The unsettled runs of all jobs, as the overlap policy sees them."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._job_of: dict[str, str] = {}

    def places(self, job: str) -> Places:
        """Return what a decision about `job` begins with: its places as they are now."""
        line = self._lines.get(job)
        if line is None:
            return Places()
        return Places(
            active=len(line.active), live=line.waits(_Rank.LIVE), catch_up=line.waits(_Rank.CATCH_UP)
        )

    def active(self, job: str) -> int:
        """Return how many runs of the job are active."""
        line = self._lines.get(job)
        return 0 if line is None else len(line.active)

    def enter(self, run: Run, overlap: Overlap) -> bool:
        """Take a claimed run in. Returns whether it may start now; otherwise a later `settle` releases it.

        One that comes in again keeps its place: adopted, given back, or queued for its next attempt.
        """
        line = self._line_of(run)
        most = overlap.most_active
        if run.id in line.active or line.has_place(most):
            line.activate(run)
            return True
        line.wait(run, most)
        return False

    def occupy(self, run: Run) -> None:
        """Count a run that is running already (somewhere)."""
        self._line_of(run).activate(run)

    def settle(self, run_id: str) -> tuple[Run, ...]:
        """Take a run out, which may have been waiting itself.

        Returns the runs that may start now, in the order of their line.
        """
        job = self._job_of.pop(run_id, None)
        if job is None:
            return ()
        line = self._lines[job]
        line.drop(run_id)
        released = tuple(line.release()) if line.waiting else ()
        if not line.active:
            del self._lines[job]
        return released

    def unsettled(self, job: str) -> tuple[Run, ...]:
        """Return the job's runs, active ones first, then the waiting ones in their order."""
        return tuple(self.each(job))

    def each(self, job: str) -> Iterator[Run]:
        """Yield the same, one by one: a line may be long."""
        line = self._lines.get(job)
        return line.runs() if line else iter(())

    def _line_of(self, run: Run) -> _Line:
        self._job_of[run.id] = run.job
        line = self._lines.get(run.job)
        if line is None:
            line = self._lines[run.job] = _Line()
        return line
