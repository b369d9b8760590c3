"""RabbitMQ as the broker of one namespace: connections, link, publisher, and what senders and observers ask.

Three connections at most: the link's, which only consumes, one for all that is published, and one that only
looks and listens. Each is opened when first needed: an instance has all of them, the last one after it has
begun to compete; a look of the CLI has the last alone.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika

from cronexec.adapters.amqp import AmqpConnection
from cronexec.adapters.amqp_problems import (
    AmqpError,
    ChannelClosedError,
    connection_lost,
    explain_refused,
    unreachable,
)
from cronexec.adapters.clock import SystemClock
from cronexec.adapters.rabbitmq_control import RabbitmqControl
from cronexec.adapters.rabbitmq_link import RabbitmqLink
from cronexec.adapters.rabbitmq_publisher import RabbitmqPublisher
from cronexec.adapters.rabbitmq_queues import RabbitmqQueues
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_requests import RabbitmqRequests
from cronexec.adapters.rabbitmq_topology import QueueType, Topology
from cronexec.errors import SettingsError, UnreachableError
from cronexec.ports import Clock, QueueDepth, RejectedCommand, TakenReject

LINK = "baton"
INSTANCE_PROPERTY = "cronexec_instance"
CONNECT_TIMEOUT = timedelta(seconds=3)
DEFAULT_HEARTBEAT = timedelta(seconds=10)


class RabbitMQ:
    """A `Broker`. Make it inside the running loop on which it will be used.

    `urls`: amqp:// or amqps://, tried in order, each time beginning with the one that worked last.
    `heartbeat` counts where a URL has none of its own. `tls`: for amqps URLs; without it the system's
    certificate authorities are trusted. `instance_id`: shown in the client properties of the link.
    `clock`: the one that the database's readings go to; without it this machine's time is taken.
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
        instance_id: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not urls:
            raise SettingsError("amqp_url: no URL is given")
        self._targets = [_parameters(url, heartbeat, tls, connect_timeout) for url in urls]
        self._topology = Topology(namespace, queue_type)
        self._name = connection_name
        self._instance_id = instance_id
        self._next = 0
        self._links: list[RabbitmqLink] = []
        self._shared = ReconnectingConnection(lambda: self._connect("publisher"))
        self._publisher = RabbitmqPublisher(self._shared, self._topology, (clock or SystemClock()).now)
        self._requests = RabbitmqRequests(self._shared, self._publisher, self._topology)
        self._observing = ReconnectingConnection(lambda: self._connect("observer"))
        self._queues = RabbitmqQueues(self._observing, self._topology)

    async def open_link(self) -> RabbitmqLink:
        connection = await self._connect(LINK)
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

    async def open_control(self) -> RabbitmqControl:
        return await RabbitmqControl.open(self._observing, self._topology)

    async def baton_depth(self) -> QueueDepth:
        return await self._queues.baton_depth()

    async def rejected(self, limit: int = 50) -> list[RejectedCommand]:
        return await self._queues.rejected(limit)

    def take_rejected(self, most: int) -> AbstractAsyncContextManager[Sequence[TakenReject]]:
        return self._queues.take_rejected(most)

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Mapping[str, Any]:
        return await self._requests.request(body, command_id=command_id, wait=wait)

    async def close(self) -> None:
        links = [link.close() for link in self._links]
        await asyncio.gather(self._publisher.close(), self._queues.close(), *links)

    def _client_properties(self, role: str) -> dict[str, str]:
        """Return what the broker shows of a connection; by its id a standby finds a silent holder's link."""
        shown = {"connection_name": f"{self._name} ({role})"}
        has_link = self._instance_id is not None and role == LINK
        return shown | ({INSTANCE_PROPERTY: str(self._instance_id)} if has_link else {})

    async def _connect(self, role: str) -> AmqpConnection:
        """Try every URL once, in rotation. Raises UnreachableError with what was wrong with each."""
        failures: list[UnreachableError] = []
        for _ in self._targets:
            target = self._targets[self._next % len(self._targets)]
            target.client_properties = self._client_properties(role)
            try:
                return await AmqpConnection.open(target)
            except UnreachableError as error:
                failures.append(error)
                self._next += 1
        problems = "; ".join(dict.fromkeys(error.problem for error in failures))
        raise unreachable(problems, failures[-1].remedy) from failures[-1].__cause__


def vhost_of(url: str) -> str:
    """Return the virtual host that an AMQP URL names. Raises SettingsError."""
    vhost: str = _parameters(url, DEFAULT_HEARTBEAT, None, CONNECT_TIMEOUT).virtual_host
    return vhost


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
