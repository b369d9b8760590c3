"""The queues of RabbitMQ: those that are there already with other arguments, and what comes into them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest
from broker_bench import Make, until, within
from patience import PATIENCE

from cronexec.adapters.amqp_message import server_version
from cronexec.adapters.clock import SystemClock
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.errors import UnreachableError
from cronexec.ports import BatonArrived, CommandArrived, LinkLost


@pytest.mark.parametrize(
    "arguments",
    [
        {"queue_type": "classic", "single_active_consumer": True},
        {
            "queue_type": "quorum",
            "single_active_consumer": True,
            "max_length": 50,
            "overflow": "reject-publish",
        },
        {"single_active_consumer": True, "message_ttl": 3_600_000, "max_priority": 3},
    ],
)
async def test_a_baton_queue_with_other_arguments_is_used_as_it_is(
    make: Make, namespace: str, declare: Callable[..., None], arguments: dict[str, Any]
) -> None:
    await asyncio.to_thread(lambda: declare(f"{namespace}.baton", **arguments))
    broker = make()
    link = await broker.open_link()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    assert isinstance(await within(PATIENCE, link.events()), BatonArrived)


@pytest.mark.parametrize(
    "arguments", [{}, {"queue_type": "quorum"}, {"queue_type": "classic", "message_ttl": 60_000}]
)
async def test_nobody_competes_on_a_baton_queue_without_single_active_consumer(
    make: Make, namespace: str, declare: Callable[..., None], arguments: dict[str, Any]
) -> None:
    await asyncio.to_thread(lambda: declare(f"{namespace}.baton", **arguments))
    with pytest.raises(UnreachableError, match="without x-single-active-consumer") as caught:
        await make().open_link()
    assert f"rabbitmqctl delete_queue {namespace}.baton" in caught.value.remedy
    assert (await make().baton_depth()).consumers == 0


async def test_a_command_queue_with_other_arguments_is_used_as_it_is(
    make: Make, namespace: str, declare: Callable[..., None]
) -> None:
    await asyncio.to_thread(lambda: declare(f"{namespace}.commands", durable=False, max_length=10))
    broker = make()
    link = await broker.open_link()
    await link.take_commands()
    await broker.publisher().publish_command(b"{}", command_id="one", reply_to=None)
    assert isinstance(await within(PATIENCE, link.events()), CommandArrived)


async def test_instances_with_classic_queues_hand_the_baton_on(make: Make) -> None:
    holder, standby = [await make(queue_type="classic").open_link() for _ in range(2)]
    assert await make(queue_type="classic").publisher().publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, holder.events())
    await holder.release()
    assert isinstance(await within(PATIENCE, standby.events()), BatonArrived)


def test_the_delivery_limit_is_lifted_where_minus_one_means_no_limit() -> None:
    topology = Topology("ns")
    assert topology.arguments("ns.baton", (4, 0, 5))["x-delivery-limit"] == -1
    assert topology.arguments("ns.commands.rejected", (4, 3))["x-delivery-limit"] == -1
    assert "x-delivery-limit" not in topology.arguments("ns.baton", (3, 13, 7))
    assert "x-delivery-limit" not in Topology("ns", "classic").arguments("ns.baton", (4, 0))
    assert server_version({"version": b"3.10.8"}) == server_version({"version": "3.10.8"}) == (3, 10, 8)
    assert server_version({"version": "4.1.0-rc.1"}) > (4,)


async def test_a_command_that_expired_is_listed_as_rejected(make: Make) -> None:
    broker = make()
    await broker.publisher().publish_command(b"late", command_id="late", reply_to=None, expires=0.01)
    rejected = await until(broker.rejected)
    assert (rejected[0].body, rejected[0].reason) == (b"late", "dead-lettered by the broker (expired)")
    assert rejected[0].rejected_at is not None


async def test_a_rejected_command_is_stamped_with_the_databases_time(make: Make) -> None:
    clock = SystemClock()
    there = datetime.now(UTC) + timedelta(hours=2)
    clock.measured(there, clock.monotonic(), clock.monotonic())
    broker = make(clock=clock)
    command = CommandArrived(tag=1, body=b"{}")
    await broker.publisher().reject(command, code="unparseable", message="why", field=None)
    (found,) = await broker.rejected()
    assert found.rejected_at is not None
    assert abs(found.rejected_at - there) < timedelta(minutes=1)


@pytest.mark.parametrize("deleted", ["commands", "commands.newer"])
async def test_a_lost_link_names_the_queue_whose_consumer_the_broker_cancelled(
    make: Make, amqp_url: str, namespace: str, deleted: str
) -> None:
    link = await make().open_link()
    await link.take_kept()
    await link.take_commands()

    def delete() -> None:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            connection.channel().queue_delete(f"{namespace}.{deleted}")

    await asyncio.to_thread(delete)
    lost = await within(PATIENCE, link.events())
    assert isinstance(lost, LinkLost)
    assert f"the consumer of {namespace}.{deleted} (" in lost.reason
