"""Heartbeats of the other instances, as this one sees them: watched by every instance, always.

An instance is lost when its heartbeat stood still for `instance_lost_after` on the observer's own monotonic
clock, counted only while heartbeats could be read, and up to the last time that they were: an outage of the
database kills nobody, whether it refuses or never answers. Standbys watch too, so that a new holder need not
begin to count.

What is known of an instance whose record is gone is kept for as long as anybody may need it to take it for
lost, and then forgotten: instances come and go for as long as this one lives.
"""

import asyncio
from collections.abc import Container, Iterable, Sequence

from cronexec.errors import CronexecError
from cronexec.ports import InstanceRecord
from cronexec.runtime.context import Context

LOOKS_PER_LOSS = 12
NEVER_SEEN = -1
FORGOTTEN_AFTER = 3  # times `instance_lost_after`


class Heartbeats:
    """When each instance's heartbeat was last seen to change. `lost_after` is seconds."""

    def __init__(self, lost_after: float) -> None:
        self._lost_after = lost_after
        self._seen: dict[str, tuple[int, float]] = {}
        self._read_at: float | None = None  # last, without an interruption since
        self._records: Sequence[InstanceRecord] = ()

    async def watch(self, context: Context) -> None:
        """Look twelve times in `lost_after`."""
        while True:
            try:
                records = await context.store.instances.list()
            except CronexecError as error:
                self.interrupted()
                context.log.debug("heartbeats.not_read", error=str(error))
            else:
                self.observe(records, context.clock.monotonic())
            await asyncio.sleep(self._lost_after / LOOKS_PER_LOSS)

    def observe(self, records: Iterable[InstanceRecord], now: float) -> None:
        """Take a successful reading of all heartbeats."""
        self._read_at = now
        records = self._records = list(records)
        for record in records:
            known = self._seen.get(record.executor.id)
            if known is None or known[0] != record.beat:
                self._seen[record.executor.id] = (record.beat, now)
        self._forget({record.executor.id for record in records}, now - FORGOTTEN_AFTER * self._lost_after)

    def _forget(self, there: Container[str], before: float) -> None:
        gone = [each for each, (_, at) in self._seen.items() if at < before and each not in there]
        for executor_id in gone:
            del self._seen[executor_id]

    def interrupted(self) -> None:
        """Heartbeats could not be read: nobody's silence counts from before."""
        self._read_at = None
        self._seen.clear()
        self._records = ()

    def heard_within(self, seconds: float, now: float) -> Sequence[InstanceRecord]:
        """Return what those said last whose heartbeat was seen to change so short a time ago."""
        return [record for record in self._records if now - self._seen[record.executor.id][1] <= seconds]

    def lost(self, executor_id: str, now: float) -> bool:
        """Whether the instance's heartbeat stood still, or was not there at all, for too long."""
        if self._read_at is None:
            return False
        _, changed_at = self._seen.setdefault(
            executor_id, (NEVER_SEEN, now)
        )  # it counts from the first question
        return self._read_at - changed_at > self._lost_after
