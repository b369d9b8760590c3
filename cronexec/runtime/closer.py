"""The closer: has the broker close the connection of a holder that fell silent, so that the baton moves on.

A holder that is frozen, or cut off from the broker, keeps the baton until two heartbeats are missed. Where
the broker's management URL is configured, a standby does not wait for that. It reads the term four times a
second; a healthy holder changes `seq` once a second, so after `SILENT_AFTER` without a change it asks once
more, and then has the holder's link closed.

False alarms are harmless, because the fence decides what is true, and made rare:

- Only what was *read* counts. A reading that fails or takes long, or a gap between two readings (this
  instance was frozen itself, the primary was stepping down), begins the timing afresh.
- Right before it acts, the database proves to us that its primary has a majority, which is what the holder's
  commits wait for, and the term is read again and has not moved.
- In the whole namespace one closing of a term's links in each `baton_lost_after`, by compare-and-set, as with
  insertions. A later term that falls silent, too, does not wait for that.
- It acts for nobody: without a link of its own no one here could take the baton over.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from cronexec.domain.term import TermRecord
from cronexec.errors import CronexecError, UnreachableError
from cronexec.ports import Management
from cronexec.runtime.context import Context

LOOK_INTERVAL = 0.25
SILENT_AFTER = 2.0  # an idle holder commits once a second
LONGEST_READING = 0.5
LONGEST_GAP = 1.0
FEWEST_READINGS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Standstill:
    """A term that did not move over several readings. `since` and `read_at` are monotonic, in seconds."""

    epoch: int
    seq: int
    holder_id: str | None
    since: float
    read_at: float
    readings: int = 1

    @property
    def is_silence(self) -> bool:
        return self.readings >= FEWEST_READINGS and self.read_at - self.since >= SILENT_AFTER


def follow(
    before: Standstill | None, record: TermRecord, asked_at: float, read_at: float
) -> Standstill | None:
    """Return the standstill that a reading continues or begins; None for one that took too long to count."""
    if read_at - asked_at > LONGEST_READING:
        return None
    unmoved = before is not None and (before.epoch, before.seq) == (record.epoch, record.seq)
    if before is not None and unmoved and asked_at - before.read_at <= LONGEST_GAP:
        return replace(before, read_at=read_at, readings=before.readings + 1)
    return Standstill(
        epoch=record.epoch, seq=record.seq, holder_id=record.holder_id, since=read_at, read_at=read_at
    )


class Closer:
    """Belongs to an instance. `stands_by`: whether it could take the baton over right now."""

    def __init__(self, context: Context, management: Management, stands_by: Callable[[], bool]) -> None:
        self._context = context
        self._management = management
        self._stands_by = stands_by
        self._still: Standstill | None = None
        self._problem: str | None = None

    async def run(self) -> None:
        """Look four times a second while this instance stands by."""
        while True:
            try:
                await self._look()
            except CronexecError as error:
                self._still = None
                self._context.log.debug("closer.not_read", error=str(error))
            await asyncio.sleep(LOOK_INTERVAL)

    async def _look(self) -> None:
        if not self._stands_by():
            self._still = None
            return
        await self._read()
        still = self._still
        if still is None or not still.is_silence or still.holder_id in {None, self._context.executor.id}:
            return
        if await self._is_certain(still):
            self._still = None  # what is not closed now is tried after another silence
            try:
                await self._close_holder(still)
            except UnreachableError as error:
                self._tell_problem(str(error))

    async def _read(self) -> None:
        asked_at = self._context.clock.monotonic()
        record = await self._context.store.terms.read()
        self._still = follow(self._still, record, asked_at, self._context.clock.monotonic())

    async def _is_certain(self, still: Standstill) -> bool:
        """Whether a write would be committed right now, and there still is none."""
        asked_at = self._context.clock.monotonic()
        await self._context.store.terms.ping()
        if self._context.clock.monotonic() - asked_at > LONGEST_READING:
            self._still = None
            return False
        await self._read()
        return self._still is not None and (self._still.epoch, self._still.seq) == (still.epoch, still.seq)

    async def _close_holder(self, still: Standstill) -> None:
        links = await self._management.links_of(str(still.holder_id))
        self._problem = None
        if not links or not await self._reserve(still.epoch):
            return
        silent_s = round(still.read_at - still.since, 1)
        for link in links:
            if await self._management.close_link(link, f"the holder was silent for {silent_s:g} s"):
                self._context.log.warning(
                    "holder.link_closed", epoch=still.epoch, holder=still.holder_id, silent_s=silent_s
                )

    async def _reserve(self, epoch: int) -> bool:
        at_most_every = self._context.settings.baton_lost_after
        return await self._context.store.terms.reserve_closing(at_most_every, epoch=epoch)

    def _tell_problem(self, problem: str) -> None:
        """Say once what keeps links from being closed: it costs time, and nothing else."""
        if problem != self._problem:
            self._problem = problem
            self._context.log.warning("holder.link_not_closed", why=problem)
