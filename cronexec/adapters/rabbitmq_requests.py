"""Requests: a command with a reply, many at once on one channel.

Replies come by RabbitMQ's direct reply-to: no queue is declared, and none is left when we go. When the
connection is lost in between, the reply is lost with it, so the same command is sent again: a command that is
known gets the reply that it got before.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from cronexec.adapters.amqp import AmqpChannel, Message
from cronexec.adapters.amqp_problems import AmqpError, ConnectionLostError, unreachable
from cronexec.adapters.rabbitmq_publisher import RabbitmqPublisher, command_properties, publish_error
from cronexec.adapters.rabbitmq_reconnecting import LONGEST_DELAY, ReconnectingConnection
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.errors import NotYetAppliedError, UnreachableError

DIRECT_REPLY = "amq.rabbitmq.reply-to"
RETRY_AFTER = LONGEST_DELAY / 20

Reply = Mapping[str, Any]


class RabbitmqRequests:
    """Sends commands and matches replies by correlation id."""

    def __init__(
        self, connection: ReconnectingConnection, publisher: RabbitmqPublisher, topology: Topology
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._topology = topology
        self._answers: dict[str, asyncio.Future[Reply]] = {}

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Reply:
        """See `Broker.request`. `wait` is seconds.

        Raises:
            UnreachableError: the broker did not take the command (when it may have been lost on the way: send
                it again, same id).
        """
        attempt = _Attempt(body, command_id)
        try:
            async with asyncio.timeout(wait):
                while True:
                    with contextlib.suppress(ConnectionLostError):
                        return await self._try(attempt)
                    attempt.losses += 1
                    await asyncio.sleep(RETRY_AFTER.total_seconds())
        except TimeoutError as error:
            if attempt.queued:
                raise NotYetAppliedError(command_id, wait) from error
            raise unreachable(
                f"the broker did not take the command {command_id} within {wait:g} s",
                "Send it again with the same id: it is applied once",
            ) from error
        except AmqpError as error:
            raise publish_error(error, self._topology.commands) from error

    async def _try(self, attempt: "_Attempt") -> Reply:
        try:
            channel = await self._connection.channel("requests", self._prepare)
        except UnreachableError as error:
            if not attempt.losses:
                raise
            raise ConnectionLostError(str(error)) from error
        correlation_id = uuid4().hex
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._answers[correlation_id] = answer
        try:
            properties = command_properties(attempt.command_id, DIRECT_REPLY)
            properties.user_id = channel.connection.user  # the broker verifies it
            properties.correlation_id = correlation_id
            await self._publisher.to_queue(channel, self._topology.commands, attempt.body, properties)
            attempt.queued = True
            return await channel.answer(answer)  # type: ignore[no-any-return]
        finally:
            self._answers.pop(correlation_id, None)

    async def _prepare(self, channel: AmqpChannel) -> None:
        await channel.confirm()
        await channel.consume(DIRECT_REPLY, self._replied, no_ack=True)

    def _replied(self, message: Message) -> None:
        answer = self._answers.get(message.correlation_id or "")
        if answer is not None and not answer.done():
            answer.set_result(_read(message.body))


class _Attempt:
    """How far a request got over all its tries."""

    def __init__(self, body: bytes, command_id: str) -> None:
        self.body = body
        self.command_id = command_id
        self.queued = False
        self.losses = 0


def _read(body: bytes) -> Reply:
    try:
        reply = json.loads(body)
    except ValueError:
        reply = None
    if isinstance(reply, dict):
        return reply
    return {
        "ok": False,
        "error": {"code": "unreadable_reply", "message": f"the reply is not a JSON object: {body[:200]!r}"},
    }
