"""RabbitMQ as the broker of one namespace: connections by URL, the link, the publisher, and what senders and observers ask.

Two connections at most: the link's, which only consumes, and one for everything else, opened when first needed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika

from cronexec.adapters.amqp import (
    AmqpChannel,
    AmqpConnection,
    AmqpError,
    ChannelClosedError,
    Declared,
    Message,
)
from cronexec.adapters.amqp_problems import explain_refused, unreachable
from cronexec.adapters.rabbitmq_link import RabbitmqLink
from cronexec.adapters.rabbitmq_publisher import RabbitmqPublisher
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_requests import RabbitmqRequests
from cronexec.adapters.rabbitmq_topology import NOT_FOUND, QueueType, Topology
from cronexec.adapters.rejected import rejected_command
from cronexec.errors import SettingsError, UnreachableError
from cronexec.ports import QueueDepth, RejectedCommand

CONNECT_TIMEOUT = timedelta(seconds=3)
DEFAULT_HEARTBEAT = timedelta(seconds=10)


class RabbitMQ:
    """A `Broker`. Make it inside the running loop on which it will be used.

    `urls`: amqp:// or amqps://, tried in order, each time beginning with the one that worked last. `heartbeat` counts where a URL has none
    of its own. `tls`: for amqps URLs; without it the system's certificate authorities are trusted.
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
    ) -> None:
        self._targets = [_parameters(url, heartbeat, tls) for url in urls]
        self._topology = Topology(namespace, queue_type)
        self._name = connection_name
        self._next = 0
        self._links: list[RabbitmqLink] = []
        self._shared = ReconnectingConnection(lambda: self._connect("publisher"))
        self._publisher = RabbitmqPublisher(
            self._shared, self._topology, self._targets[0].credentials.username
        )
        self._requests = RabbitmqRequests(self._shared, self._publisher, self._topology)

    async def open_link(self) -> RabbitmqLink:
        connection = await self._connect("baton")
        try:
            await self._topology.declare_all(connection)
            link = await RabbitmqLink.open(connection, self._topology)
        except AmqpError as error:
            await connection.close()
            raise unreachable(f"the broker ended the connection: {error}", "Try again") from error
        except BaseException:
            await connection.close()
            raise
        self._links = [*(each for each in self._links if not each.is_lost), link]
        return link

    def publisher(self) -> RabbitmqPublisher:
        return self._publisher

    async def baton_depth(self) -> QueueDepth:
        depth = await self._look_up(self._topology.baton)
        return QueueDepth(ready=depth.ready, consumers=depth.consumers)

    async def rejected(self, limit: int = 50) -> list[RejectedCommand]:
        """Look at the rejected queue: take without acknowledging, then give everything back in one nack."""
        queue = self._topology.rejected
        try:
            if not (await self._look_up(queue)).ready:
                return []
            channel = await (await self._shared.connection()).channel()
            try:
                taken = [message async for message in _take(channel, queue, limit)]
                channel.requeue_all()
            finally:
                await channel.close()
        except AmqpError as error:
            raise unreachable(f"the broker ended the connection: {error}", "Try again") from error
        return [rejected_command(each.body, each.message_id, each.headers) for each in taken]

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Mapping[str, Any]:
        return await self._requests.request(body, command_id=command_id, wait=wait)

    async def close(self) -> None:
        await asyncio.gather(self._publisher.close(), *(link.close() for link in self._links))

    async def _look_up(self, queue: str) -> Declared:
        """Return what there is of a queue; one that does not exist is empty and unused."""
        connection = await self._shared.connection()
        channel = await connection.channel()
        try:
            return await channel.look_up(queue)
        except ChannelClosedError as error:
            if error.code == NOT_FOUND:
                return Declared(ready=0, consumers=0)
            raise explain_refused(error, queue) from error
        except AmqpError as error:
            raise unreachable(f"the broker ended the connection: {error}", "Try again") from error
        finally:
            await channel.close()

    async def _connect(self, role: str) -> AmqpConnection:
        """Try every URL once, in rotation; raises the last UnreachableError."""
        failure: UnreachableError | None = None
        for _ in self._targets:
            target = self._targets[self._next % len(self._targets)]
            target.client_properties = {"connection_name": f"{self._name} ({role})"}
            try:
                return await AmqpConnection.open(target)
            except UnreachableError as error:
                failure = error
                self._next += 1
        raise failure or SettingsError("amqp_url: no URL is given")


async def _take(channel: AmqpChannel, queue: str, limit: int) -> AsyncIterator[Message]:
    for _ in range(limit):
        if (message := await channel.get(queue)) is None:
            return
        yield message


def _parameters(url: str, heartbeat: timedelta, tls: ssl.SSLContext | None) -> pika.URLParameters:
    """Read one URL; raises SettingsError without showing it, as it has a password in it."""
    try:
        parameters = pika.URLParameters(url)
        own_heartbeat = "heartbeat" in parse_qs(urlsplit(url).query)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            "amqp_url: not a valid AMQP URL; expected amqp://USER:PASSWORD@HOST:PORT/VHOST"
        ) from error
    if not own_heartbeat:
        parameters.heartbeat = round(heartbeat.total_seconds())
    if tls is not None and parameters.ssl_options is not None:
        parameters.ssl_options = pika.SSLOptions(tls, parameters.host)
    parameters.connection_attempts = 1
    parameters.socket_timeout = CONNECT_TIMEOUT.total_seconds()
    parameters.stack_timeout = CONNECT_TIMEOUT.total_seconds()
    parameters.blocked_connection_timeout = None
    return parameters
