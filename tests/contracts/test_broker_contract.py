"""What every `Broker` promises, in memory and on RabbitMQ with quorum and with classic queues."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pika
import pytest
from patience import PATIENCE

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.adapters.memory_hub import MemoryHub
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.adapters.rabbitmq_topology import QueueType
from cronexec.errors import NotYetAppliedError, RefusedError, UnreachableError
from cronexec.ports import BatonArrived, Broker, CommandArrived, Link, LinkEvent, LinkLost

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
        self.brokers.append(RabbitMQ([self.url], namespace=self.namespace, **settings))
        return self.brokers[-1]

    async def operate(self, what: str, queue: str) -> None:
        await asyncio.to_thread(self._operate, what, f"{self.namespace}.{queue}")

    def _operate(self, what: str, queue: str) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            {"purge": channel.queue_purge, "delete": channel.queue_delete}[what](queue)

    async def close(self) -> None:
        await asyncio.gather(*(broker.close() for broker in self.brokers))


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


# --- the baton


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


# --- commands


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


async def answer(link: Link, broker: Broker, reply: Callable[[CommandArrived], Any]) -> None:
    """Play the holder until the link is lost."""
    await link.take_commands()
    while not isinstance(event := await link.events(), LinkLost):
        assert isinstance(event, CommandArrived)
        assert event.reply_to is not None
        await broker.publisher().reply(
            event.reply_to, event.correlation_id, json.dumps(reply(event)).encode()
        )
        link.ack_commands([event.tag])


async def test_requests_get_their_own_replies(bench: Bench) -> None:
    holder, sender = bench.instance(), bench.instance()
    link = await holder.open_link()
    playing = asyncio.create_task(answer(link, holder, lambda each: {"ok": True, "id": each.message_id}))
    requests = [sender.request(b"{}", command_id=f"r{number}", wait=PATIENCE) for number in range(50)]
    replies = await asyncio.gather(*requests)
    assert [reply["id"] for reply in replies] == [f"r{number}" for number in range(50)]
    await link.close()
    await playing


async def test_a_request_without_a_holder_is_not_yet_applied_and_stays(bench: Bench) -> None:
    sender = bench.instance()
    with pytest.raises(NotYetAppliedError) as caught:
        await sender.request(b"{}", command_id="later", wait=1)
    assert caught.value.command_id == "later"
    holder = bench.instance()
    link = await holder.open_link()
    await link.take_commands()
    late = await command(link)
    assert late.message_id == "later"
    assert late.reply_to is not None
    await holder.publisher().reply(late.reply_to, late.correlation_id, b"{}")


async def test_a_reply_to_a_requester_that_is_gone_is_no_error(bench: Bench) -> None:
    broker = bench.instance()
    await broker.publisher().reply("no-such-requester", "1", b"{}")
    await put_baton(broker)
    assert (await broker.baton_depth()).ready == 1


# --- what is refused


async def test_looking_at_rejected_commands_takes_nothing(bench: Bench) -> None:
    broker = bench.instance()
    assert await broker.rejected() == []
    for name in ("m1", "m2", "m3"):
        bad = CommandArrived(tag=1, body=b"?", message_id=name, user="guest")
        await broker.publisher().reject(bad, code="unreadable", message="it is no JSON", field="job.name")
    looks = [await broker.rejected(limit) for limit in (50, 2, *[50] * 22)]  # a server may count to 20
    assert [len(look) for look in looks] == [3, 2, *[3] * 22]
    assert [each.message_id for each in looks[-1]] == ["m1", "m2", "m3"]
    assert looks[0] == looks[3]
    first = looks[0][0]
    assert (first.body, first.reason, first.field) == (b"?", "it is no JSON (unreadable)", "job.name")
    assert first.rejected_at is not None
    assert first.rejected_at.tzinfo is not None


async def test_rejected_commands_that_are_taken_return_unless_they_are_removed(bench: Bench) -> None:
    broker = bench.instance()
    async with broker.take_rejected(10) as taken:
        assert list(taken) == []
    for name in ("m1", "m2", "m3"):
        bad = CommandArrived(tag=1, body=b"?", message_id=name, user="guest")
        await broker.publisher().reject(bad, code="unreadable", message="it is no JSON", field=None)
    async with broker.take_rejected(10) as taken:
        assert [each.command.message_id for each in taken] == ["m1", "m2", "m3"]
        taken[1].remove()
    async with asyncio.timeout(PATIENCE):
        while len(await broker.rejected()) < 2:  # noqa: ASYNC110  the broker tells nobody
            await asyncio.sleep(QUIET)
    assert [each.message_id for each in await broker.rejected()] == ["m1", "m3"]
    async with broker.take_rejected(1) as taken:
        assert [each.command.message_id for each in taken] == ["m1"]


async def test_a_message_that_no_queue_takes_is_refused(bench: Bench) -> None:
    publisher = bench.instance().publisher()
    for exchange in ("", "no-such-exchange"):
        with pytest.raises(RefusedError) as caught:
            await publisher.publish(exchange, "nowhere", b"x", {"a": 1}, content_type="text/plain")
        assert caught.value.code == "unroutable"
    assert await publisher.publish_baton("still works", b"{}", PATIENCE)


async def test_a_closed_publisher_says_so(bench: Bench) -> None:
    publisher = bench.instance().publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    await publisher.close()
    with pytest.raises(UnreachableError):
        await publisher.publish_baton("two", b"{}", PATIENCE)
