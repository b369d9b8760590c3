"""What jobs need and this instance lacks: a handler of another release, shell targets, reading the document.

While two releases run side by side, or where instances differ, only some can run everything. Each says with
its heartbeat what it lacks, and a holder that lacks something yields to one that lacks less
(`runtime.yielder`). All of it is told of oneself: what the jobs need is in every instance's table, and nobody
has to judge what another release can do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cronexec.domain.job import HandlerTarget, Job
from cronexec.ports import Targets
from cronexec.runtime.jobs import JobTable
from cronexec.runtime.service import Breather

MOST_TOLD = 100  # of what is lacking; who lacks more is nobody to yield to


class Abilities:
    """Computed at a heartbeat, if jobs or handlers have changed, and kept.

    `lacking`: since when, in monotonic seconds.
    """

    def __init__(self, table: JobTable, targets: Targets, monotonic: Callable[[], float]) -> None:
        self._table = table
        self._targets = targets
        self._monotonic = monotonic
        self._computed_for: tuple[int, Sequence[str]] | None = None
        self.lacking: Mapping[str, float] = {}

    async def refresh(self) -> Mapping[str, float]:
        """Return what is lacking now."""
        state = (self._table.changes, tuple(self._targets.handlers()))
        if state != self._computed_for:
            needs = await self._needs()
            now = self._monotonic()
            self.lacking = {need: self.lacking.get(need, now) for need in needs}
            self._computed_for = state
        return self.lacking

    async def told(self) -> Sequence[str] | None:
        """Return what the heartbeat says of it; None where that is not known yet, or too much."""
        lacking = await self.refresh()
        return tuple(sorted(lacking)) if self._table.is_known and len(lacking) <= MOST_TOLD else None

    async def _needs(self) -> set[str]:
        breather = Breather(self._monotonic)
        needs = {f"to read {name}" for name in self._table.unreadable}
        for job in list(self._table.jobs.values()):
            if job.deleted_at is None and job.paused is None and self._is_unable(job):
                needs.add(_need(job.document.target))
            await breather.breathe()
        return needs

    def _is_unable(self, job: Job) -> bool:
        return self._targets.unavailable(job.document.target) is not None


def _need(target: Any) -> str:
    return f"handler {target.name}" if isinstance(target, HandlerTarget) else str(target.type)
