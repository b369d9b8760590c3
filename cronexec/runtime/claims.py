"""The claims of one tick: what came due, decided entry by entry and cut into writes of a bounded size.

Jobs are decided one after the other, earliest first slot first, and a write may end in the middle of one: a
job that catches up 100,000 slots fills many. All writes of a tick go on with the same decision, judged
against the same instant and with the places that were free when the job's first slot was decided. Should the
term end between two of them, the next holder finds how far each job's entries reach, and decides the rest.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import datetime
from itertools import chain

from cronexec.domain.job import JobDocument
from cronexec.domain.ledger import Claiming, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.replacement import replacement, replaces
from cronexec.domain.run import Run
from cronexec.runtime.decision import Decision
from cronexec.runtime.service import Breather


class Claims:
    """What is still undecided of `due`. `unavailable`: why a document's target cannot be executed here."""

    def __init__(
        self,
        due: Iterable[Due],
        claiming: Claiming,
        occupancy: Occupancy,
        *,
        unavailable: Callable[[JobDocument], str | None],
    ) -> None:
        self._due = deque(due)
        self._claiming = claiming
        self._occupancy = occupancy
        self._unavailable = unavailable
        self._begun: Iterator[Run] | None = None  # the entries of the first job, where it is half decided
        self._begun_at: datetime | None = None

    def first_at(self) -> datetime | None:
        """Return the earliest slot that is not decided; None when all are."""
        if self._begun_at is None:
            return self._due[0].first if self._due else None
        return min(self._begun_at, self._due[1].first) if len(self._due) > 1 else self._begun_at

    async def fill(self, decision: Decision, most: int, breather: Breather) -> None:
        """Add entries to the decision until it has `most` of them, or all is decided."""
        while self._due and len(decision.entries) < most:
            item = self._due[0]
            decision.planned[item.job.name] = item.job
            entries = self._begun or self._decide(item)
            self._begun, self._begun_at = None, None
            for entry in entries:
                decision.claim(entry, item.job.document)
                if replaces(item.job.document, entry):
                    self._replace(entry, decision)
                await breather.breathe()
                if len(decision.entries) >= most and (following := next(entries, None)) is not None:
                    self._begun, self._begun_at = chain((following,), entries), following.slot
                    return
            decision.due.append(self._due.popleft())

    def leave_out(self, names: Container[str]) -> None:
        """Forget jobs that were parked: nothing more of them is claimed."""
        if self._due and self._due[0].job.name in names:
            self._begun, self._begun_at = None, None
        self._due = deque(item for item in self._due if item.job.name not in names)

    def _replace(self, entry: Run, decision: Decision) -> None:
        others = self._occupancy.unsettled(entry.job)
        if others:
            decision.replacements[entry.id] = replacement(entry, others, self._claiming.judged_at)

    def _decide(self, item: Due) -> Iterator[Run]:
        why = self._unavailable(item.job.document)
        return claim(item, self._claiming, self._occupancy, unavailable=why)
