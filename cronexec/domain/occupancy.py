"""Occupancy: which runs of a job are active, and which wait for them.

Derived from the unsettled runs of the ledger at the start of a term, kept up by the holder while it lasts, thrown away at its end. A run is
*active* once it may start (it need not have started: places may be short), and *waiting* while the overlap policy `queue` holds it back.
Live slots wait before those of a catch-up; within each, the oldest slot is released first.
"""

from collections import deque
from dataclasses import dataclass, field

from cronexec.domain.job import Overlap
from cronexec.domain.policy import admits
from cronexec.domain.run import Run


@dataclass(slots=True)
class _Line:
    active: dict[str, Run] = field(default_factory=dict)
    live: deque[Run] = field(default_factory=deque)
    catch_up: deque[Run] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        return len(self.live) + len(self.catch_up)

    def pop(self) -> Run | None:
        line = self.live or self.catch_up
        return line.popleft() if line else None


class Occupancy:
    """The unsettled runs of all jobs, as the overlap policy sees them."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._job_of: dict[str, str] = {}

    def admits(self, job: str, overlap: Overlap, *, planned: int = 0, catch_up: bool = False) -> bool:
        """Whether a further run of `job` is wanted; `planned` counts runs of the same decision that are not here yet."""
        line = self._lines.get(job)
        active, waiting = (len(line.active), line.waiting) if line else (0, 0)
        if planned and active == 0:
            active, planned = 1, planned - 1
        return admits(overlap, active=active, waiting=waiting + planned, catch_up=catch_up)

    def enter(self, run: Run, overlap: Overlap) -> bool:
        """Take a claimed run in. Returns whether it may start now; otherwise a later `settle` releases it."""
        line = self._lines.setdefault(run.job, _Line())
        self._job_of[run.id] = run.job
        if overlap is Overlap.ALLOW or not line.active:
            line.active[run.id] = run
            return True
        (line.catch_up if run.catch_up else line.live).append(run)
        return False

    def occupy(self, run: Run) -> None:
        """Count a run that is running already (somewhere)."""
        self._job_of[run.id] = run.job
        self._lines.setdefault(run.job, _Line()).active[run.id] = run

    def settle(self, run_id: str) -> Run | None:
        """Take a run out, which may have been waiting itself. Returns the run that may start in its place, if any."""
        job = self._job_of.pop(run_id, "")
        line = self._lines.get(job)
        if line is None:
            return None
        line.active.pop(run_id, None)
        line.live = _without(line.live, run_id)
        line.catch_up = _without(line.catch_up, run_id)
        released = None
        if not line.active:
            released = line.pop()
            if released is not None:
                line.active[released.id] = released
        if not line.active:
            del self._lines[job]
        return released

    def unsettled(self, job: str) -> tuple[Run, ...]:
        """Return the job's runs, active ones first, then the waiting ones in their order."""
        line = self._lines.get(job)
        return (*line.active.values(), *line.live, *line.catch_up) if line else ()


def _without(line: deque[Run], run_id: str) -> deque[Run]:
    return deque(run for run in line if run.id != run_id) if line else line
