"""Runs that the holder cannot execute: a handler not registered here, shell targets not allowed.

They wait, visibly (`queued reason=target_unavailable`), for a holder that can, or until this one can; after
the job's misfire grace, counted from when they might have started here, they fail. An operator is warned the
first time a job is found so. What was claimed for a slot says so from the start; triggered and adopted runs
with the next fenced write.
"""

import heapq
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from cronexec.domain.instants import later
from cronexec.domain.job import JobDocument
from cronexec.domain.ledger import Settle
from cronexec.domain.run import Outcome, RunState
from cronexec.log import Log
from cronexec.ports import Targets
from cronexec.runtime.ready import Ready

REASON = "target_unavailable"
LOOK_INTERVAL = timedelta(seconds=1)


class Stranded:
    """Belongs to one term: the next holder tries again."""

    def __init__(self, *, targets: Targets, log: Log) -> None:
        self._targets = targets
        self._log = log
        self._waiting: dict[str, Ready] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._warned: set[str] = set()
        self._reasons: dict[str, str | None] = {}
        self._next_look_at = datetime.min.replace(tzinfo=UTC)

    def why(self, document: JobDocument) -> str | None:
        """Return the reason that runs of the job carry while they wait; None if they can be executed here."""
        problem = self._targets.unavailable(document.target)
        if problem is None:
            return None
        if document.name not in self._warned:
            self._warned.add(document.name)
            self._log.warning("job.target_unavailable", job=document.name, why=problem)
        return REASON

    def note(self, item: Ready) -> Ready:
        """Return a queued run as it waits under this term; `reasons` has it where the ledger differs.

        However it came to be: claimed, triggered, given back, or adopted from a holder that could, or could
        not, execute it.
        """
        why = self.why(item.document)
        if why == item.run.reason:
            return item
        self._reasons[item.run.id] = why
        return replace(item, run=replace(item.run, reason=why))

    def reasons(self, most: int) -> dict[str, str | None]:
        """Take out what the next fenced write is to say of waiting runs, of up to `most` of them."""
        if len(self._reasons) <= most:
            taken, self._reasons = self._reasons, {}
            return taken
        return {run_id: self._reasons.pop(run_id) for run_id in list(islice(self._reasons, most))}

    def keep(self, item: Ready, now: datetime) -> bool:
        """Take a run that cannot be executed here, now that it might start.

        Returns False for one that can.
        """
        if self.why(item.document) is None:
            return False
        self._waiting[item.run.id] = item
        heapq.heappush(self._deadlines, (later(now, item.document.misfire.grace), item.run.id))
        return True

    def recovered(self, now: datetime) -> list[Ready]:
        """Take out the runs that can be executed here by now: their handler was registered, say.

        Looks once a second.
        """
        if not self._waiting or now < self._next_look_at:
            return []
        self._next_look_at = now + LOOK_INTERVAL
        able = [
            item for item in self._waiting.values() if self._targets.unavailable(item.document.target) is None
        ]
        self.drop(item.run.id for item in able)
        return able

    def drop(self, run_ids: Iterable[str]) -> None:
        """Forget runs that were settled otherwise."""
        for run_id in run_ids:
            self._waiting.pop(run_id, None)

    def expired(self, now: datetime, most: int) -> tuple[Settle, ...]:
        """Take out up to `most` runs that waited longer than their grace: they fail."""
        failed: list[Settle] = []
        while len(failed) < most and self._deadlines and self._deadlines[0][0] <= now:
            _, run_id = heapq.heappop(self._deadlines)
            if (item := self._waiting.pop(run_id, None)) is not None:
                failed.append(self._failure(item, now))
        return tuple(failed)

    def _failure(self, item: Ready, now: datetime) -> Settle:
        problem = self._targets.unavailable(item.document.target) or "it became available too late"
        self._log.error("run.target_unavailable", run=item.run.id, why=problem)
        outcome = Outcome(state=RunState.FAILED, reason=REASON, error=problem)
        return Settle(
            run_id=item.run.id,
            attempt=item.run.attempt,
            expected=RunState.QUEUED,
            outcome=outcome,
            at=now,
        )
