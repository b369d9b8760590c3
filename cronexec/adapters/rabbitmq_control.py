"""What is said to all instances: a fanout exchange, and for each who listens a queue of its own.

The queue is exclusive and goes with its connection, which is the one that only looks: not the link, which an
instance that is drained has given up, and not the publisher's, which the broker stops reading under an alarm.
Its name begins with the namespace, so that the permissions of the other queues cover it, and is new each
time: the broker may not have noticed yet that the last connection broke.
"""

import asyncio
import contextlib
from uuid import uuid4

from cronexec.adapters.amqp import AmqpChannel
from cronexec.adapters.amqp_message import Message
from cronexec.adapters.amqp_problems import (
    AmqpError,
    ChannelClosedError,
    ConnectionLostError,
    connection_lost,
    explain_refused,
)
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_topology import Topology

ARGUMENTS = {"x-queue-type": "classic"}  # the only kind that is exclusive, whatever the vhost's default


class RabbitmqControl:
    """A `Control` on a channel of its own."""

    def __init__(self, channel: AmqpChannel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()  # None, at the end: lost
        self._lost: AmqpError | None = None
        channel.closed.add_done_callback(lambda closed: self._lose(closed.result()))

    @classmethod
    async def open(cls, connection: ReconnectingConnection, topology: Topology) -> "RabbitmqControl":
        """Declare exchange and queue, and listen. Raises UnreachableError."""
        try:
            control = cls(await (await connection.connection()).channel())
        except AmqpError as error:
            raise connection_lost(error) from error
        try:
            await control._listen(topology.control)
        except ChannelClosedError as error:
            raise explain_refused(error, f"the exchange {topology.control} and a queue on it") from error
        except AmqpError as error:
            raise connection_lost(error) from error
        except BaseException:
            control._channel.drop()
            raise
        return control

    async def _listen(self, exchange: str) -> None:
        queue = f"{exchange}.{uuid4().hex}"
        await self._channel.declare(
            queue, arguments=ARGUMENTS, durable=False, auto_delete=True, exclusive=True
        )
        await self._channel.declare_fanout(exchange)
        await self._channel.bind(queue, exchange)
        await self._channel.consume(queue, self._take, on_cancel=self._cancelled, no_ack=True)

    async def next(self) -> bytes:
        body = await self._arrived.get()
        if body is None:
            self._arrived.put_nowait(None)
            raise connection_lost(self._lost or ConnectionLostError("the connection ended"))
        return body

    async def close(self) -> None:
        with contextlib.suppress(AmqpError):
            await self._channel.close()

    def _take(self, message: Message) -> None:
        self._arrived.put_nowait(message.body)

    def _cancelled(self) -> None:
        self._lose(ChannelClosedError(0, "the broker cancelled the consumer (queue deleted or moved)"))
        self._channel.drop()

    def _lose(self, error: AmqpError) -> None:
        if self._lost is None:
            self._lost = error
            self._arrived.put_nowait(None)
