"""What is said to all instances, in memory and on RabbitMQ: who listens gets it, and nothing is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pika
import pytest
from patience import PATIENCE

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.adapters.memory_hub import MemoryHub
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.dev.servers import Servers
from cronexec.errors import RefusedError, UnreachableError
from cronexec.ports import Broker

Make = Callable[[], Broker]


@pytest.fixture(params=["memory", "rabbitmq"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Return what makes instances of one namespace."""
    made: list[Broker] = []
    hub = MemoryHub()
    if request.param == "rabbitmq":
        url, namespace = request.getfixturevalue("amqp_url"), request.getfixturevalue("namespace")

    def make_one() -> Broker:
        if request.param == "memory":
            made.append(MemoryBroker(hub))
        else:
            made.append(RabbitMQ([url], namespace=namespace, connection_name=f"control {len(made)}"))
        return made[-1]

    yield make_one
    await asyncio.gather(*(broker.close() for broker in made))


async def test_everybody_who_listens_gets_what_is_said_in_its_order(make: Make) -> None:
    controls = [await make().open_control() for _ in range(3)]
    publisher = make().publisher()
    for number in range(10):
        await publisher.publish_control(b"%d" % number)
    async with asyncio.timeout(PATIENCE):
        heard = [[await control.next() for _ in range(10)] for control in controls]
    assert heard == [[b"%d" % number for number in range(10)]] * 3


async def test_nothing_is_kept_for_who_comes_later(make: Make) -> None:
    first = await make().open_control()
    publisher = make().publisher()
    await publisher.publish_control(b"early")
    later = await make().open_control()
    await publisher.publish_control(b"late")
    async with asyncio.timeout(PATIENCE):
        assert [await first.next(), await first.next()] == [b"early", b"late"]
        assert await later.next() == b"late"


async def test_what_nobody_listens_to_is_refused(make: Make) -> None:
    publisher = make().publisher()
    with pytest.raises(RefusedError) as never:
        await publisher.publish_control(b"hello?")
    assert never.value.code == "unroutable"
    control = await make().open_control()
    await control.close()
    await control.close()
    with pytest.raises(RefusedError) as no_more:
        await publisher.publish_control(b"hello?")
    assert no_more.value.code == "unroutable"


async def test_a_broker_that_closes_ends_the_listening_and_it_can_begin_anew(make: Make) -> None:
    broker = make()
    control = await broker.open_control()
    waiting = asyncio.create_task(control.next())
    await asyncio.sleep(0)
    await control.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(UnreachableError):
            await waiting
        with pytest.raises(UnreachableError):
            await control.next()  # it stays lost
        again = await broker.open_control()
        await make().publisher().publish_control(b"again")
        assert await again.next() == b"again"


@pytest.mark.parametrize("make", ["rabbitmq"], indirect=True)
async def test_a_lost_connection_is_told_at_once(make: Make, servers: Servers) -> None:
    if servers.rabbitmq is None:
        pytest.skip("the broker is somebody else's: no rabbitmqctl")
    broker = make()
    control = await broker.open_control()
    waiting = asyncio.create_task(control.next())
    await asyncio.to_thread(servers.rabbitmq.ctl, "close_all_connections", "maintenance")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(UnreachableError):
            await waiting
        again = await broker.open_control()
        await make().publisher().publish_control(b"again")
        assert await again.next() == b"again"


@pytest.mark.parametrize("make", ["rabbitmq"], indirect=True)
async def test_a_deleted_exchange_is_declared_by_who_listens_next(
    make: Make, amqp_url: str, namespace: str
) -> None:
    await make().open_control()

    def delete() -> None:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            connection.channel().exchange_delete(f"{namespace}.control")

    await asyncio.to_thread(delete)
    publisher = make().publisher()
    with pytest.raises(RefusedError):
        await publisher.publish_control(b"hello?")
    listening = await make().open_control()
    await publisher.publish_control(b"again")
    async with asyncio.timeout(PATIENCE):
        assert await listening.next() == b"again"


@pytest.mark.parametrize("make", ["rabbitmq"], indirect=True)
async def test_under_an_alarm_who_listens_goes_on_and_hears_what_is_said_after_it(
    make: Make, servers: Servers
) -> None:
    if servers.rabbitmq is None:
        pytest.skip("the broker is somebody else's: no rabbitmqctl")
    listener = make()
    control = await listener.open_control()
    publisher = make().publisher()
    await publisher.publish_control(b"before")
    await asyncio.to_thread(servers.rabbitmq.ctl, "set_vm_memory_high_watermark", "0.0000001")
    try:
        saying = asyncio.create_task(publisher.publish_control(b"during"))
        async with asyncio.timeout(PATIENCE):
            assert await control.next() == b"before"
            assert await (await listener.open_control()).close() is None  # it answers all the same
    finally:
        await asyncio.to_thread(servers.rabbitmq.ctl, "set_vm_memory_high_watermark", "0.6")
    async with asyncio.timeout(PATIENCE):
        await saying
        assert await control.next() == b"during"
