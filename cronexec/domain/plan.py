"""The plan: which jobs come due between two instants. A heap of (next slot, job), kept warm on every standby.

The plan never guesses: a job whose next slot is not computed yet is *unknown*, and `due` refuses to answer
while there are any, because the watermark must not pass them (invariant I1). Computing is sliced
(`compute`), so that 10,000 jobs never hold the event loop; jobs with equal schedules that continue from the
same instant share one computation.

A job is in one of three places: unknown, in the heap, or *taken* by `due` until `resume`. What a change
leaves of it in the first two is recognised as stale, and thrown away when it is met or when it is most of
the heap. One whose next slot cannot be computed, by a defect, is in none: `failed` has it, for the holder to
take it out of the schedule and account for its slots, so that it does not stop the others.
"""

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cronexec.domain.job import Job
from cronexec.domain.schedule import Schedule

_STALE_FACTOR = 2  # of the heap's entries to the jobs, beyond which the stale ones are thrown away
_STALE_MOST = 64  # however few jobs there are


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A job with slots in (after, until]; `first` is the first of them."""

    job: Job
    first: datetime
    after: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A job of which no slot after `after` can be computed."""

    job: Job
    after: datetime
    why: str


@dataclass(slots=True)
class _Planned:
    job: Job
    after: datetime
    taken: bool = False


class Plan:
    """The jobs that have slots to come. Deleted ones are not in it, nor what a pause accounts for."""

    def __init__(self) -> None:
        self._planned: dict[str, _Planned] = {}
        self._heap: list[tuple[datetime, int, _Planned]] = []
        self._serial = itertools.count()  # orders equal slots by arrival: the heap never compares jobs
        self._unknown: deque[_Planned] = deque()
        self._shared: dict[tuple[Schedule, datetime], datetime | None] = {}
        self._failed: dict[str, Failed] = {}

    def __len__(self) -> int:
        return len(self._planned)

    def put(self, job: Job, *, after: datetime) -> None:
        """Plan `job` (or its new version): its slots after `after`, and after its own beginning, count."""
        self.remove(job.name)
        if (from_at := job.planned_from(after)) is not None:
            planned = _Planned(job=job, after=from_at)
            self._planned[job.name] = planned
            self._unknown.append(planned)

    def remove(self, name: str) -> None:
        self._planned.pop(name, None)
        self._failed.pop(name, None)

    def compute(self, most: int) -> bool:
        """Compute up to `most` unknown next slots. Returns whether there are more."""
        for _ in range(min(most, len(self._unknown))):
            planned = self._unknown.popleft()
            if not self._is_planned(planned):
                continue
            try:
                slot = self._next(planned.job.schedule, planned.after)
            except Exception as error:  # noqa: BLE001  whatever it is: see the module's docstring
                self._fail(planned, error)
                continue
            if slot is not None:
                heapq.heappush(self._heap, (slot, next(self._serial), planned))
        if not self._unknown:
            self._shared.clear()
            self._compact()
        return bool(self._unknown)

    def _fail(self, planned: _Planned, error: Exception) -> None:
        why = f"its next slot could not be computed: {type(error).__name__}: {error}"
        self._failed[planned.job.name] = Failed(job=planned.job, after=planned.after, why=why)

    def failed(self) -> list[Failed]:
        """Return the jobs whose next slots could not be computed."""
        return list(self._failed.values())

    def _next(self, schedule: Schedule, after: datetime) -> datetime | None:
        key = (schedule, after)
        if key not in self._shared:
            self._shared[key] = schedule.next_after(after)
        return self._shared[key]

    def is_complete(self) -> bool:
        return not self._unknown

    def next_at(self) -> datetime | None:
        """Return the next slot of any job, or None."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, until: datetime, most: int = sys.maxsize) -> list[Due]:
        """Take out up to `most` jobs with slots up to `until`, earliest first; `resume` puts them back.

        Raises AssertionError while a next slot is unknown.
        """
        if self._unknown:
            raise AssertionError("the plan was asked what is due before every next slot was computed")
        taken: list[Due] = []
        while len(taken) < most and (first := self.next_at()) is not None and first <= until:
            _, _, planned = heapq.heappop(self._heap)
            planned.taken = True
            taken.append(Due(job=planned.job, first=first, after=planned.after))
        return taken

    def resume(self, due: Iterable[Due], *, after: datetime) -> None:
        """Continue jobs from `after`, up to which their slots are decided.

        A job that was put meanwhile goes on from there instead.
        """
        for item in due:
            planned = self._planned.get(item.job.name)
            if planned is not None and planned.taken and planned.job is item.job:
                planned.after, planned.taken = after, False
                self._unknown.append(planned)

    def restore(self) -> None:
        """Put back what is taken still: a term is over, and nothing of that is known to be decided."""
        for planned in self._planned.values():
            if planned.taken:
                planned.taken = False
                self._unknown.append(planned)

    def upcoming(self, most: int) -> list[tuple[datetime, str]]:
        """Return the next (slot, job name) of up to `most` jobs, in order."""
        live = (entry for entry in self._heap if self._is_planned(entry[2]))
        return [(slot, planned.job.name) for slot, _, planned in heapq.nsmallest(most, live)]

    def _is_planned(self, planned: _Planned) -> bool:
        return self._planned.get(planned.job.name) is planned

    def _compact(self) -> None:
        """Keep what often changed jobs with far slots leave behind from outgrowing the plan."""
        if len(self._heap) > _STALE_FACTOR * len(self._planned) + _STALE_MOST:
            self._heap = [entry for entry in self._heap if self._is_planned(entry[2])]
            heapq.heapify(self._heap)

    def _drop_stale(self) -> None:
        while self._heap and not self._is_planned(self._heap[0][2]):
            heapq.heappop(self._heap)
