"""The hooks by which the in-memory broker is broken on purpose."""

import asyncio
from datetime import UTC, datetime

import pytest

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.adapters.memory_clock import ManualClock
from cronexec.adapters.memory_hub import BATON, COMMANDS
from cronexec.errors import UnreachableError
from cronexec.ports import BatonArrived, CommandArrived, LinkLost


async def test_blocked_publishes_are_not_confirmed_and_do_not_arrive() -> None:
    broker = MemoryBroker()
    broker.hub.block_publishes()
    assert not await broker.publisher().publish_baton("one", b"{}", 1)
    with pytest.raises(UnreachableError, match="alarm"):
        await broker.publisher().publish_command(b"{}", command_id="c", reply_to=None)
    broker.hub.block_publishes(blocked=False)
    assert await broker.publisher().publish_baton("two", b"{}", 1)
    assert [message.message_id for message in broker.hub.queues[BATON].ready] == ["two"]


async def test_a_broker_that_is_down_breaks_links_refuses_new_ones_and_keeps_the_queues() -> None:
    broker = MemoryBroker()
    link = await broker.open_link()
    await broker.publisher().publish_baton("one", b"{}", 1)
    broker.hub.go_down()
    assert await link.events() == LinkLost(reason="the broker went down")
    for attempt in (
        broker.open_link(),
        broker.baton_depth(),
        broker.publisher().publish_baton("two", b"", 1),
    ):
        with pytest.raises(UnreachableError):
            await attempt
    broker.hub.go_down(down=False)
    again = await broker.open_link()
    assert await again.events() == BatonArrived(tag=1, message_id="one", redelivered=True)


async def test_dropping_the_links_gives_everything_back() -> None:
    first = MemoryBroker()
    second = MemoryBroker(first.hub)
    links = [await broker.open_link() for broker in (first, second)]
    await links[0].take_commands()
    await first.publisher().publish_baton("one", b"{}", 1)
    await second.publisher().publish_command(b"{}", command_id="c", reply_to=None)
    first.hub.drop_links("a partition")
    assert [await link.events() for link in links] == [LinkLost(reason="a partition")] * 2
    assert [len(first.hub.queues[name].ready) for name in (BATON, COMMANDS)] == [1, 1]


async def test_closing_one_instance_leaves_the_others_alone() -> None:
    first = MemoryBroker()
    second = MemoryBroker(first.hub)
    standby, waiting = await first.open_link(), await second.open_link()
    await first.close()
    assert isinstance(await standby.events(), LinkLost)
    await second.publisher().publish_baton("one", b"{}", 1)
    async with asyncio.timeout(1):
        assert isinstance(await waiting.events(), BatonArrived)


async def test_a_rejected_command_is_stamped_with_the_time_of_the_clock_given() -> None:
    long_ago = datetime(2001, 2, 3, tzinfo=UTC)
    broker = MemoryBroker(clock=ManualClock(long_ago))
    command = CommandArrived(tag=1, body=b"{}")
    await broker.publisher().reject(command, code="invalid", message="why", field=None)
    assert [each.rejected_at for each in await broker.rejected()] == [long_ago]
