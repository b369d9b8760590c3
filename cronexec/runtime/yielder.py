"""The yielder: a holder that cannot run everything hands the baton to who stands by and can run more.

```
 holds, lacks something ──somebody lacks less──▶ hands over ──▶ stays away until somebody holds, 5 s at most
      ▲                                                                      │
      └──────────────── stands by, behind all the others ◀───────────────────┘
```

The broker decides who is next, and it need not be the one that is meant: then that one yields in turn, at
once, and so on; who has yielded stands at the end of the line. It ends, because "lacks less" means a part of
what I lack and nothing else: no two instances ever yield to each other, and of those that are incomparable
none does. Nor can nobody hold: the baton is in its queue, and who stayed away consumes again, whoever came.

To count what is lacking, or the jobs that need it, would compare any two and would end as well, and is not
done: it takes the baton from jobs that run and gives it to others that do not, because those are more. So an
instance of some other application, started here by mistake, would stop all the jobs of this one. Part of
what I lack means that no job loses by a handover.

What others say is as old as their last heartbeat. So only what has been lacking for some beats counts, only
who has just been heard of, and each instance yields at most once in `instance_lost_after`; where that was in
vain (it got the baton back, and nobody had it in between), ever more seldom.
"""

import asyncio
from collections.abc import Sequence

from cronexec.ports import InstanceRecord
from cronexec.runtime.abilities import Abilities
from cronexec.runtime.context import Context
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.heartbeats import Heartbeats

REASON = "yielded"
LOOK_INTERVAL = 1.0
SETTLED_SHARE = 0.2  # of `instance_lost_after`: more than two beats
HEARD_SHARE = 0.25
MOST_IN_VAIN = 6  # doublings


class Yielder:
    """Belongs to the instance; `watch` is a part of each term."""

    def __init__(self, context: Context, abilities: Abilities, heartbeats: Heartbeats) -> None:
        self._context = context
        self._abilities = abilities
        self._heartbeats = heartbeats
        self._lost_after = context.settings.instance_lost_after.total_seconds()
        self._yields_from: float | None = None
        self._in_vain = 0

    async def watch(self, guard: TermGuard) -> None:
        """End the term as soon as somebody should hold in this one's place."""
        while True:
            lacking = self._abilities.lacking  # as of the last heartbeat
            if lacking and self._may_yield() and (better := self._better()):
                self._context.log.warning(
                    "baton.yielded", lacking=sorted(lacking)[:10], to=[each.executor.name for each in better]
                )
                guard.end(REASON)
                return
            await asyncio.sleep(LOOK_INTERVAL)

    def came_to(self, somebody: bool) -> None:
        """Take note of how a yield ended: with somebody else holding, or in vain."""
        self._in_vain = 0 if somebody else min(self._in_vain + 1, MOST_IN_VAIN)
        self._yields_from = self._context.clock.monotonic() + self._lost_after * 2**self._in_vain

    def _may_yield(self) -> bool:
        return self._yields_from is None or self._context.clock.monotonic() >= self._yields_from

    def _better(self) -> Sequence[InstanceRecord]:
        """Return who stands by, was just heard of, and lacks a part of what is lacking here."""
        now = self._context.clock.monotonic()
        lacking = self._abilities.lacking
        settled = {need for need, since in lacking.items() if now - since >= self._lost_after * SETTLED_SHARE}
        heard = self._heartbeats.heard_within(self._lost_after * HEARD_SHARE, now)
        return [
            each
            for each in heard
            if each.state == "standby"
            and each.executor.id != self._context.executor.id
            and each.lacks is not None
            and lacking.keys() > set(each.lacks)
            and settled - set(each.lacks)
        ]
