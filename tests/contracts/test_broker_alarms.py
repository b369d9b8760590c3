"""RabbitMQ that does not answer, or takes nothing: under an alarm, and cut off."""

import asyncio
import contextlib
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from broker_bench import Ctl, Make, replaced, until, within
from patience import PATIENCE

from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.errors import UnreachableError
from cronexec.ports import BatonArrived, CommandArrived, LinkLost, QueueDepth


class Relay:
    """Stands between an instance and the broker, and plays a host that is gone when told to."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return replaced(self.target.geturl(), host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:  # one side may be gone, and the other wait for it
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self.target.hostname, self.target.port)
        self._tasks += [
            asyncio.create_task(self._pass(reader, there[1])),
            asyncio.create_task(self._pass(there[0], writer)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                while data := await reader.read(65536):
                    await self.flowing.wait()
                    writer.write(data)
            finally:
                writer.close()


async def _look(broker: RabbitMQ) -> QueueDepth | None:
    with contextlib.suppress(UnreachableError):
        return await broker.baton_depth()
    return None


async def test_under_a_memory_alarm_nothing_is_confirmed_and_a_link_still_releases_at_once(
    make: Make, ctl: Ctl
) -> None:
    broker, other = make(), make()
    holder, standby = await broker.open_link(), await other.open_link()
    publisher = broker.publisher()
    assert await publisher.publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, holder.events())
    await ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        async with asyncio.timeout(PATIENCE):
            while await publisher.publish_baton("blocked", b"{}", 1):
                pass
        assert not await publisher.publish_baton("blocked", b"{}", 1)
        started_at = asyncio.get_running_loop().time()
        await holder.release()
        while (await within(PATIENCE, standby.events())) != BatonArrived(
            tag=1, message_id="one", redelivered=True
        ):
            pass
        assert asyncio.get_running_loop().time() - started_at < 1
    finally:
        await ctl("set_vm_memory_high_watermark", "0.4")
    await until(lambda: publisher.publish_baton("after", b"{}", 1), PATIENCE)


async def test_under_a_memory_alarm_no_publish_waits_for_a_channel_without_bound(
    make: Make, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that has published is not read any more: not even a channel can be opened on it."""
    monkeypatch.setattr("cronexec.adapters.rabbitmq_publisher.CONFIRM_TIMEOUT", timedelta(seconds=1))
    publisher = make().publisher()
    await publisher.reply("nobody", None, b"{}")
    await ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        async with asyncio.timeout(PATIENCE):
            while not publisher._connection.is_blocked:
                await publisher.reply("nobody", None, b"{}")
                await asyncio.sleep(0.02)
        publisher._connection._connection.blocked = False  # as if the broker had not said so yet
        async with asyncio.timeout(2 * PATIENCE):
            assert not await publisher.publish_baton("blocked", b"{}", 0.5)
            with pytest.raises(UnreachableError, match="did not confirm"):
                await publisher.publish_command(b"{}", command_id="one", reply_to=None)
            with pytest.raises(UnreachableError, match="did not confirm"):
                await publisher.publish("amq.topic", "key", b"{}", {}, content_type="application/json")
            publisher._connection._channels.clear()
            with pytest.raises(UnreachableError, match="did not confirm"):
                await publisher.reply("nobody", None, b"{}")
    finally:
        await ctl("set_vm_memory_high_watermark", "0.4")
    await until(lambda: publisher.publish_baton("after", b"{}", 1), PATIENCE)


async def test_under_a_memory_alarm_looks_are_answered(make: Make, ctl: Ctl) -> None:
    broker = make()
    command = CommandArrived(tag=1, body=b"{}")
    await broker.publisher().reject(command, code="unparseable", message="why", field=None)
    await ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        async with asyncio.timeout(PATIENCE):
            while not broker._shared.is_blocked:
                await broker.publisher().reply("nobody", None, b"{}")
                await asyncio.sleep(0.02)
        async with asyncio.timeout(PATIENCE):
            assert (await broker.baton_depth()).consumers == 0
            assert [each.body for each in await broker.rejected()] == [b"{}"]
    finally:
        await ctl("set_vm_memory_high_watermark", "0.4")


async def test_a_look_at_a_broker_that_is_cut_off_ends_with_a_clear_error_and_the_next_works(
    make: Make, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(amqp_url)
    broker = make(await relay.start())
    try:
        assert (await broker.baton_depth()).ready == 0
        relay.flowing.clear()
        monkeypatch.setattr("cronexec.adapters.rabbitmq_queues.LOOK_TIMEOUT", timedelta(seconds=0.3))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(UnreachableError, match=r"did not say what is in .*\.baton within 0\.3 s"):
                await broker.baton_depth()
            with pytest.raises(UnreachableError):
                await broker.rejected()
        relay.flowing.set()
        monkeypatch.undo()
        assert (await until(lambda: _look(broker))).ready == 0
    finally:
        await relay.stop()


async def test_a_broker_that_does_not_answer_holds_up_a_release_for_a_second_at_most(
    make: Make, amqp_url: str
) -> None:
    relay = Relay(amqp_url)
    broker = make(await relay.start())
    try:
        link = await broker.open_link()
        assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
        await within(PATIENCE, link.events())
        relay.flowing.clear()
        started_at = asyncio.get_running_loop().time()
        assert not await broker.publisher().publish_baton("two", b"{}", 0.1)
        await link.release()
        await broker.close()
        assert asyncio.get_running_loop().time() - started_at < 2.5
        assert isinstance(await link.events(), LinkLost)
    finally:
        await relay.stop()
