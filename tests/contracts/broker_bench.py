"""What the tests of brokers share: namespaces with any number of instances, and what is asked of them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import pika
import pytest
from patience import PATIENCE

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.adapters.memory_hub import MemoryHub
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.adapters.rabbitmq_topology import QueueType
from cronexec.ports import BatonArrived, Broker, CommandArrived, Link, LinkEvent, LinkLost

Make = Callable[..., RabbitMQ]
Ctl = Callable[..., Awaitable[str]]
CONNECT_TIMEOUT = timedelta(seconds=10)  # RabbitMQ 4.3 has been seen to begin a handshake after 5 s
QUIET = 0.15  # seconds in which an event that should not come would have come


class Bench(Protocol):
    """A namespace of its own with any number of instances, and what an operator may do to it."""

    def instance(self) -> Broker: ...
    async def operate(self, what: str, queue: str) -> None: ...
    async def close(self) -> None: ...


class MemoryBench:
    def __init__(self) -> None:
        self.hub = MemoryHub()
        self.brokers: list[MemoryBroker] = []

    def instance(self) -> MemoryBroker:
        self.brokers.append(MemoryBroker(self.hub))
        return self.brokers[-1]

    async def operate(self, what: str, queue: str) -> None:
        {"purge": self.hub.purge, "delete": self.hub.delete_queue}[what](queue)

    async def close(self) -> None:
        await asyncio.gather(*(broker.close() for broker in self.brokers))


class RabbitBench:
    def __init__(self, url: str, namespace: str, queue_type: QueueType) -> None:
        self.url, self.namespace, self.queue_type = url, namespace, queue_type
        self.brokers: list[RabbitMQ] = []

    def instance(self) -> RabbitMQ:
        name = f"cronexec {self.namespace} {len(self.brokers)}"
        settings: dict[str, Any] = {"connection_name": name, "queue_type": self.queue_type}
        settings |= {"namespace": self.namespace, "connect_timeout": CONNECT_TIMEOUT}
        self.brokers.append(RabbitMQ([self.url], **settings))
        return self.brokers[-1]

    async def operate(self, what: str, queue: str) -> None:
        await asyncio.to_thread(self._operate, what, f"{self.namespace}.{queue}")

    def _operate(self, what: str, queue: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            {"purge": channel.queue_purge, "delete": channel.queue_delete}[what](queue)

    async def close(self) -> None:
        await asyncio.gather(*(broker.close() for broker in self.brokers))


async def baton(link: Link) -> BatonArrived:
    event = await next_event(link)
    assert isinstance(event, BatonArrived), f"expected a baton, got {event}"
    return event


async def command(link: Link) -> CommandArrived:
    event = await next_event(link)
    assert isinstance(event, CommandArrived), f"expected a command, got {event}"
    return event


async def loss(link: Link) -> LinkLost:
    event = await next_event(link)
    assert isinstance(event, LinkLost), f"expected the loss, got {event}"
    return event


async def next_event(link: Link) -> LinkEvent:
    try:
        async with asyncio.timeout(PATIENCE):
            return await link.events()
    except TimeoutError:
        pytest.fail(f"no event within {PATIENCE:g} s")


async def assert_quiet(*links: Link) -> None:
    """Check that none of them gets anything."""
    for link in links:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET):
                pytest.fail(f"unexpected: {await link.events()}")


async def put_baton(broker: Broker, message_id: str = "first") -> None:
    assert await broker.publisher().publish_baton(message_id, b"{}", PATIENCE), "the baton was not confirmed"


async def send(broker: Broker, count: int, first: int = 0) -> list[str]:
    ids = [f"c{number}" for number in range(first, first + count)]
    for each in ids:
        await broker.publisher().publish_command(b'{"n": 1}', command_id=each, reply_to=None)
    return ids


async def within(seconds: float, event: Awaitable[LinkEvent]) -> LinkEvent:
    async with asyncio.timeout(seconds):
        return await event


async def until(question: Callable[[], Awaitable[Any]], seconds: float = PATIENCE) -> Any:
    """Ask the broker, which tells nobody by itself, until the answer is true; return it."""
    answer = None
    try:
        async with asyncio.timeout(seconds):
            while not (answer := await question()):  # noqa: ASYNC110  the broker tells nobody
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"still {answer} after {seconds:g} s")
    return answer


def replaced(url: str, **parts: Any) -> str:
    """Return the URL with user, password, host, port or vhost replaced."""
    split = urlsplit(url)
    has = {"user": split.username, "password": split.password, "host": split.hostname, "port": split.port}
    now = has | {"vhost": split.path.lstrip("/")} | parts
    return f"amqp://{now['user']}:{now['password']}@{now['host']}:{now['port']}/{now['vhost']}"


async def depth(broker: RabbitMQ, queue: str) -> int:
    declared = await broker._queues._look_up(f"{broker._topology.namespace}.{queue}")
    return declared.ready
