"""A connection that is opened when first needed, and again after a failure, with backoff.

While the backoff lasts, whoever needs the connection gets the last error at once: waiting is the caller's
decision. Channels are kept by purpose, because what the broker refuses costs the channel it was asked on: one
exchange that is gone must not fail publishes to others. There are only so many of them.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from cronexec.adapters.amqp import AmqpChannel, AmqpConnection
from cronexec.adapters.amqp_problems import unreachable
from cronexec.errors import UnreachableError

FIRST_DELAY = timedelta(seconds=0.1)
LONGEST_DELAY = timedelta(seconds=5)
MOST_CHANNELS = 64  # a broker allows some two thousand on a connection; exchanges come out of jobs' templates


class ReconnectingConnection:
    """Channels on one connection, whichever it is now. `connect` opens one; it raises UnreachableError."""

    def __init__(self, connect: Callable[[], Awaitable[AmqpConnection]]) -> None:
        self._connect = connect
        self._connection: AmqpConnection | None = None
        self._channels: dict[str, AmqpChannel] = {}
        self._opening = asyncio.Lock()
        self._failures = 0
        self._error: UnreachableError | None = None
        self._retry_at = 0.0  # seconds, of the loop's clock
        self._is_closed = False

    @property
    def is_blocked(self) -> bool:
        """Whether the broker has said that it takes no messages at the moment (alarm)."""
        return self._connection is not None and self._connection.is_open and self._connection.blocked

    async def connection(self) -> AmqpConnection:
        """Return the open connection; raises UnreachableError."""
        async with self._opening:
            return await self._open_connection()

    async def channel(
        self, purpose: str, prepare: Callable[[AmqpChannel], Awaitable[None]] = AmqpChannel.confirm
    ) -> AmqpChannel:
        """Return the open channel for `purpose`, prepared once. Raises UnreachableError and AmqpError."""
        if (there := self.open_channel(purpose)) is not None:
            return there
        async with self._opening:
            channel = self._channels.get(purpose)
            if channel is None or not channel.is_open:
                connection = await self._open_connection()
                self._make_room()
                channel = await connection.channel()
                try:
                    await prepare(channel)
                except BaseException:
                    await channel.close()
                    raise
                self._channels[purpose] = channel
            return channel

    def open_channel(self, purpose: str) -> AmqpChannel | None:
        """Return the channel for `purpose` if it is open."""
        channel = self._channels.get(purpose)
        return channel if channel is not None and channel.is_open else None

    def _make_room(self) -> None:
        """Close the channel that was opened first of those on which nothing is awaited, if there are many."""
        self._channels = {purpose: each for purpose, each in self._channels.items() if each.is_open}
        idle = (purpose for purpose, each in self._channels.items() if each.is_idle)
        if len(self._channels) >= MOST_CHANNELS and (first := next(idle, None)) is not None:
            self._channels.pop(first).drop()

    def drop(self) -> None:
        """Close what is open without a word: it does not answer. The next use opens another."""
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        self._is_closed = True
        if self._connection is not None:
            await self._connection.close()

    async def _open_connection(self) -> AmqpConnection:
        self._check_not_closed()
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._error is not None and asyncio.get_running_loop().time() < self._retry_at:
            raise self._error
        try:
            opened = await self._connect()
        except UnreachableError as error:
            self._back_off(error)
            raise
        if self._is_closed:  # meanwhile
            await opened.close()
        self._check_not_closed()
        self._connection = opened
        self._error, self._failures = None, 0
        self._channels.clear()
        return self._connection

    def _check_not_closed(self) -> None:
        if self._is_closed:
            raise unreachable("the connection to the broker was closed by this instance", "")

    def _back_off(self, error: UnreachableError) -> None:
        self._error = error
        longest = min(FIRST_DELAY * 2**self._failures, LONGEST_DELAY).total_seconds()
        self._retry_at = asyncio.get_running_loop().time() + longest * random.random()  # noqa: S311  spreads load, keeps no secret
        self._failures = min(self._failures + 1, 10)
