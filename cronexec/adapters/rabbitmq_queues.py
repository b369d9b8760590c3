"""What is in the queues of a namespace, for those who look: on a connection that never publishes.

Under an alarm the broker stops reading from connections that have published, and from no other. So a look is
answered even then, which is when people look. Each look is bounded all the same: a broker that is cut off
answers nobody, and a connection on which it did not answer is not used again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial

from cronexec.adapters.amqp import AmqpChannel, Declared
from cronexec.adapters.amqp_message import Message
from cronexec.adapters.amqp_problems import (
    NOT_FOUND,
    AmqpError,
    ChannelClosedError,
    connection_lost,
    explain_refused,
    unreachable,
)
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.adapters.rejected import rejected_command
from cronexec.errors import UnreachableError
from cronexec.ports import QueueDepth, RejectedCommand, TakenReject

LOOK_TIMEOUT = timedelta(seconds=5)
LOOK_AT_MOST = 500
RETURN_TIMEOUT = timedelta(seconds=1)


class RabbitmqQueues:
    """Looks at queues, and takes what it is asked to take. `connection` never publishes."""

    def __init__(self, connection: ReconnectingConnection, topology: Topology) -> None:
        self._connection = connection
        self._topology = topology

    async def baton_depth(self) -> QueueDepth:
        """See `Broker.baton_depth`."""
        async with self._bounded(self._topology.baton):
            depth = await self._look_up(self._topology.baton)
        return QueueDepth(ready=depth.ready, consumers=depth.consumers)

    async def rejected(self, limit: int) -> list[RejectedCommand]:
        """Look at the rejected queue: take without acknowledging, then close the channel, which returns all.

        A quorum queue takes back at its end (measured on 3.10, by nack and by close alike), so a look takes
        all there is, in order to leave the order as it was. Beyond `LOOK_AT_MOST` messages the queue is
        turned by as many with each look; nothing is lost.
        """
        queue = self._topology.rejected
        async with self._bounded(queue):
            ready = (await self._look_up(queue)).ready
            if not ready:
                return []
            async with self._own_channel(queue) as channel:
                taken = [message async for message in _take(channel, queue, max(limit, LOOK_AT_MOST))]
            await self._until_returned(queue, ready)
        return [rejected_command(each.body, each.message_id, each.headers) for each in taken[:limit]]

    @contextlib.asynccontextmanager
    async def take_rejected(self, most: int) -> AsyncIterator[Sequence[TakenReject]]:
        """See `Broker.take_rejected`. The taking is bounded in time, and not what is done with them."""
        queue = self._topology.rejected
        async with self._bounded(queue):
            ready = (await self._look_up(queue)).ready
        if not ready:
            yield ()
            return
        async with self._own_channel(queue) as channel:
            async with self._bounded(queue):
                taken = [message async for message in _take(channel, queue, min(ready, most))]
            yield [_in_hand(channel, message) for message in taken]

    async def close(self) -> None:
        await self._connection.close()

    @contextlib.asynccontextmanager
    async def _bounded(self, queue: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT.total_seconds()):
                yield
        except TimeoutError as error:
            self._connection.drop()
            raise unreachable(
                f"the broker did not say what is in {queue} within {LOOK_TIMEOUT.total_seconds():g} s",
                "It may be cut off, overloaded, or its queue without a leader; see the broker's log",
            ) from error

    async def _look_up(self, queue: str) -> Declared:
        """Return what there is of a queue; one that does not exist is empty and unused."""
        try:
            async with self._own_channel(queue) as channel:
                return await channel.look_up(queue)
        except UnreachableError as error:
            if isinstance(error.__cause__, ChannelClosedError) and error.__cause__.code == NOT_FOUND:
                return Declared(ready=0, consumers=0)
            raise

    async def _until_returned(self, queue: str, ready: int) -> None:
        """Wait, at most a second, until what was taken is back: a quorum queue has it after the close-ok."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETURN_TIMEOUT.total_seconds()):
                while (await self._look_up(queue)).ready < ready:  # noqa: ASYNC110  the broker tells nobody
                    await asyncio.sleep(RETURN_TIMEOUT.total_seconds() / 100)

    @contextlib.asynccontextmanager
    async def _own_channel(self, queue: str) -> AsyncIterator[AmqpChannel]:
        """Open a channel for one purpose, and translate what ends it."""
        try:
            channel = await (await self._connection.connection()).channel()
            try:
                yield channel
            finally:
                await channel.close()
        except ChannelClosedError as error:
            raise explain_refused(error, queue) from error
        except AmqpError as error:
            raise connection_lost(error) from error


def _in_hand(channel: AmqpChannel, message: Message) -> TakenReject:
    command = rejected_command(message.body, message.message_id, message.headers)
    return TakenReject(command=command, remove=partial(channel.ack, message.tag))


async def _take(channel: AmqpChannel, queue: str, limit: int) -> AsyncIterator[Message]:
    for _ in range(limit):
        if (message := await channel.get(queue)) is None:
            return
        yield message
