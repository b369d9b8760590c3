"""RabbitMQ as the broker of one namespace: connections, link, publisher, and what senders and observers ask.

Two connections at most: the link's, which only consumes, and one for everything else, opened when first
needed.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika

from cronexec.adapters.amqp import AmqpChannel, AmqpConnection, Declared, Message
from cronexec.adapters.amqp_problems import (
    AmqpError,
    ChannelClosedError,
    connection_lost,
    explain_refused,
    unreachable,
)
from cronexec.adapters.rabbitmq_link import RabbitmqLink
from cronexec.adapters.rabbitmq_publisher import RabbitmqPublisher
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_requests import RabbitmqRequests
from cronexec.adapters.rabbitmq_topology import QueueType, Topology
from cronexec.adapters.rejected import rejected_command
from cronexec.errors import SettingsError, UnreachableError
from cronexec.ports import QueueDepth, RejectedCommand

CONNECT_TIMEOUT = timedelta(seconds=3)
LOOK_AT_MOST = 500
NOT_FOUND = 404
RETURN_TIMEOUT = timedelta(seconds=1)
DEFAULT_HEARTBEAT = timedelta(seconds=10)


class RabbitMQ:
    """A `Broker`. Make it inside the running loop on which it will be used.

    `urls`: amqp:// or amqps://, tried in order, each time beginning with the one that worked last.
    `heartbeat` counts where a URL has none of its own. `tls`: for amqps URLs; without it the system's
    certificate authorities are trusted.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        namespace: str,
        connection_name: str,
        heartbeat: timedelta = DEFAULT_HEARTBEAT,
        queue_type: QueueType = "quorum",
        tls: ssl.SSLContext | None = None,
        connect_timeout: timedelta = CONNECT_TIMEOUT,
    ) -> None:
        if not urls:
            raise SettingsError("amqp_url: no URL is given")
        self._targets = [_parameters(url, heartbeat, tls, connect_timeout) for url in urls]
        self._topology = Topology(namespace, queue_type)
        self._name = connection_name
        self._next = 0
        self._links: list[RabbitmqLink] = []
        self._shared = ReconnectingConnection(lambda: self._connect("publisher"))
        self._publisher = RabbitmqPublisher(self._shared, self._topology)
        self._requests = RabbitmqRequests(self._shared, self._publisher, self._topology)

    async def open_link(self) -> RabbitmqLink:
        connection = await self._connect("baton")
        try:
            await self._topology.declare_all(connection)
            link = await RabbitmqLink.open(connection, self._topology)
        except ChannelClosedError as error:
            await connection.close()
            raise explain_refused(error, f"the queue {self._topology.baton}") from error
        except AmqpError as error:
            await connection.close()
            raise connection_lost(error) from error
        except BaseException:
            await connection.close()
            raise
        self._links = [*(each for each in self._links if not each.is_lost), link]
        return link

    def publisher(self) -> RabbitmqPublisher:
        """Return the one publisher; closing it closes the connection that requests use as well."""
        return self._publisher

    async def baton_depth(self) -> QueueDepth:
        depth = await self._look_up(self._topology.baton)
        return QueueDepth(ready=depth.ready, consumers=depth.consumers)

    async def rejected(self, limit: int = 50) -> list[RejectedCommand]:
        """Look at the rejected queue: take without acknowledging, then close the channel, which returns all.

        A quorum queue takes back at its end (measured on 3.10, by nack and by close alike), so a look takes
        all there is, in order to leave the order as it was. Beyond `LOOK_AT_MOST` messages the queue is
        turned by as many with each look; nothing is lost.
        """
        queue = self._topology.rejected
        ready = (await self._look_up(queue)).ready
        if not ready:
            return []
        async with self._own_channel(queue) as channel:
            taken = [message async for message in _take(channel, queue, max(limit, LOOK_AT_MOST))]
        await self._until_returned(queue, ready)
        return [rejected_command(each.body, each.message_id, each.headers) for each in taken[:limit]]

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Mapping[str, Any]:
        return await self._requests.request(body, command_id=command_id, wait=wait)

    async def close(self) -> None:
        await asyncio.gather(self._publisher.close(), *(link.close() for link in self._links))

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
            channel = await (await self._shared.connection()).channel()
            try:
                yield channel
            finally:
                await channel.close()
        except ChannelClosedError as error:
            raise explain_refused(error, queue) from error
        except AmqpError as error:
            raise connection_lost(error) from error

    async def _connect(self, role: str) -> AmqpConnection:
        """Try every URL once, in rotation. Raises UnreachableError with what was wrong with each."""
        failures: list[UnreachableError] = []
        for _ in self._targets:
            target = self._targets[self._next % len(self._targets)]
            target.client_properties = {"connection_name": f"{self._name} ({role})"}
            try:
                return await AmqpConnection.open(target)
            except UnreachableError as error:
                failures.append(error)
                self._next += 1
        problems = "; ".join(dict.fromkeys(error.problem for error in failures))
        raise unreachable(problems, failures[-1].remedy) from failures[-1].__cause__


async def _take(channel: AmqpChannel, queue: str, limit: int) -> AsyncIterator[Message]:
    for _ in range(limit):
        if (message := await channel.get(queue)) is None:
            return
        yield message


def _parameters(
    url: str, heartbeat: timedelta, tls: ssl.SSLContext | None, connect_timeout: timedelta
) -> pika.URLParameters:
    """Read one URL; raises SettingsError without showing it, as it has a password in it."""
    try:
        split = urlsplit(url)
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError):
        split = None
    if split is None or split.scheme not in {"amqp", "amqps"} or not split.hostname:
        raise SettingsError(
            "amqp_url: not a valid AMQP URL; expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://…, "
            "with special characters in the password as %XX"
        )
    own_heartbeat = "heartbeat" in parse_qs(split.query)
    if not own_heartbeat:
        parameters.heartbeat = round(heartbeat.total_seconds())
    if tls is not None and parameters.ssl_options is not None:
        parameters.ssl_options = pika.SSLOptions(tls, parameters.host)
    parameters.connection_attempts = 1
    parameters.socket_timeout = connect_timeout.total_seconds()
    parameters.stack_timeout = connect_timeout.total_seconds()
    parameters.blocked_connection_timeout = None
    return parameters
