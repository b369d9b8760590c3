"""What a broker tells of itself and of a namespace's queues over AMQP, for those who look for what is wrong.

Nothing is created: a queue is looked up first, and only one that exists is declared again, as it should be.
The broker's refusal names a difference; declared with what was named, it names the next. Policies are not
told.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cronexec.adapters.amqp import AmqpConnection, Declared
from cronexec.adapters.amqp_problems import (
    NOT_FOUND,
    AmqpError,
    ChannelClosedError,
    connection_lost,
    explain_refused,
)
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.adapters.rabbitmq_topology import (
    DIFFERENCES_AT_MOST,
    DIFFERS,
    PRECONDITION_FAILED,
    Shape,
    Topology,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueFacts:
    """A queue that exists. `differences`: by argument, what it has instead of what it should have."""

    ready: int
    consumers: int
    differences: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerFacts:
    """`queues`: by name; None for one that does not exist.

    `control`: whether the exchange of that name exists, or what it is instead of what it should be.
    """

    version: tuple[int, ...]
    queues: Mapping[str, QueueFacts | None]
    control: bool | str = True


async def inspect_broker(broker: RabbitMQ, topology: Topology) -> BrokerFacts:
    """Ask the broker; raises UnreachableError."""
    connection = await broker._connect("doctor")  # noqa: SLF001  the same adapter
    try:
        names = (topology.baton, topology.commands, topology.newer, topology.rejected)
        queues = {name: await _inspect(connection, topology, name) for name in names}
        control = await _inspect_exchange(connection, topology.control)
        return BrokerFacts(version=connection.version, queues=queues, control=control)
    except AmqpError as error:
        raise connection_lost(error) from error
    finally:
        await connection.close()


async def _inspect(connection: AmqpConnection, topology: Topology, queue: str) -> QueueFacts | None:
    try:
        found = await _look_up(connection, queue)
    except ChannelClosedError as error:
        if error.code == NOT_FOUND:
            return None
        raise explain_refused(error, f"the queue {queue}") from error
    differences = await _differences(connection, topology, queue)
    return QueueFacts(ready=found.ready, consumers=found.consumers, differences=differences)


async def _inspect_exchange(connection: AmqpConnection, exchange: str) -> bool | str:
    """Return whether the exchange exists, or how the broker says that it differs."""
    channel = await connection.channel()
    try:
        if not await channel.has_exchange(exchange):
            return False
        await channel.declare_fanout(exchange)
    except ChannelClosedError as error:
        if error.code == PRECONDITION_FAILED:
            return error.text
        raise explain_refused(error, f"the exchange {exchange}") from error
    finally:
        await channel.close()
    return True


async def _look_up(connection: AmqpConnection, queue: str) -> Declared:
    channel = await connection.channel()
    try:
        return await channel.look_up(queue)
    finally:
        await channel.close()


async def _differences(connection: AmqpConnection, topology: Topology, queue: str) -> dict[str, str]:
    expected = topology.arguments(queue, connection.version)
    shape = Shape({"durable": True, "auto_delete": False}, expected)
    found: dict[str, str] = {}
    for _ in range(DIFFERENCES_AT_MOST):
        channel = await connection.channel()
        try:
            await channel.declare(queue, arguments=shape.arguments, **shape.flags)
        except ChannelClosedError as error:
            differs = DIFFERS.search(error.text)
            if error.code != PRECONDITION_FAILED or differs is None:
                raise explain_refused(error, f"the queue {queue}") from error
            name = differs["name"]
            shape = shape.as_it_is(name, differs["current"])
            found[name] = str(shape.arguments.get(name, shape.flags.get(name, "not set")))
        else:
            break
        finally:
            await channel.close()
    return found
