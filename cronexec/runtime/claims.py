"""The claims of a term: what came due, decided entry by entry and cut into writes of a bounded size.

A job that catches up 100,000 slots fills many writes, and nobody is to wait for it: neither the live slots of
other jobs that come due meanwhile, nor jobs that missed a few slots and are live again after these. So there
are two lines. First come the jobs that are on time, then those with missed slots, and each gets so many
entries at a time (`SHARE`); what is left of it goes to the end of the second line.

Deciding a job asks much code, and what crashes there would end this term and every next: that job is *parked*
(`domain.parking`) from the slot that it did not get to, and the others go on.

A job goes on as it was begun, judged against the same instant and with the places that were free when its
first slot was decided. Should the term end half-way, the next holder finds how far each job's entries reach,
and decides the rest.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from cronexec.domain.ending import MOST_ENDED
from cronexec.domain.instants import SECOND
from cronexec.domain.job import JobDocument
from cronexec.domain.ledger import Claiming, Settle, claim
from cronexec.domain.occupancy import Occupancy
from cronexec.domain.plan import Due
from cronexec.domain.replacement import replacement, replaces
from cronexec.domain.run import Run
from cronexec.log import Log
from cronexec.runtime.decision import Decision
from cronexec.runtime.service import Breather

LONGEST = 1.0  # seconds, after which what there is gets written: a holder that only decides seems dead
SHARE = 128  # entries; more than most jobs catch up


@dataclass(slots=True)
class _Item:
    """A job that came due.

    `entries`: once it is begun; `following`: the first that is not in a decision; `taken`: the last that is.
    `asked`: runs that are to end before it goes on (`domain.ending`), and `is_held` until that is written.
    """

    due: Due
    claiming: Claiming
    entries: Iterator[Run | None] | None = None
    following: Run | None = None
    taken: Run | None = None
    asked: set[str] = field(default_factory=set)
    is_held: bool = False

    @property
    def is_on_time(self) -> bool:
        return self.claiming.judged_at - self.due.first <= self.due.job.document.misfire.grace

    @property
    def first_at(self) -> datetime:
        """The first slot that is in no decision yet."""
        return self.due.first if self.following is None else self.following.slot

    @property
    def undecided_at(self) -> datetime:
        """The first slot that is in no decision yet; where it cannot be told, an instant before it."""
        if self.taken is None:
            return self.due.first
        last = self.taken.until or self.taken.slot
        with suppress(Exception):  # it is asked when that schedule, or what asks it, has crashed
            return self.due.job.schedule.next_after(last) or last + SECOND
        return last + SECOND


class Claims:
    """Belongs to one term. `unavailable`: why a document's target cannot be executed here."""

    def __init__(
        self, occupancy: Occupancy, *, unavailable: Callable[[JobDocument], str | None], log: Log
    ) -> None:
        self._occupancy = occupancy
        self._unavailable = unavailable
        self._log = log
        self._ended = 0  # runs, by what the decision replaces
        self._on_time: deque[_Item] = deque()
        self._late: deque[_Item] = deque()

    @property
    def are_waiting(self) -> bool:
        """Whether anything that came due is not in a decision yet."""
        return bool(self._on_time or self._late)

    @property
    def are_urgent(self) -> bool:
        """Whether jobs that are on time are among it."""
        return bool(self._on_time)

    def add(self, due: Iterable[Due], claiming: Claiming) -> None:
        """Take jobs that came due, earliest first; their slots up to `claiming.until` are to be decided."""
        for each in due:
            item = _Item(each, claiming)
            (self._on_time if item.is_on_time else self._late).append(item)

    def first_at(self) -> datetime | None:
        """Return the earliest slot that is not decided; None when all are."""
        return min((item.first_at for item in chain(self._on_time, self._late)), default=None)

    async def fill(self, decision: Decision, most: int, breather: Breather) -> None:
        """Add entries until there are `most`, too many runs end, it takes too long, or all is decided."""
        held: list[_Item] = []
        self._ended = 0
        while (
            (line := self._on_time or self._late)
            and len(decision.entries) < most
            and self._ended < MOST_ENDED
            and breather.age() <= LONGEST
        ):
            item = line.popleft()
            decision.planned[item.due.job.name] = item.due.job
            try:
                await self._go_on(item, decision, most, breather)
            except Exception as error:  # noqa: BLE001  see the module's docstring
                self._log.exception("job.crashed", job=item.due.job.name)
                why = f"it could not be decided: {type(error).__name__}: {error}"
                decision.park(item.due.job, item.undecided_at, why)
            if item.is_held:
                held.append(item)
        self._late.extend(held)

    async def _go_on(self, item: _Item, decision: Decision, most: int, breather: Breather) -> None:
        if await self._decide(item, decision, min(most, len(decision.entries) + SHARE), breather):
            decision.due.setdefault(item.claiming.until, []).append(item.due)
        elif not item.is_held:
            self._late.append(item)

    def leave_out(self, names: Collection[str]) -> None:
        """Forget jobs that were parked: nothing more of them is claimed."""
        if names:
            self._on_time, self._late = (
                deque(item for item in line if item.due.job.name not in names)
                for line in (self._on_time, self._late)
            )

    async def _decide(self, item: _Item, decision: Decision, most: int, breather: Breather) -> bool:
        """Go on with a job until the decision is full or took long. Returns whether all of it is decided."""
        document = item.due.job.document
        if item.entries is None:
            why = self._unavailable(document)
            item.entries = claim(item.due, item.claiming, self._occupancy, unavailable=why)
        waiting = () if item.following is None else (item.following,)
        item.following, item.is_held = None, False
        for entry in chain(waiting, item.entries):
            if entry is not None:
                if len(decision.entries) >= most or not self._take(entry, item, decision):
                    item.following = entry
                    return False
            elif breather.age() > LONGEST:
                return False
            await breather.breathe()
        return True

    def _take(self, entry: Run, item: _Item, decision: Decision) -> bool:
        """Claim the entry. Returns False where it replaces more runs than a write takes: these end first."""
        document = item.due.job.document
        if replaces(document, entry) and (others := self._occupancy.unsettled(entry.job)):
            replaced = replacement(entry, others, item.claiming.judged_at, asked=item.asked)
            if replaced.ahead:
                self._hold(item, replaced.ahead, decision)
                return False
            decision.replacements[entry.id] = replaced
            self._ended += len(replaced.settles)
        decision.claim(entry, document)
        item.taken = entry
        return True

    def _hold(self, item: _Item, ahead: Sequence[Settle], decision: Decision) -> None:
        """Have runs end ahead, those of one job in a write; its entry is for a later one."""
        item.is_held = True
        if not decision.ahead:
            decision.end_ahead(ahead)
            item.asked.update(settle.run_id for settle in ahead)
