"""Runs that may not start yet: retries that wait for their delay, slots that jitter holds back.

They are queued, and keep their place in their job's line; the instant is in the ledger, so the next holder
waits for the same one.
"""

import heapq
from collections.abc import Iterable
from datetime import datetime

from cronexec.runtime.ready import Ready


class Delayed:
    """Belongs to one term."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ready] = {}
        self._order: list[tuple[datetime, str]] = []

    def keep(self, item: Ready, now: datetime) -> bool:
        """Take a run that might start but for its instant. Returns False for one whose instant has come."""
        not_before = item.run.not_before
        if not_before is None or not_before <= now:
            return False
        self._waiting[item.run.id] = item
        heapq.heappush(self._order, (not_before, item.run.id))
        return True

    def next_at(self) -> datetime | None:
        """Return the instant from which the next of them may start, or None."""
        while self._order and not self._is_current(*self._order[0]):
            heapq.heappop(self._order)
        return self._order[0][0] if self._order else None

    def due(self, now: datetime) -> list[Ready]:
        """Take out the runs whose instant has come, in the order of their instants."""
        able: list[Ready] = []
        while (first := self.next_at()) is not None and first <= now:
            able.append(self._waiting.pop(heapq.heappop(self._order)[1]))
        return able

    def drop(self, run_ids: Iterable[str]) -> None:
        """Forget runs that were settled otherwise."""
        for run_id in run_ids:
            self._waiting.pop(run_id, None)

    def _is_current(self, not_before: datetime, run_id: str) -> bool:
        item = self._waiting.get(run_id)
        return item is not None and item.run.not_before == not_before
