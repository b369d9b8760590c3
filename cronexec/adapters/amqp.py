"""pika as awaitables: connections, channels, confirmed publishes. The only module that calls pika.

pika answers by callback and reports one loss in several ways: the connection's close callback, each
channel's, and replies that never come. Here a question has one future, and whatever ends a channel or its
connection fails all futures that hang on it. A publish is resolved by its delivery tag, so any number may be
in flight.

Errors: `ConnectionLostError` (nothing on it is worth anything any more) and `ChannelClosedError` (the broker
refused something; the connection lives). Failing to connect is an `UnreachableError` with a remedy
(`amqp_problems`).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from pika import BasicProperties, ConnectionParameters, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker

from cronexec.adapters.amqp_confirms import Confirms
from cronexec.adapters.amqp_frames import ForgivingConnection
from cronexec.adapters.amqp_logging import calm_pika
from cronexec.adapters.amqp_message import UNENCODABLE, Message, headers_size, message_from, server_version
from cronexec.adapters.amqp_problems import (
    NOT_FOUND,
    AmqpError,
    ChannelClosedError,
    ConnectionLostError,
    UnsendableError,
    explain_lost,
    explain_unopened,
)
from cronexec.adapters.amqp_stream import AsyncioStreams

OPEN_TIMEOUT = timedelta(seconds=10)  # of a name with several addresses; one alone gets less
CLOSE_TIMEOUT = timedelta(seconds=0.5)
FRAME_OVERHEAD = 64  # bytes of a header frame that are not its properties, and a reserve

Arguments = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    ready: int
    consumers: int


class AmqpConnection:
    """An open connection. `closed` has the reason as soon as it is gone, our own close included.

    `user` is who is logged in: the broker refuses a message that claims another as its `user_id`.
    """

    def __init__(self, inner: AsyncioConnection, streams: AsyncioStreams, user: str | None) -> None:
        self._inner = inner
        self._streams = streams
        self.user = user
        self.closed: asyncio.Future[ConnectionLostError] = asyncio.get_running_loop().create_future()
        self.blocked = False
        self._is_aborted = False
        self.version = server_version(inner.server_properties or {})
        inner.add_on_close_callback(self._lost)
        inner.add_on_connection_blocked_callback(lambda *_: self._set_blocked(blocked=True))
        inner.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(blocked=False))

    @classmethod
    async def open(cls, parameters: ConnectionParameters) -> "AmqpConnection":
        """Connect and log in; raises UnreachableError with a sentence and a remedy."""
        calm_pika()
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Exception | None] = loop.create_future()
        streams = AsyncioStreams()
        inner = ForgivingConnection(
            parameters,
            on_open_callback=lambda _: _settle(opened, None),
            on_open_error_callback=lambda _, error: _settle(opened, error),
            custom_ioloop=streams,
        )
        try:
            await asyncio.wait([opened], timeout=OPEN_TIMEOUT.total_seconds())
            error = opened.result() if opened.done() else TimeoutError()
        except BaseException:
            await _give_up(inner, streams, opened)
            raise
        if not opened.done():
            await _give_up(inner, streams, opened)
        if error is not None:
            raise explain_unopened(error, parameters) from error
        return cls(inner, streams, getattr(parameters.credentials, "username", None))

    @property
    def is_open(self) -> bool:
        return not self.closed.done() and not self._is_aborted and bool(self._inner.is_open)

    @property
    def frame_size(self) -> int:
        """The most bytes of a frame, as agreed with the broker."""
        return int(self._inner.params.frame_max)

    async def channel(self) -> "AmqpChannel":
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            inner = self._inner.channel(on_open_callback=lambda _: _settle(opened, None))
        except AMQPError as error:
            raise self.lost_error() from error
        channel = AmqpChannel(self, inner)
        try:
            await channel.answer(opened)
        except asyncio.CancelledError:
            channel.drop()
            raise
        return channel

    async def close(self, within: timedelta = CLOSE_TIMEOUT) -> None:
        """Close in good order in the time given, then without. Never raises."""
        if self._inner.is_open and not self._is_aborted:
            self._inner.close()
        await asyncio.wait([self.closed], timeout=within.total_seconds())
        self.abort()
        await asyncio.wait([self.closed], timeout=within.total_seconds())

    def abort(self) -> None:
        """Close the socket now, without a word."""
        self._is_aborted = True
        if not self.closed.done() and self._streams.stream:
            self._streams.stream.break_off()

    def sever(self) -> None:
        """Shut the socket down; from any thread."""
        if stream := self._streams.stream:
            stream.shut_down()

    def lost_error(self) -> ConnectionLostError:
        return (
            self.closed.result() if self.closed.done() else ConnectionLostError("the connection is closing")
        )

    def _lost(self, _: AsyncioConnection, error: Exception) -> None:
        _settle(self.closed, ConnectionLostError(explain_lost(error)))

    def _set_blocked(self, *, blocked: bool) -> None:
        self.blocked = blocked


class AmqpChannel:
    """An open channel. `closed` has the error that ended it. Delivery tags are good on this channel only."""

    def __init__(self, connection: AmqpConnection, inner: Any) -> None:
        self.connection = connection
        self._inner = inner
        self.closed: asyncio.Future[AmqpError] = asyncio.get_running_loop().create_future()
        self._pending: set[asyncio.Future[Any]] = set()
        self._confirms = Confirms()
        inner.add_on_close_callback(self._on_closed)

    @property
    def is_open(self) -> bool:
        return not self.closed.done() and bool(self._inner.is_open)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer on it."""
        return not self._pending

    async def declare(self, queue: str, *, arguments: Arguments, **flags: bool) -> Declared:
        """Declare a queue; `flags`: durable, auto_delete, exclusive.

        Raises ChannelClosedError 406 when it is there with other properties.
        """
        frame = await self._ask(self._inner.queue_declare, queue, arguments=dict(arguments), **flags)
        return Declared(ready=frame.method.message_count, consumers=frame.method.consumer_count)

    async def has_exchange(self, exchange: str) -> bool:
        """Return whether there is an exchange of that name; where there is none, the channel is closed."""
        try:
            await self._ask(self._inner.exchange_declare, exchange, passive=True)
        except ChannelClosedError as error:
            if error.code != NOT_FOUND:
                raise
            return False
        return True

    async def declare_fanout(self, exchange: str) -> None:
        """Declare a durable fanout exchange. Raises ChannelClosedError 406 when it is another kind."""
        await self._ask(self._inner.exchange_declare, exchange, exchange_type="fanout", durable=True)

    async def bind(self, queue: str, exchange: str) -> None:
        """Have the queue get what is published to the fanout exchange."""
        await self._ask(self._inner.queue_bind, queue, exchange)

    async def look_up(self, queue: str) -> Declared:
        """Return what a passive declare tells. Raises ChannelClosedError 404 when there is no such queue."""
        frame = await self._ask(self._inner.queue_declare, queue, passive=True)
        return Declared(ready=frame.method.message_count, consumers=frame.method.consumer_count)

    async def limit_unacked(self, count: int) -> None:
        """Set the prefetch of the consumers that follow."""
        await self._ask(self._inner.basic_qos, prefetch_count=count)

    async def consume(
        self,
        queue: str,
        on_message: Callable[[Message], None],
        *,
        on_cancel: Callable[[], None] | None = None,
        no_ack: bool = False,
    ) -> str:
        """Consume; `on_cancel` is called when the broker ends it. Returns the consumer tag."""
        tag = uuid4().hex

        def deliver(_: Any, method: Any, properties: BasicProperties, body: bytes) -> None:
            on_message(message_from(method, properties, body))

        def cancelled(frame: Any) -> None:  # pika tells of every consumer of the channel
            if on_cancel is not None and frame.method.consumer_tag == tag:
                on_cancel()

        self._inner.add_on_cancel_callback(cancelled)
        await self._ask(self._inner.basic_consume, queue, deliver, auto_ack=no_ack, consumer_tag=tag)
        return tag

    async def cancel(self, consumer_tag: str) -> None:
        await self._ask(self._inner.basic_cancel, consumer_tag)

    async def get(self, queue: str) -> Message | None:
        """Take one message, unacked, or None when there is none ready."""
        answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._send(
            self._inner.add_callback, lambda _: _settle(answer, None), [spec.Basic.GetEmpty], one_shot=True
        )
        self._send(self._inner.basic_get, queue, lambda _, *rest: _settle(answer, message_from(*rest)))
        message: Message | None = await self.answer(answer)
        return message

    def ack(self, tag: int, *, and_before: bool = False) -> None:
        """Acknowledge a delivery, with `and_before` every unacked one of this channel up to it."""
        self._send(self._inner.basic_ack, tag, multiple=and_before)

    def requeue_all(self) -> None:
        """Give everything unacked on this channel back to its queue."""
        self._send(self._inner.basic_nack, 0, multiple=True, requeue=True)

    async def confirm(self) -> None:
        """Turn on publisher confirms; before the first `publish`."""
        self._inner.add_on_return_callback(self._confirms.on_return)
        await self._ask(self._inner.confirm_delivery, self._confirms.on_confirm)

    def send(self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties) -> None:
        """Publish and forget: neither confirmed nor mandatory. For channels without confirms."""
        self._publish(exchange, routing_key, body, properties)

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties
    ) -> None:
        """Publish, mandatory, and wait for the broker's confirmation; any number may wait at once.

        Raises:
            ReturnedError: no queue takes it.
            NackedError: the broker refused it.
            UnsendableError: AMQP cannot express it; nothing was sent.
            ChannelClosedError, ConnectionLostError: it may or may not have arrived.
        """
        self._publish(exchange, routing_key, body, properties, mandatory=True)
        await self.answer(self._confirms.expect(properties.message_id))

    async def close(self) -> None:
        """Close in good order; what is unacked goes back. Never raises."""
        if self.is_open:
            self._inner.close()
            await asyncio.wait([self.closed], timeout=CLOSE_TIMEOUT.total_seconds())

    def drop(self) -> None:
        """Close it without waiting, also while it is being opened: a blocked broker gets to it later."""
        if not (self.closed.done() or self._inner.is_closing or self._inner.is_closed):
            self._inner.close()

    async def answer(self, future: "asyncio.Future[Any]") -> Any:
        """Wait for a future that fails with this channel."""
        self._pending.add(future)
        if self.closed.done():
            _fail(future, self.closed.result())
        try:
            return await future
        finally:
            self._pending.discard(future)

    async def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(method, *args, callback=partial(_settle, answer), **kwargs)
        return await self.answer(answer)

    def _send(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except UNENCODABLE:
            raise
        except AMQPError as error:
            raise self._why_closed() from error

    def _publish(self, *message: Any, mandatory: bool = False) -> None:
        """Send it. Raises UnsendableError, also for headers for which the broker would end the connection."""
        *_, properties = message
        try:
            size, most = headers_size(properties), self.connection.frame_size - FRAME_OVERHEAD
            if size > most:
                raise UnsendableError(f"its headers take {size} bytes, and {most} is the most")
            self._send(self._inner.basic_publish, *message, mandatory=mandatory)
        except UNENCODABLE as error:
            raise UnsendableError(str(error) or type(error).__name__) from error

    def _why_closed(self) -> AmqpError:
        return self.closed.result() if self.closed.done() else self.connection.lost_error()

    def _on_closed(self, _: Any, reason: Exception) -> None:
        error: AmqpError
        if isinstance(reason, ChannelClosedByBroker):
            error = ChannelClosedError(reason.reply_code, reason.reply_text)
        else:
            error = ConnectionLostError(explain_lost(reason))
        _settle(self.closed, error)
        for future in self._pending:
            _fail(future, error)
        self._confirms.clear()


def _settle(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


async def _give_up(
    inner: AsyncioConnection, streams: AsyncioStreams, opened: "asyncio.Future[Exception | None]"
) -> None:
    """Stop connecting, and wait until pika has: no socket and no task may stay behind."""
    if not inner.is_closed and not inner.is_closing:
        inner.close()
    await asyncio.wait([opened], timeout=CLOSE_TIMEOUT.total_seconds())
    if streams.stream:
        streams.stream.break_off()
    await asyncio.sleep(0)  # the turn of the loop in which asyncio closes what was broken off
