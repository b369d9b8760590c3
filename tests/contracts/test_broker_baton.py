"""What every broker promises of the baton: in memory, and on RabbitMQ with quorum and with classic queues."""

import pytest
from broker_bench import Bench, assert_quiet, baton, loss, next_event, put_baton

from cronexec.ports import LinkLost


async def test_one_of_three_links_gets_the_baton(bench: Bench) -> None:
    brokers = [bench.instance() for _ in range(3)]
    first, *others = [await broker.open_link() for broker in brokers]
    await put_baton(brokers[2])
    assert (await baton(first)).message_id == "first"
    await assert_quiet(first, *others)


async def test_a_baton_published_before_anybody_came_is_kept(bench: Bench) -> None:
    broker = bench.instance()
    await put_baton(broker)
    assert (await broker.baton_depth()).ready == 1
    assert not (await baton(await broker.open_link())).redelivered


@pytest.mark.parametrize("end", ["sever", "close", "release"])
async def test_a_link_that_ends_hands_the_baton_on(bench: Bench, end: str) -> None:
    holder, standby = [await bench.instance().open_link() for _ in range(2)]
    await put_baton(bench.instance())
    held = await baton(holder)
    if (ended := getattr(holder, end)()) is not None:
        await ended
    taken = await baton(standby)
    assert (taken.message_id, taken.redelivered) == (held.message_id, True)
    await loss(holder)


async def test_a_released_baton_never_comes_back_to_the_releaser(bench: Bench) -> None:
    broker = bench.instance()
    holder, standby = await broker.open_link(), await bench.instance().open_link()
    await put_baton(broker)
    await baton(holder)
    await holder.release()
    assert (await loss(holder)).reason == "released"
    again = await broker.open_link()
    await baton(standby)
    await assert_quiet(again)
    assert isinstance(await next_event(holder), LinkLost)


@pytest.mark.parametrize("end", ["sever", "release"])
async def test_the_baton_survives_any_number_of_handovers(bench: Bench, end: str) -> None:
    """A server that counts requeues drops a message after 20."""
    await put_baton(bench.instance())
    link = await bench.instance().open_link()
    for _ in range(25):
        assert (await baton(link)).message_id == "first"
        successor = await bench.instance().open_link()
        if (ended := getattr(link, end)()) is not None:
            await ended
        link = successor
    assert (await baton(link)).message_id == "first"


async def test_a_released_baton_waits_for_the_next_link_when_there_is_no_other(bench: Bench) -> None:
    broker = bench.instance()
    holder = await broker.open_link()
    await put_baton(broker)
    await baton(holder)
    await holder.release()
    assert (await baton(await broker.open_link())).redelivered


async def test_publishing_a_new_baton_and_acking_the_old_keeps_it_with_the_holder(bench: Bench) -> None:
    broker = bench.instance()
    holder, standby = await broker.open_link(), await bench.instance().open_link()
    await put_baton(broker)
    held = await baton(holder)
    for number in range(20):
        await put_baton(broker, f"renewal {number}")
        renewed = await baton(holder)
        assert renewed.message_id == f"renewal {number}"
        holder.ack_baton(held.tag)
        held = renewed
    await assert_quiet(standby)
    holder.sever()
    assert (await baton(standby)).message_id == "renewal 19"
    await assert_quiet(standby)


async def test_two_extra_batons_all_reach_the_holder(bench: Bench) -> None:
    holder, standby = [await bench.instance().open_link() for _ in range(2)]
    for name in ("first", "second", "third"):
        await put_baton(bench.instance(), name)
    assert [(await baton(holder)).message_id for _ in range(3)] == ["first", "second", "third"]
    await assert_quiet(standby)


async def test_a_purge_takes_nothing_from_the_holder(bench: Bench) -> None:
    broker = bench.instance()
    holder = await broker.open_link()
    await put_baton(broker)
    await baton(holder)
    await bench.operate("purge", "baton")
    await assert_quiet(holder)
    assert (await broker.baton_depth()).consumers == 1


async def test_deleting_the_baton_queue_ends_every_link(bench: Bench) -> None:
    broker = bench.instance()
    links = [await bench.instance().open_link() for _ in range(3)]
    await put_baton(broker)
    await baton(links[0])
    await bench.operate("delete", "baton")
    for link in links:
        assert "cancel" in (await loss(link)).reason
    again = await broker.open_link()
    await assert_quiet(again)
    await put_baton(broker, "new")
    assert (await baton(again)).message_id == "new"


async def test_the_loss_voids_what_was_not_read_and_is_repeated(bench: Bench) -> None:
    broker = bench.instance()
    link = await broker.open_link()
    await put_baton(broker)
    await put_baton(broker, "second")
    await baton(link)
    await link.close()
    assert await loss(link) is await loss(link)
    link.ack_baton(1)
    link.ack_commands([1])
    await link.take_commands()
    await link.release()
    await link.close()
