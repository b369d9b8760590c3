"""Places: whether a slot may have a run beside those that a job has already. A pure count.

A decision begins with the places as they are (`domain.occupancy`) and fills them slot after slot, in the
order of time. What finds no place is skipped with the reason `overlap`.
"""

from dataclasses import dataclass

from cronexec.domain.job import JobDocument, MisfirePolicy, Overlap


@dataclass(slots=True)
class Places:
    """The places of one job while a decision fills them: active runs, and live and missed ones that wait.

    Under `queue` one live slot waits. Missed ones wait behind it and in a line of their own, so that a
    catch-up keeps no live slot out; the line is no longer than the misfire policy wants at once.
    """

    active: int = 0
    live: int = 0
    catch_up: int = 0

    def take(self, document: JobDocument, *, catch_up: bool) -> bool:
        """Give a slot its place. Returns False where the overlap policy wants no further run."""
        if self.active == 0 or document.overlap is Overlap.ALLOW:
            self.active += 1
            return True
        if not self._may_wait(document, catch_up=catch_up):
            return False
        if catch_up:
            self.catch_up += 1
        else:
            self.live += 1
        return True

    def _may_wait(self, document: JobDocument, *, catch_up: bool) -> bool:
        if document.overlap is Overlap.SKIP:
            return False
        if not catch_up:
            return self.live == 0
        misfire = document.misfire
        return self.catch_up < (misfire.limit if misfire.policy is MisfirePolicy.ALL else 1)
