"""The connections of RabbitMQ: what ends them, what they say of themselves, and what many share."""

import asyncio
import threading
from datetime import timedelta

import pytest
from broker_bench import Ctl, Make, depth, until, within
from patience import PATIENCE

from cronexec.adapters.amqp import AmqpConnection
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.errors import NotYetAppliedError, UnreachableError
from cronexec.ports import BatonArrived, CommandArrived, LinkLost


async def test_a_connection_that_the_broker_closes_is_one_loss_and_is_survived(make: Make, ctl: Ctl) -> None:
    broker = make()
    link = await broker.open_link()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, link.events())
    await ctl("close_all_connections", "maintenance")
    lost = await within(PATIENCE, link.events())
    assert isinstance(lost, LinkLost)
    assert "maintenance" in lost.reason
    assert await link.events() is lost
    again = await broker.open_link()
    assert isinstance(await within(PATIENCE, again.events()), BatonArrived)
    assert await broker.publisher().publish_baton("two", b"{}", PATIENCE)


async def test_a_request_survives_the_end_of_its_connection(make: Make, ctl: Ctl) -> None:
    sender, holder = make(), make()
    asked = asyncio.create_task(sender.request(b"{}", command_id="one", wait=2 * PATIENCE))
    await until(lambda: depth(sender, "commands"))
    await ctl("close_all_connections", "maintenance")
    link = await holder.open_link()
    await link.take_commands()
    while not asked.done():  # the first copy's requester is gone; the second one's gets it
        event = asyncio.ensure_future(link.events())
        await asyncio.wait([event, asked], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if event.cancel():
            break
        arrived = event.result()
        assert isinstance(arrived, CommandArrived)
        assert arrived.message_id == "one"
        assert arrived.reply_to is not None
        await holder.publisher().reply(arrived.reply_to, arrived.correlation_id, b'{"ok": true}')
        link.ack_commands([arrived.tag])
    assert await asked == {"ok": True}


async def test_a_thread_can_sever_a_link_while_the_loop_is_blocked(make: Make) -> None:
    """The successor lives on another loop in another thread, as in another process."""
    holder_broker = make()
    holder = await holder_broker.open_link()
    assert await holder_broker.publisher().publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, holder.events())
    standing_by, taken = threading.Event(), threading.Event()

    async def stand_by() -> None:
        broker = RabbitMQ(
            [_url(make)], namespace=holder_broker._topology.namespace, connection_name="cronexec standby"
        )
        link = await broker.open_link()
        standing_by.set()
        async with asyncio.timeout(2 * PATIENCE):
            await link.events()
        taken.set()
        await broker.close()

    thread = threading.Thread(target=lambda: asyncio.run(stand_by()))
    thread.start()
    await asyncio.to_thread(standing_by.wait, PATIENCE)
    severing = threading.Thread(target=holder.sever)
    severing.start()
    assert taken.wait(PATIENCE), "the standby has not got the baton while our loop was blocked"
    severing.join()
    thread.join()
    assert isinstance(await within(PATIENCE, holder.events()), LinkLost)


def _url(make: Make) -> str:
    target = make()._targets[0]
    login = f"{target.credentials.username}:{target.credentials.password}"
    return f"amqp://{login}@{target.host}:{target.port}/%2F"


async def test_an_orderly_stop_says_nothing_through_pika_and_a_lost_connection_does(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    broker = make()
    link = await broker.open_link()
    await link.take_commands()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    await link.release()
    await broker.close()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("pika")] == []
    lost = make()
    link = await lost.open_link()
    link.sever()  # as a network does
    while not isinstance(await within(PATIENCE, link.events()), LinkLost):
        pass
    assert any("connection_lost" in record.getMessage() for record in caplog.records)


async def test_an_application_that_sets_pikas_level_sees_all_of_it(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pika")
    await make().baton_depth()
    assert any(record.name.startswith("pika.") for record in caplog.records)


async def test_connections_carry_their_names_and_the_heartbeat(make: Make, ctl: Ctl, namespace: str) -> None:
    broker = make(heartbeat=timedelta(seconds=7))
    await broker.open_link()
    await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    listed = await ctl("list_connections", "timeout", "client_properties")
    mine = [line for line in listed.splitlines() if namespace in line]
    assert len(mine) == 2
    assert all(line.startswith("7") for line in mine)
    assert {role for role in ("(baton)", "(publisher)") if any(role in line for line in mine)} == {
        "(baton)",
        "(publisher)",
    }


async def test_thousands_of_publishes_and_requests_are_in_flight_together(make: Make) -> None:
    broker = make()
    publisher = broker.publisher()
    await asyncio.gather(
        *(publisher.publish_command(b"{}", command_id=f"c{n}", reply_to=None) for n in range(2000))
    )
    await until(lambda: _has_depth(broker, 2000))
    asked = [broker.request(b"{}", command_id=f"r{n}", wait=3) for n in range(500)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(result) for result in results} == {NotYetAppliedError}
    await until(lambda: _has_depth(broker, 2500))


async def _has_depth(broker: RabbitMQ, wanted: int) -> bool:
    """A quorum queue counts messages a little after it has confirmed them."""
    return await depth(broker, "commands") == wanted


async def test_what_the_broker_refuses_on_one_exchange_fails_nothing_else(make: Make) -> None:
    publisher = make().publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    results = await asyncio.gather(
        publisher.publish("nowhere", "", b"", {}, content_type="text/plain"),
        *(publisher.publish_command(b"{}", command_id=f"c{n}", reply_to=None) for n in range(50)),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["RefusedError"] + ["NoneType"] * 50


async def test_a_connection_that_is_being_opened_when_all_is_closed_does_not_stay(
    make: Make, ctl: Ctl, namespace: str
) -> None:
    broker = make()
    connect, opened, closed = broker._shared._connect, asyncio.Event(), asyncio.Event()

    async def slowly() -> AmqpConnection:
        connection = await connect()
        opened.set()
        await closed.wait()
        return connection

    broker._shared._connect = slowly
    publishing = asyncio.create_task(broker.publisher().publish_baton("one", b"{}", PATIENCE))
    await opened.wait()
    await broker.close()
    closed.set()
    with pytest.raises(UnreachableError, match="closed by this instance"):
        await publishing
    await until(lambda: _are_gone(ctl, namespace))


async def _are_gone(ctl: Ctl, namespace: str) -> bool:
    return namespace not in await ctl("list_connections", "client_properties")
