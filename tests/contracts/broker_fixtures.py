"""The fixtures of the tests of brokers: `bench` is of every kind, `make`, `ctl` and `declare` of RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pika
import pytest
from broker_bench import CONNECT_TIMEOUT, Bench, Ctl, Make, MemoryBench, RabbitBench

from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.dev.servers import Servers


@pytest.fixture(params=["memory", "quorum", "classic"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made: Bench = MemoryBench()
    if request.param != "memory":
        namespace = request.getfixturevalue("namespace")
        made = RabbitBench(request.getfixturevalue("amqp_url"), namespace, request.param)
    yield made
    await made.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if "pytest" not in repr(task)], "tasks are left behind"


@pytest.fixture
async def make(amqp_url: str, namespace: str) -> AsyncIterator[Make]:
    """Return what makes instances of one namespace; they are closed at the end."""
    made: list[RabbitMQ] = []

    def make_one(*urls: str, **settings: Any) -> RabbitMQ:
        given = {"connection_name": f"cronexec {namespace} {len(made)}", "connect_timeout": CONNECT_TIMEOUT}
        made.append(RabbitMQ(urls or [amqp_url], **({"namespace": namespace} | given | settings)))
        return made[-1]

    yield make_one
    await asyncio.gather(*(broker.close() for broker in made))


@pytest.fixture
def ctl(servers: Servers) -> Ctl:
    """Return rabbitmqctl as a coroutine, where the broker is ours."""
    if servers.rabbitmq is None:
        pytest.skip("the broker is somebody else's: no rabbitmqctl")
    server = servers.rabbitmq
    return lambda *args: asyncio.to_thread(server.ctl, *args)


@pytest.fixture
def declare(amqp_url: str) -> Callable[..., None]:
    """Return what declares a queue as an operator would."""

    def declare_one(queue: str, *, durable: bool = True, **arguments: Any) -> None:
        named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            connection.channel().queue_declare(queue, durable=durable, arguments=named)

    return declare_one
