"""Occupancy: which runs of a job are active, and which wait for them.

Derived from the unsettled runs of the ledger at the start of a term, kept up by the holder while it lasts,
thrown away at its end. A run is *active* once it may start (it need not have started: places may be short),
and *waiting* while the overlap policy `queue` holds it back. Live slots wait before those of a catch-up;
within each, the oldest slot is released first.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from cronexec.domain.job import Overlap
from cronexec.domain.places import Places
from cronexec.domain.run import Run


@dataclass(slots=True)
class _Line:
    """The unsettled runs of one job. A line may be 100,000 long, and any run of it may settle."""

    active: dict[str, Run] = field(default_factory=dict)
    live: OrderedDict[str, Run] = field(default_factory=OrderedDict)
    catch_up: OrderedDict[str, Run] = field(default_factory=OrderedDict)

    def drop(self, run_id: str) -> None:
        for line in (self.active, self.live, self.catch_up):
            line.pop(run_id, None)

    def release(self) -> Run | None:
        """Make the first of those that wait active, if nothing else is."""
        waiting = self.live or self.catch_up
        if self.active or not waiting:
            return None
        run_id, run = waiting.popitem(last=False)
        self.active[run_id] = run
        return run


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
        return Places(active=len(line.active), live=len(line.live), catch_up=len(line.catch_up))

    def is_free(self, job: str) -> bool:
        """Whether no run of the job is active."""
        return job not in self._lines

    def enter(self, run: Run, overlap: Overlap) -> bool:
        """Take a claimed run in. Returns whether it may start now; otherwise a later `settle` releases it."""
        line = self._line_of(run)
        if overlap is Overlap.ALLOW or not line.active:
            line.active[run.id] = run
            return True
        (line.catch_up if run.catch_up else line.live)[run.id] = run
        return False

    def occupy(self, run: Run) -> None:
        """Count a run that is running already (somewhere)."""
        self._line_of(run).active[run.id] = run

    def settle(self, run_id: str) -> Run | None:
        """Take a run out, which may have been waiting itself.

        Returns the run that may start in its place, if any.
        """
        job = self._job_of.pop(run_id, None)
        if job is None:
            return None
        line = self._lines[job]
        line.drop(run_id)
        released = line.release()
        if not line.active:
            del self._lines[job]
        return released

    def unsettled(self, job: str) -> tuple[Run, ...]:
        """Return the job's runs, active ones first, then the waiting ones in their order."""
        line = self._lines.get(job)
        return (*line.active.values(), *line.live.values(), *line.catch_up.values()) if line else ()

    def _line_of(self, run: Run) -> _Line:
        self._job_of[run.id] = run.job
        line = self._lines.setdefault(run.job, _Line())
        line.drop(run.id)  # an adopted run may come in twice; it has one place
        return line
