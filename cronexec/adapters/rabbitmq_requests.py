"""Requests: a command with a reply, many at once on one channel.

Replies come by RabbitMQ's direct reply-to: no queue is declared, and none is left when we go. When the
connection is lost in between, the reply is lost with it, so the same command is sent again: a command that is
known gets the reply that it got before.

The time to wait for an answer begins when the broker has confirmed the command; to get that far has a limit
of its own, so that a short wait is no reason not to send. A command that was handed to the broker and not
confirmed may have arrived: that is "not yet applied" as well, and never "not sent".
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from cronexec.adapters.amqp import AmqpChannel
from cronexec.adapters.amqp_message import Message
from cronexec.adapters.amqp_problems import AmqpError, ConnectionLostError, unreachable
from cronexec.adapters.rabbitmq_publisher import (
    CONFIRM_TIMEOUT,
    RabbitmqPublisher,
    command_properties,
    publish_error,
)
from cronexec.adapters.rabbitmq_reconnecting import LONGEST_DELAY, ReconnectingConnection
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.errors import NotYetAppliedError, UnreachableError

DIRECT_REPLY = "amq.rabbitmq.reply-to"
RETRY_AFTER = LONGEST_DELAY / 20

Reply = Mapping[str, Any]


class RabbitmqRequests:
    """Sends commands and matches replies by correlation id. `send_timeout`: at most so long for a confirm."""

    def __init__(
        self,
        connection: ReconnectingConnection,
        publisher: RabbitmqPublisher,
        topology: Topology,
        *,
        send_timeout: timedelta = CONFIRM_TIMEOUT,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._topology = topology
        self._send_timeout = send_timeout.total_seconds()
        self._answers: dict[str, asyncio.Future[Reply]] = {}

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Reply:
        """See `Broker.request`. `wait` is seconds from the broker's confirm.

        Raises:
            UnreachableError: the broker did not take the command: it is not in the queue.
        """
        attempt = _Attempt(body, command_id)
        limit = asyncio.timeout(max(wait, self._send_timeout))
        attempt.confirmed = lambda: limit.reschedule(asyncio.get_running_loop().time() + wait)
        try:
            async with limit:
                while True:
                    with contextlib.suppress(ConnectionLostError):
                        return await self._try(attempt)
                    attempt.losses += 1
                    await asyncio.sleep(RETRY_AFTER.total_seconds())
        except TimeoutError as error:
            if attempt.sent:
                raise NotYetAppliedError(command_id, wait, confirmed=attempt.queued) from error
            raise unreachable(
                f"the broker did not take command {command_id} within {max(wait, self._send_timeout):g} s",
                "It was not sent: send it again",
            ) from error
        except (AmqpError, UnreachableError) as error:
            if attempt.queued:
                raise NotYetAppliedError(command_id, wait) from error
            if isinstance(error, UnreachableError):
                raise
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
            attempt.sent = True
            await self._publisher.to_queue(channel, self._topology.commands, attempt.body, properties)
            attempt.note_confirm()
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
    """How far a request got over all its tries. `confirmed` is called at the first confirm."""

    def __init__(self, body: bytes, command_id: str) -> None:
        self.body = body
        self.command_id = command_id
        self.confirmed: Callable[[], None] = lambda: None
        self.sent = False
        self.queued = False
        self.losses = 0

    def note_confirm(self) -> None:
        if not self.queued:
            self.queued = True
            self.confirmed()


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
