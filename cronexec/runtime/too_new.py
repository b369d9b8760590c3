"""Commands in hand that are too new for this holder: they wait, unacked, for the end of its term.

The broker takes back what stays unacked for too long (`consumer_timeout`), with all that its connection has,
the baton included. So they are renewed as the baton is: a copy of each is published, in their order, and once
all are confirmed the former ones are acked together. Whoever takes over in between finds each of them twice,
the former ones in their places, and a command applies once for each id.

That keeps their order only where all of them are in hand, and none waits in the queue behind. With more than
the link hands out they are left as they are: the broker ends the term some day, and they keep their order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cronexec.ports import MOST_KEPT_IN_HAND, CommandArrived

Keep = Callable[[CommandArrived], Awaitable[None]]
Ack = Callable[[Sequence[int]], None]
Done = Callable[["asyncio.Task[None]"], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TooNew:
    """`id`: the command's, or what stands for it."""

    id: str
    schema: int
    arrived: CommandArrived


class TooNewCommands:
    """Those of one term. `keep` publishes a copy and returns when it is safe; `done` is told of a crash."""

    def __init__(self, *, keep: Keep, ack: Ack, renew_interval: timedelta, done: Done) -> None:
        self._keep = keep
        self._ack = ack
        self._done = done
        self._renewing: asyncio.Task[None] | None = None
        self._interval = renew_interval.total_seconds()
        self._in_hand: dict[int, TooNew] = {}
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[TooNew]:
        return iter(self._in_hand.values())

    def add(self, one: TooNew) -> bool:
        """Take one in; returns whether it is new, and no copy of what was in hand before.

        With the first one begins the renewing, which `close` ends.
        """
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_for_ever())
            self._renewing.add_done_callback(self._done)
        is_new = one.id not in self._seen
        self._seen.add(one.id)
        self._in_hand[one.arrived.tag] = one
        return is_new

    def take(self, command_id: str) -> list[CommandArrived]:
        """Take out what has this id: its copy as well, while it is being renewed."""
        taken = [each.arrived for each in self if each.id == command_id]
        for arrived in taken:
            del self._in_hand[arrived.tag]
        return taken

    def close(self) -> None:
        """Renew no more: the term is over."""
        if self._renewing is not None:
            self._renewing.cancel()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if 0 < len(self._in_hand) < MOST_KEPT_IN_HAND:
                await self._renew()

    async def _renew(self) -> None:
        """Publish copies of all before any is acked: else one would come to stand behind its successor."""
        former = list(self)
        for each in former:
            await self._keep(each.arrived)
        still = [each.arrived.tag for each in former if self._in_hand.pop(each.arrived.tag, None)]
        self._ack(still)
