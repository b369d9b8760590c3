"""The heart: tells the others that this instance lives, and this instance whether they can still believe it.

A beat is a counter that rises; observers time its changes on their own clocks. The instance itself counts
from the start of its last acknowledged beat: once that is longer ago than `instance_lost_after`, others may
have abandoned its runs, and it starts nothing any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from cronexec.errors import CronexecError
from cronexec.ports import InstanceRecord
from cronexec.runtime.context import Context
from cronexec.runtime.service import Wake

BEATS_PER_LOSS = 12
DOUBTFUL = 0.75  # of `instance_lost_after`: what others may repeat has to have ended before they may


class Heart:
    """One beat every twelfth of `instance_lost_after`; each also measures the database's clock."""

    def __init__(
        self,
        context: Context,
        *,
        state: Callable[[], str],
        running: Callable[[], int],
        lacks: Callable[[], Awaitable[Sequence[str] | None]] | None = None,
    ) -> None:
        self._context = context
        self._lacks = lacks
        self._state = state
        self._running = running
        self._lost_after = context.settings.instance_lost_after.total_seconds()
        self._beaten_at: float | None = None
        self._silenced = False
        self._due = Wake()
        self._record = InstanceRecord(
            executor=context.executor,
            started_at=context.clock.now(),
            beat_at=context.clock.now(),
            since_at=context.clock.now(),
            handlers=context.targets.handlers(),
            allow_shell=context.settings.allow_shell,
            versions=context.versions,
        )

    def is_alive(self) -> bool:
        """Whether the others still have every reason to believe in this instance."""
        at = self._beaten_at
        return at is not None and self._context.clock.monotonic() - at < self._lost_after

    def is_doubtful(self) -> bool:
        """Whether the others may soon take this instance for lost."""
        at = self._beaten_at
        return at is not None and self._context.clock.monotonic() - at > self._lost_after * DOUBTFUL

    def beat_soon(self) -> None:
        """Beat now, not at the next interval: somebody waits to see the state that has changed."""
        self._due.set()

    async def beat(self) -> None:
        """Beat once; raises UnreachableError."""
        started_at = self._context.clock.monotonic()
        await self._context.store.terms.ping()  # measures the clock
        offset_ms = self._context.clock.offset.total_seconds() * 1000
        lacks = await self._lacks() if self._lacks is not None else None
        state, now = self._state(), self._context.clock.now()
        self._record = replace(
            self._record,
            beat=self._record.beat + 1,
            beat_at=now,
            state=state,
            since_at=self._record.since_at if state == self._record.state else now,
            running=self._running(),
            handlers=self._context.targets.handlers(),
            lacks=lacks,
            declares=self._context.declares(),
            clock_offset_ms=round(offset_ms, 1),
            events=self._context.tally.most_frequent(),
        )
        await self._context.store.instances.beat(self._record)
        self._beaten_at = started_at
        if abs(offset_ms) > 1000:  # noqa: PLR2004  a second, in ms
            self._context.log.warning(
                "clock.offset", offset_ms=round(offset_ms), why="the database's clock counts"
            )

    def silence(self) -> None:
        """Beat no more: this instance is not what it was."""
        self._silenced = True

    async def run(self) -> None:
        """Beat for ever; a beat that fails is tried again soon."""
        interval = self._lost_after / BEATS_PER_LOSS
        while not self._silenced:
            try:
                async with asyncio.timeout(self._lost_after):
                    await self.beat()
            except TimeoutError:
                # By now the others may take this instance for lost; a call that never returns must be told.
                self._context.log.error("instance.beat_hangs", seconds=self._lost_after)  # noqa: TRY400  no news
            except CronexecError as error:
                self._context.log.warning("instance.beat_failed", error=str(error))
                await asyncio.sleep(min(interval, 1.0))
            else:
                await self._due.wait(interval)

    async def leave(self) -> None:
        """Take the record away: this instance has nothing running any more."""
        try:
            await self._context.store.instances.leave(self._context.executor.id)
        except CronexecError as error:
            self._context.log.warning("instance.leave_failed", error=str(error))
