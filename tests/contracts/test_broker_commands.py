"""What every broker promises of commands: in memory, and on RabbitMQ with quorum and with classic queues."""

import asyncio

import pytest
from broker_bench import Bench, assert_quiet, command, send

from cronexec.ports import CommandArrived


async def test_commands_reach_only_the_taker_and_in_order(bench: Bench) -> None:
    taker, other = [await bench.instance().open_link() for _ in range(2)]
    early = await send(bench.instance(), 20)
    await assert_quiet(taker, other)
    await taker.take_commands()
    late = await send(bench.instance(), 20, first=20)
    arrived = [await command(taker) for _ in range(40)]
    assert [each.message_id for each in arrived] == early + late
    assert {each.user for each in arrived} == {"guest"}
    await assert_quiet(other)


@pytest.mark.parametrize("end", ["sever", "close", "release"])
async def test_unacked_commands_come_back_in_order_before_those_that_waited(bench: Bench, end: str) -> None:
    first, second = [await bench.instance().open_link() for _ in range(2)]
    ids = await send(bench.instance(), 300)
    await first.take_commands()
    taken = [await command(first) for _ in range(256)]
    first.ack_commands([each.tag for each in taken[:10]])
    await asyncio.gather(*(command(first) for _ in range(10)))  # the acks were seen: more came
    await second.take_commands()
    if (ended := getattr(first, end)()) is not None:
        await ended
    assert [(await command(second)).message_id for _ in range(256)] == ids[10:266]


async def test_acked_commands_do_not_come_back(bench: Bench) -> None:
    broker = bench.instance()
    link = await broker.open_link()
    await link.take_commands()
    await send(broker, 3)
    link.ack_commands([(await command(link)).tag for _ in range(3)])
    await send(broker, 1, first=3)
    await command(link)  # sent after the acks, so they have arrived
    await link.release()
    again = await broker.open_link()
    await again.take_commands()
    assert (await command(again)).message_id == "c3"
    await assert_quiet(again)


async def test_a_command_in_hand_stays_unacked_when_those_around_it_are_acked(bench: Bench) -> None:
    broker = bench.instance()
    link = await broker.open_link()
    await link.take_commands()
    ids = await send(broker, 5)
    tags = [(await command(link)).tag for _ in ids]
    link.ack_commands([tags[0], tags[1], tags[3]])
    await send(broker, 1, first=5)
    await command(link)  # sent after the acks, so they have arrived
    await link.close()
    again = await broker.open_link()
    await again.take_commands()
    assert [(await command(again)).message_id for _ in range(3)] == [ids[2], ids[4], "c5"]


async def test_kept_commands_come_in_their_order_with_all_that_came_with_them(bench: Bench) -> None:
    broker = bench.instance()
    publisher = broker.publisher()
    link = await broker.open_link()
    for name in ("k0", "k1", "k2"):
        asked = CommandArrived(
            tag=1,
            body=b"{}",
            message_id=name,
            reply_to="back",
            correlation_id=f"c-{name}",
            user="eve",
            headers={"x-mine": "1"},
        )
        await publisher.keep(asked)
    assert await link.take_kept() == 3
    arrived = [await command(link) for _ in range(3)]
    assert [each.message_id for each in arrived] == ["k0", "k1", "k2"]
    assert {(each.kept, each.reply_to, each.user, each.headers["x-mine"]) for each in arrived} == {
        (True, "back", "eve", "1")
    }
    assert arrived[1].correlation_id == "c-k1"
    await link.take_commands()
    await send(broker, 2)
    commands = [await command(link) for _ in range(2)]
    assert [each.kept for each in commands] == [False, False]
    link.ack_commands([arrived[0].tag, commands[1].tag])
    await send(broker, 1, first=2)
    await command(link)  # sent after the acks, so they have arrived
    await link.close()
    again = await broker.open_link()
    assert await again.take_kept() == 2
    assert [(await command(again)).message_id for _ in range(2)] == ["k1", "k2"]
    await again.take_commands()
    assert [(await command(again)).message_id for _ in range(2)] == ["c0", "c2"]
