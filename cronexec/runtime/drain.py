"""Draining: an instance takes nothing new, finishes what it runs, and lives on until somebody stops it.

```
 competes ──begin──▶ hands over, finishes (`draining`) ──nothing left──▶ `drained` ──stop──▶ gone
    ▲                                │                                      │
    └──────────────end───────────────┴──────────────────────────────────────┘
```

Like a stop, without the grace and without the end: what runs has all the time it needs. The state is in the
heartbeat, at once when it changes, for whoever waits for it. It belongs to the process and dies with it: what
is started in its place takes part again.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cronexec.log import Log
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.heart import Heart
from cronexec.runtime.recorder import Recorder
from cronexec.runtime.service import Service

REASON = "draining"
LOOK_INTERVAL = 60.0
PAUSE = 0.05


class Drain:
    """`is_on`: nothing new is taken; `is_done`: and nothing is left.

    `withdraw`: hands over and competes no more; `compete`: begins again.
    """

    def __init__(
        self,
        *,
        withdraw: Callable[[str], Awaitable[None]],
        compete: Callable[[], None],
        dispatcher: Dispatcher,
        recorder: Recorder,
        heart: Heart,
        log: Log,
    ) -> None:
        self._withdraw = withdraw
        self._compete = compete
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._heart = heart
        self._log = log
        self._finishing: Service | None = None
        self.is_on = False
        self.is_done = False

    @property
    def state(self) -> str:
        """How the heartbeat calls it, while it is on."""
        return "drained" if self.is_done else REASON

    async def begin(self, by: str | None) -> None:
        """Take nothing new; returns once the baton is handed over. Told again, it only beats again."""
        if not self.is_on:
            self.is_on = True
            self._log.info("instance.draining", by=by, running=len(self._dispatcher.running))
            self._heart.beat_soon()
            await self._withdraw(REASON)
            self._finishing = Service("drain", self._finish, self._log)
            self._finishing.start()
        self._heart.beat_soon()

    async def end(self, by: str | None) -> None:
        """Take part again."""
        if self.is_on:
            await self.stop()
            self.is_on = self.is_done = False
            self._log.info("instance.undrained", by=by)
            self._compete()
        self._heart.beat_soon()

    async def stop(self) -> None:
        """Watch no more for the end of what runs."""
        if self._finishing is not None:
            await self._finishing.stop()

    async def _finish(self) -> None:
        while not self._is_empty():
            await self._dispatcher.drain(LOOK_INTERVAL)
            await self._recorder.flush(LOOK_INTERVAL)
            await asyncio.sleep(PAUSE)
        self.is_done = True
        self._log.info("instance.drained")
        self._heart.beat_soon()

    def _is_empty(self) -> bool:
        return self._dispatcher.is_empty and not self._recorder.unrecorded()
