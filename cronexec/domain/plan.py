"""The plan: which jobs come due between two instants. A heap of (next slot, job), for the holder and, kept warm, for every standby.

The plan never guesses: a job whose next slot is not computed yet is *unknown*, and `due` refuses to answer while there are any, because the
watermark must not pass them (invariant I1). Computing is sliced (`compute`), so that 10,000 jobs never hold the event loop;
jobs with equal schedules that continue from the same instant share one computation.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cronexec.domain.job import Job
from cronexec.domain.schedule import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A job with slots in (after, until]; `first` is the first of them."""

    job: Job
    first: datetime
    after: datetime


@dataclass(slots=True)
class _Planned:
    job: Job
    after: datetime
    next_slot: datetime | None = None


class Plan:
    """The jobs that have slots to come. Paused and deleted jobs are not in it."""

    def __init__(self) -> None:
        self._planned: dict[str, _Planned] = {}
        self._heap: list[tuple[datetime, int, _Planned]] = []
        self._serial = itertools.count()  # orders equal slots by arrival, and keeps the heap from comparing jobs
        self._unknown: deque[_Planned] = deque()
        self._shared: dict[tuple[Schedule, datetime], datetime | None] = {}

    def __len__(self) -> int:
        return len(self._planned)

    def put(self, job: Job, *, after: datetime) -> None:
        """Plan `job` (or its new version): its slots after `after`, and after its own beginning, count."""
        self.remove(job.name)
        if job.deleted_at is None and job.paused is None:
            planned = _Planned(job=job, after=max(after, job.from_at))
            self._planned[job.name] = planned
            self._unknown.append(planned)

    def remove(self, name: str) -> None:
        self._planned.pop(name, None)  # what is left of it in the heap is recognised as stale

    def compute(self, most: int) -> bool:
        """Compute up to `most` unknown next slots. Returns whether there are more."""
        for _ in range(min(most, len(self._unknown))):
            planned = self._unknown.popleft()
            if not self._is_planned(planned):
                continue
            planned.next_slot = self._next(planned.job.schedule, planned.after)
            if planned.next_slot is not None:
                heapq.heappush(self._heap, (planned.next_slot, next(self._serial), planned))
        if not self._unknown:
            self._shared.clear()
        return bool(self._unknown)

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

    def due(self, until: datetime) -> list[Due]:
        """Take out the jobs with slots up to `until`, earliest first. `resume` puts them back once their slots are decided."""
        if self._unknown:
            raise AssertionError("the plan was asked what is due before every next slot was computed")
        taken: list[Due] = []
        while (first := self.next_at()) is not None and first <= until:
            _, _, planned = heapq.heappop(self._heap)
            taken.append(Due(job=planned.job, first=first, after=planned.after))
        return taken

    def resume(self, due: Iterable[Due], *, after: datetime) -> None:
        """Continue jobs from `after`, up to which their slots are decided; a job changed meanwhile goes on as its new version."""
        for item in due:
            planned = self._planned.get(item.job.name)
            if planned is not None and planned.job is item.job:
                planned.after = after
                self._unknown.append(planned)

    def advance(self, watermark: datetime) -> None:
        """Follow somebody else's watermark: what is due up to it was decided there."""
        if not self._unknown:
            self.resume(self.due(watermark), after=watermark)

    def upcoming(self, most: int) -> list[tuple[datetime, str]]:
        """Return the next (slot, job name) of up to `most` jobs, in order."""
        live = (entry for entry in self._heap if self._is_planned(entry[2]))
        return [(slot, planned.job.name) for slot, _, planned in heapq.nsmallest(most, live)]

    def _is_planned(self, planned: _Planned) -> bool:
        return self._planned.get(planned.job.name) is planned

    def _drop_stale(self) -> None:
        while self._heap and not self._is_planned(self._heap[0][2]):
            heapq.heappop(self._heap)
