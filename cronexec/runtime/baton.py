"""The baton keeper: holds one baton, renews it before the broker can take it away, and discards duplicates.

Brokers end a delivery that stays unacked too long (`consumer_timeout`, 30 minutes by default), and count
redeliveries towards a limit. A renewal avoids both: publish a fresh baton, wait until it is delivered to us
(single active consumer: nobody else can get it), then ack the old one. So at every moment at least one baton
exists. Whatever arrives while one is in hand replaces it: inserting a baton is safe at any time, and a
duplicate costs one ack.

RabbitMQ 3.10 tells nobody when a quorum queue is deleted and declared again: the holder goes on with a baton
that is in no queue, and nobody is there to take over. Its own lists show the consumers of before, so looking
does not help; a renewal does. Where the broker does not tell (`Link.tells_of_deletion`), the baton is renewed
every `UNTOLD_INTERVAL`. One that does not come to us ends the term.
"""

import asyncio
import json
import uuid
from datetime import timedelta

from cronexec.domain.run import Executor
from cronexec.errors import UnreachableError
from cronexec.log import Log
from cronexec.ports import BatonArrived, Link, Publisher
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.service import Backoff, Wake

CONFIRM_TIMEOUT = 5.0
DELIVERY_TIMEOUT = 5.0
UNTOLD_INTERVAL = 15.0  # seconds; a renewal costs a millisecond


def baton_body(executor: Executor, why: str) -> bytes:
    """Return the body of a baton: for people who look into the queue; nothing reads it to decide."""
    return json.dumps({"baton": "cronexec", "inserted_by": executor.name, "why": why}).encode()


class BatonKeeper:
    """Belongs to one term."""

    def __init__(
        self,
        first: BatonArrived,
        *,
        link: Link,
        publisher: Publisher,
        executor: Executor,
        guard: TermGuard,
        renew_interval: timedelta,
        log: Log,
    ) -> None:
        self._held = first
        self._link = link
        self._publisher = publisher
        self._executor = executor
        self._guard = guard
        interval = renew_interval.total_seconds()
        self._interval = interval if link.tells_of_deletion else min(interval, UNTOLD_INTERVAL)
        self._log = log
        self._expected: set[str] = set()
        self._arrived = Wake()
        self.duplicates = 0

    def arrived(self, baton: BatonArrived) -> None:
        """Keep the baton delivered last, and ack the one it replaces."""
        previous, self._held = self._held, baton
        self._link.ack_baton(previous.tag)
        if baton.message_id in self._expected:
            self._expected.discard(baton.message_id or "")
            self._arrived.set()
        else:
            self.duplicates += 1
            self._log.warning("baton.duplicate_discarded", duplicates=self.duplicates)

    async def run(self) -> None:
        """Renew at every interval.

        At once when this baton has been redelivered, which counts towards the broker's limit.
        """
        if not self._held.redelivered:
            await asyncio.sleep(self._interval)
        while self._guard.holds():
            await self._renew()
            await asyncio.sleep(self._interval)

    async def _renew(self) -> None:
        message_id = uuid.uuid4().hex
        backoff = Backoff(first=0.5, most=min(30.0, self._interval))
        while not await self._publish(message_id):
            self._log.warning(
                "baton.renewal_unconfirmed", why="the broker did not confirm: alarm, or blocked"
            )
            await asyncio.sleep(backoff.next())
            message_id = uuid.uuid4().hex
        if await self._delivered(message_id):
            self._log.debug("baton.renewed")
        else:
            self._guard.end("renewed_baton_not_delivered")

    async def _delivered(self, message_id: str) -> bool:
        """Wait until this baton is delivered to us; one before it, never confirmed, does not count."""
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT):
                while message_id in self._expected:
                    await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    async def _publish(self, message_id: str) -> bool:
        self._expected.add(message_id)
        try:
            body = baton_body(self._executor, "renewal")
            return await self._publisher.publish_baton(message_id, body, CONFIRM_TIMEOUT)
        except UnreachableError as error:
            self._log.warning("baton.renewal_failed", error=str(error))
            return False
