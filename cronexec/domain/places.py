"""Places: whether a slot may have a run beside those that a job has already. A pure count.

A decision begins with the places as they are (`domain.occupancy`) and fills them slot after slot, in the
order of time. What finds no place is skipped with the reason `overlap`. A missed slot that is caught up waits
behind the live ones, in a line of its own, so that a catch-up keeps no live slot out; that line is no longer
than the misfire policy wants at once.
"""

from dataclasses import dataclass
from typing import assert_never

from cronexec.domain.job import JobDocument, MisfirePolicy, OverlapPolicy


@dataclass(slots=True)
class Places:
    """The places of one job: its active runs, and the live and missed ones that wait."""

    active: int = 0
    live: int = 0
    catch_up: int = 0

    def take(self, document: JobDocument, *, catch_up: bool) -> bool:
        """Give a slot its place. Returns False where the overlap policy wants no further run."""
        most = document.overlap.most_active
        if most is None or self.active < most:
            self.active += 1
            return True
        if catch_up:
            return self._wait_as_catch_up(document)
        return self._wait(document)

    def _wait(self, document: JobDocument) -> bool:
        policy = document.overlap.policy
        match policy:
            case OverlapPolicy.SKIP:
                return False
            case OverlapPolicy.REPLACE:  # it takes the places of all that wait
                self.live, self.catch_up = 1, 0
                return True
            case OverlapPolicy.QUEUE | OverlapPolicy.ALLOW:
                may_wait = self.live < document.overlap.queue_limit
                self.live += may_wait
                return may_wait
            case _:
                assert_never(policy)

    def _wait_as_catch_up(self, document: JobDocument) -> bool:
        if document.overlap.policy is OverlapPolicy.SKIP:
            return False
        misfire = document.misfire
        may_wait = self.catch_up < (misfire.limit if misfire.policy is MisfirePolicy.ALL else 1)
        self.catch_up += may_wait
        return may_wait
