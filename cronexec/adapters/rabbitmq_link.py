"""The link: the connection on which this instance competes for the baton and takes commands.

It only consumes. A connection that publishes is blocked by the broker under a memory or disk alarm, and then
even its close is read seconds late; one that only consumes hands the baton over at once.

Whatever goes wrong here ends in the same way: one `LinkLost`, and the socket is closed without a word. That
is the only answer that is right in every case: a cancelled consumer of RabbitMQ 4.3 stays registered until
its connection goes, a closed channel has already given its messages to somebody else, and a connection that
one doubts must not hold a baton.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import takewhile

from cronexec.adapters.amqp import AmqpChannel, AmqpConnection
from cronexec.adapters.amqp_message import Message
from cronexec.adapters.amqp_problems import AmqpError
from cronexec.adapters.link_events import LinkEvents
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.adapters.rejected import USER
from cronexec.ports import MOST_KEPT_IN_HAND, BatonArrived, CommandArrived, LinkEvent

BATON_PREFETCH = 8
COMMAND_PREFETCH = 512  # twice what one write takes: while it is under way, the next ones arrive
TELLS_SINCE = (4, 0)  # that a queue was deleted, though it is declared again at once
RELEASE_TIMEOUT = timedelta(seconds=1)


class RabbitmqLink:
    """A `Link` on a connection of its own. `open` consumes the baton queue, which must have been declared."""

    def __init__(
        self, connection: AmqpConnection, baton: AmqpChannel, commands: AmqpChannel, topology: Topology
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._events = LinkEvents()
        self._baton = baton
        self._commands = commands
        self._consumers: list[str] = []
        self._taken: set[str] = set()
        self._unacked = Unacked()
        for ended in (connection.closed, baton.closed, commands.closed):
            ended.add_done_callback(lambda future: self._lose(str(future.result())))

    @classmethod
    async def open(cls, connection: AmqpConnection, topology: Topology) -> "RabbitmqLink":
        link = cls(connection, await connection.channel(), await connection.channel(), topology)
        await link._consume(link._baton, topology.baton, BATON_PREFETCH, link._baton_arrived)
        return link

    @property
    def tells_of_deletion(self) -> bool:
        return self._connection.version >= TELLS_SINCE

    @property
    def is_lost(self) -> bool:
        return self._events.lost is not None

    async def events(self) -> LinkEvent:
        return await self._events.next()

    async def take_kept(self) -> int:
        with contextlib.suppress(AmqpError):  # the loss is an event already
            waiting = await self._commands.look_up(self._topology.newer)
            await self._take(self._topology.newer, MOST_KEPT_IN_HAND, self._kept_arrived)
            return waiting.ready
        return 0

    async def take_commands(self) -> None:
        with contextlib.suppress(AmqpError):  # the loss is an event already
            await self._take(self._topology.commands, COMMAND_PREFETCH, self._command_arrived)

    async def _take(self, queue: str, prefetch: int, arrived: Callable[[Message], None]) -> None:
        if queue not in self._taken and not self._events.lost:
            self._taken.add(queue)
            await self._consume(self._commands, queue, prefetch, arrived)

    def ack_baton(self, tag: int) -> None:
        self._ack(self._baton, tag)

    def ack_commands(self, tags: Sequence[int]) -> None:
        """See the port. The commands of one write take one frame; each alone costs the broker a log entry."""
        before, others = self._unacked.take(tags)
        if before is not None:
            self._ack(self._commands, before, and_before=True)
        for tag in others:
            self._ack(self._commands, tag)

    async def release(self) -> None:
        """Give everything back: cancel, then nack (which would return to ourselves before), then close.

        Takes at most a second: a broker that does not answer must not hold up a shutdown, and closing
        requeues as well.
        """
        if self._events.lose("released"):
            with contextlib.suppress(AmqpError, TimeoutError):
                async with asyncio.timeout(RELEASE_TIMEOUT.total_seconds() / 2):
                    await self._baton.cancel(self._consumers[0])
                    self._baton.requeue_all()
        await self._close()

    async def close(self) -> None:
        self._events.lose("closed")
        await self._close()

    def sever(self) -> None:
        self._connection.sever()

    async def _consume(
        self, channel: AmqpChannel, queue: str, prefetch: int, arrived: Callable[[Message], None]
    ) -> None:
        await channel.limit_unacked(prefetch)
        tag = await channel.consume(
            queue,
            arrived,
            on_cancel=lambda: self._lose(
                f"the broker cancelled the consumer of {queue} (deleted, moved or timed out)"
            ),
        )
        self._consumers.append(tag)

    async def _close(self) -> None:
        """Close; where commands were taken, by the socket alone.

        Commands must come back in their order, and only the end of the connection does that: nacked messages
        go to the end of a quorum queue, and pika cancels consumers before it closes, upon which the next
        consumer gets what is still in the queue before what comes back (both measured on 3.10).
        """
        if len(self._consumers) > 1:
            self._connection.abort()
        await self._connection.close(RELEASE_TIMEOUT / 4)

    def _ack(self, channel: AmqpChannel, tag: int, *, and_before: bool = False) -> None:
        if self._events.lost:
            return
        with contextlib.suppress(AmqpError):  # the loss is an event already
            channel.ack(tag, and_before=and_before)

    def _lose(self, reason: str) -> None:
        if self._events.lose(reason):
            self._connection.abort()

    def _baton_arrived(self, message: Message) -> None:
        self._events.put(
            BatonArrived(tag=message.tag, message_id=message.message_id, redelivered=message.redelivered)
        )

    def _command_arrived(self, message: Message) -> None:
        self._pass_on(message, message.user_id, kept=False)

    def _kept_arrived(self, message: Message) -> None:
        """Believe what the headers say of the sender if it was an instance that kept it: one of our login."""
        by_instance = message.user_id is not None and message.user_id == self._connection.user
        self._pass_on(message, message.headers.get(USER) if by_instance else message.user_id, kept=True)

    def _pass_on(self, message: Message, user: str | None, *, kept: bool) -> None:
        self._unacked.add(message.tag)
        self._events.put(
            CommandArrived(
                tag=message.tag,
                body=message.body,
                message_id=message.message_id,
                reply_to=message.reply_to,
                correlation_id=message.correlation_id,
                user=user,
                headers=message.headers,
                kept=kept,
            )
        )


class Unacked:
    """The deliveries of one channel that are not acknowledged, in their order."""

    def __init__(self) -> None:
        self._tags: dict[int, None] = {}

    def add(self, tag: int) -> None:
        self._tags[tag] = None

    def take(self, tags: Sequence[int]) -> tuple[int | None, list[int]]:
        """Take `tags` out: the last of those that nothing else precedes, if any, and the rest one by one.

        Tags that are not unacknowledged are left out: the broker closes the channel for them.
        """
        wanted = self._tags.keys() & set(tags)
        leading = list(takewhile(wanted.__contains__, self._tags))
        for tag in wanted:
            del self._tags[tag]
        return (leading[-1] if leading else None), sorted(wanted.difference(leading))
