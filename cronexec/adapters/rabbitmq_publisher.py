"""The publisher: everything that this instance sends, on a connection that does not consume the baton.

All messages are mandatory, persistent and confirmed, and any number may be in flight. Replies are the
exception: the requester may be gone, which is no error, and its command is recorded anyway, so they are sent
and forgotten.

A queue of ours that is missing when a message is published (a sender that comes before the first instance, a
queue that was deleted) is declared, and the message is published again.

Under an alarm the broker stops reading from a connection that has published: then not even a channel can be
opened, nor closed. All that waits for the broker has a timeout for that reason.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from pika import BasicProperties

from cronexec.adapters.amqp import AmqpChannel
from cronexec.adapters.amqp_problems import (
    AmqpError,
    ChannelClosedError,
    ConnectionLostError,
    NackedError,
    ReturnedError,
    UnsendableError,
    connection_lost,
    explain_refused,
    unreachable,
)
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.adapters.rejected import LEFT_OUT, USER, rejected_headers
from cronexec.errors import RefusedError, UnreachableError
from cronexec.ports import CommandArrived

CONFIRM_TIMEOUT = timedelta(seconds=10)
NACK_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds
JSON = "application/json"
PERSISTENT = 2
TRANSIENT = 1


class RabbitmqPublisher:
    """A `Publisher`. `now`: the time that rejected messages are stamped with."""

    def __init__(
        self, connection: ReconnectingConnection, topology: Topology, now: Callable[[], datetime]
    ) -> None:
        self._now = now
        self._connection = connection
        self._topology = topology
        self._declaring = asyncio.Lock()
        self._declarations = 0

    async def publish_baton(self, message_id: str, body: bytes, timeout: float) -> bool:
        """See the port. A nack, an alarm and a lost connection are False: it may have arrived."""
        if self._connection.is_blocked:
            return False
        properties = BasicProperties(content_type=JSON, delivery_mode=PERSISTENT, message_id=message_id)
        try:
            async with asyncio.timeout(timeout):
                channel = await self._connection.channel("baton")
                if channel.connection.blocked:
                    return False
                await self.to_queue(channel, self._topology.baton, body, properties)
        except (TimeoutError, AmqpError):
            return False
        return True

    async def publish_command(
        self, body: bytes, *, command_id: str, reply_to: str | None, expires: float | None = None
    ) -> None:
        """See the port. `expires` (seconds): what nobody took by then goes to the rejected queue."""
        properties = command_properties(command_id, reply_to, expires)
        await self._deliver("commands", self._topology.commands, body, properties)

    async def reply(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        properties = BasicProperties(
            content_type=JSON, delivery_mode=TRANSIENT, correlation_id=correlation_id
        )
        try:
            channel = self._connection.open_channel("replies")
            if channel is None:
                async with asyncio.timeout(CONFIRM_TIMEOUT.total_seconds()):
                    channel = await self._connection.channel("replies", _as_it_is)
            channel.send("", reply_to, body, properties)
        except TimeoutError as error:
            raise publish_error(error, reply_to) from error
        except AmqpError as error:
            raise connection_lost(error) from error

    async def reject(self, command: CommandArrived, *, code: str, message: str, field: str | None) -> None:
        headers = rejected_headers(command, code=code, message=message, field=field, at=self._now())
        properties = BasicProperties(
            content_type=JSON,
            delivery_mode=PERSISTENT,
            message_id=command.message_id or uuid4().hex,
            headers=headers,
        )
        await self._pass_on(self._topology.rejected, command, properties)

    async def keep(self, command: CommandArrived) -> None:
        """See the port. Sent by this instance's user, which vouches for the sender's in the headers."""
        user = {} if command.user is None else {USER: command.user}
        properties = BasicProperties(
            content_type=JSON,
            delivery_mode=PERSISTENT,
            message_id=command.message_id or uuid4().hex,
            correlation_id=command.correlation_id,
            reply_to=command.reply_to,
            headers=dict(command.headers) | user,
        )
        await self._pass_on(self._topology.newer, command, properties)

    async def _pass_on(self, queue: str, command: CommandArrived, properties: BasicProperties) -> None:
        """Publish a message of others; where its headers cannot be sent with ours added, without them.

        A command that could not even be rejected would come back for ever.
        """
        try:
            await self._deliver("commands", queue, command.body, properties)
        except RefusedError as error:
            if not isinstance(error.__cause__, UnsendableError):
                raise
            own = properties.headers.keys() - command.headers.keys()
            properties.headers = {name: properties.headers[name] for name in own} | {LEFT_OUT: str(error)}
            await self._deliver("commands", queue, command.body, properties)

    async def publish_control(self, body: bytes) -> None:
        """See the port. Without the exchange, too, nobody listens.

        Who stops listening at this moment has a queue that refuses the message (nack, measured on 4.3).
        """
        for pause in NACK_PAUSES:
            try:
                return await self._say(body)
            except UnreachableError as error:
                if not isinstance(error.__cause__, NackedError):
                    raise
            await asyncio.sleep(pause)
        return await self._say(body)

    async def _say(self, body: bytes) -> None:
        await self.publish(self._topology.control, "", body, {}, content_type=JSON)

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, headers: Mapping[str, Any], *, content_type: str
    ) -> None:
        """See the port. Raises UnreachableError when it is not confirmed: it may or may not have arrived."""
        properties = BasicProperties(
            content_type=content_type, delivery_mode=PERSISTENT, message_id=uuid4().hex, headers=dict(headers)
        )
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT.total_seconds()):
                channel = await self._connection.channel(f"exchange {exchange}")
                await channel.publish(exchange, routing_key, body, properties)
        except (TimeoutError, AmqpError) as error:
            raise publish_error(error, exchange) from error

    async def close(self) -> None:
        await self._connection.close()

    async def to_queue(
        self, channel: AmqpChannel, queue: str, body: bytes, properties: BasicProperties
    ) -> None:
        """Publish to a queue of the namespace, declared if missing. Raises AmqpError and UnreachableError.

        A queue that somebody declares at this moment is there before its leader is, and messages to it are
        refused (nack, measured on 3.10): so a refused message is published again a few times.
        """
        for pause in NACK_PAUSES:
            declarations = self._declarations
            with contextlib.suppress(NackedError):
                try:
                    return await channel.publish("", queue, body, properties)
                except ReturnedError:
                    await self._declare(channel, since=declarations)
                    return await channel.publish("", queue, body, properties)
            await asyncio.sleep(pause)
        return await channel.publish("", queue, body, properties)

    async def _declare(self, channel: AmqpChannel, since: int) -> None:
        """Declare the queues, once for all publishes that found one missing at the same time."""
        async with self._declaring:
            if self._declarations == since:
                await self._topology.declare_all(channel.connection)
                self._declarations += 1

    async def _deliver(self, purpose: str, queue: str, body: bytes, properties: BasicProperties) -> None:
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT.total_seconds()):
                channel = await self._connection.channel(purpose)
                properties.user_id = channel.connection.user
                await self.to_queue(channel, queue, body, properties)
        except (TimeoutError, AmqpError) as error:
            raise publish_error(error, queue) from error


def command_properties(
    command_id: str, reply_to: str | None, expires: float | None = None
) -> BasicProperties:
    """Return the properties of a command; `expires` is seconds."""
    return BasicProperties(
        content_type=JSON,
        delivery_mode=PERSISTENT,
        message_id=command_id,
        correlation_id=command_id,
        reply_to=reply_to,
        expiration=None if expires is None else str(max(0, round(expires * 1000))),
    )


def publish_error(error: Exception, what: str) -> RefusedError | UnreachableError:
    """Say what became of a publish that was not confirmed."""
    match error:
        case ReturnedError() | UnsendableError() | ChannelClosedError(code=404):
            return _refused(error)
        case ChannelClosedError():
            return explain_refused(error, what)
        case NackedError():
            return unreachable(
                "the broker refused the message (nack)",
                "The queue may be full or without a leader; see the broker's log",
            )
        case TimeoutError():
            return unreachable(
                f"the broker did not confirm a message within {CONFIRM_TIMEOUT.total_seconds():g} s",
                "It may be under a memory or disk alarm: rabbitmq-diagnostics alarms tells",
            )
        case ConnectionLostError():
            return connection_lost(error)
        case _:
            raise error


def _refused(error: ReturnedError | UnsendableError | ChannelClosedError) -> RefusedError:
    match error:
        case ReturnedError():
            return RefusedError("unroutable", f"no queue takes the message: {error}")
        case UnsendableError():
            return RefusedError("unsendable", f"AMQP cannot carry the message: {error}")
        case ChannelClosedError():
            return RefusedError("unroutable", f"the broker does not know it: {error.text}")


async def _as_it_is(_: AmqpChannel) -> None:
    """No confirms on this channel."""
