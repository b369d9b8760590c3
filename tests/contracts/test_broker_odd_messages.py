"""Messages that pika cannot read, or cannot send on: none ends a link, or comes back for ever."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pika
import pytest
from broker_bench import Make, within
from patience import PATIENCE

from cronexec.adapters.amqp_frames import UNDECODED
from cronexec.adapters.rejected import LEFT_OUT
from cronexec.errors import RefusedError
from cronexec.ports import BatonArrived, CommandArrived, Link

PLACEHOLDER = 0x1234567890
MILLISECONDS = b"T" + struct.pack(">Q", 1_800_000_000_000)  # where AMQP has seconds

Send = Callable[..., Awaitable[None]]


class Odd(pika.BasicProperties):  # type: ignore[misc]  # pika is Any to mypy
    """Properties with a value in the headers, or text, that pika itself would not encode."""

    def __init__(self, replacements: dict[bytes, bytes], **properties: Any) -> None:
        super().__init__(**properties)
        self._replacements = replacements

    def encode(self) -> list[bytes]:
        encoded: list[bytes] = super().encode()
        for old, new in self._replacements.items():
            encoded = [piece.replace(old, new) for piece in encoded]
        return encoded


@pytest.fixture
def send(amqp_url: str, namespace: str) -> Send:
    """Return what sends a command as somebody else's client may."""

    def publish(body: bytes, properties: pika.BasicProperties) -> None:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            connection.channel().basic_publish("", f"{namespace}.commands", body, properties)

    return lambda body, properties: asyncio.to_thread(publish, body, properties)


async def arrived(link: Link) -> CommandArrived:
    event = await within(PATIENCE, link.events())
    assert isinstance(event, CommandArrived), f"expected a command, got {event}"
    return event


async def test_a_command_with_headers_that_cannot_be_decoded_arrives_and_can_be_rejected(
    make: Make, send: Send
) -> None:
    broker = make()
    link = await broker.open_link()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    assert isinstance(await within(PATIENCE, link.events()), BatonArrived)
    await link.take_commands()
    odd = {b"l" + struct.pack(">q", PLACEHOLDER): MILLISECONDS}
    known = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "reply_to": "back",
        "message_id": "odd",
    }
    await send(b"odd", Odd(odd, headers={"first": "x", "when": PLACEHOLDER}, **known))
    await send(b"next", pika.BasicProperties(headers={"when": 1}))
    command, following = await arrived(link), await arrived(link)
    assert (command.body, command.message_id, command.reply_to) == (b"odd", "odd", "back")
    assert MILLISECONDS in command.headers[UNDECODED], "nothing of it is lost"
    assert (following.body, following.headers) == (b"next", {"when": 1})
    await broker.publisher().reject(command, code="invalid", message="why", field=None)
    (found,) = await broker.rejected()
    assert (found.body, found.reason) == (b"odd", "why (invalid)")


async def test_a_command_with_headers_of_a_whole_frame_can_be_rejected_and_kept(
    make: Make, send: Send
) -> None:
    """With our own added they would not fit: the broker closes the connection of who sends such a message."""
    broker = make()
    link = await broker.open_link()
    await link.take_commands()
    await send(b"large", pika.BasicProperties(headers={"filler": "x" * 130_900}))
    command = await arrived(link)
    publisher = broker.publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    channel = publisher._connection.open_channel("baton")
    await publisher.reject(command, code="invalid", message="y" * 2000, field=None)
    await publisher.keep(CommandArrived(**{**fields_of(command), "user": "u" * 200}))
    assert channel is not None
    assert channel.is_open, "the connection was not closed by the broker"
    (found,) = await broker.rejected()
    assert (found.body, found.reason) == (b"large", f"{'y' * 2000} (invalid)")
    other = await make().open_link()
    assert await other.take_kept() == 1
    kept = await arrived(other)
    assert kept.body == b"large"
    assert "headers take" in kept.headers[LEFT_OUT]


def fields_of(command: CommandArrived) -> dict[str, Any]:
    return {name: getattr(command, name) for name in CommandArrived.__slots__}


async def test_text_that_is_not_utf_8_in_a_commands_properties_keeps_nobody_else_from_an_answer(
    make: Make, send: Send
) -> None:
    broker = make()
    link = await broker.open_link()
    await link.take_commands()
    latin = {b"caf?": b"caf\xe9"}
    await send(b"latin", Odd(latin, reply_to="caf?", correlation_id="caf?", message_id="caf?" * 60))
    command = await arrived(link)
    assert command.reply_to == "caf\ufffd"
    await broker.publisher().reply(command.reply_to, command.correlation_id, b"{}")
    await broker.publisher().reject(command, code="invalid", message="why", field=None)
    (found,) = await broker.rejected()
    assert found.body == b"latin"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"ratio": 1.5}, "1.5"),
        ({"huge": 2**70}, "int too large|out of range|argument"),
        ({"long": "x" * 140_000}, "headers take"),
        ({"n" * 300: "x"}, "255|n"),
    ],
)
async def test_a_message_that_amqp_cannot_carry_is_refused_and_nothing_else_suffers(
    make: Make, headers: dict[str, Any], said: str
) -> None:
    publisher = make().publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    channel = publisher._connection.open_channel("baton")
    with pytest.raises(RefusedError, match=rf"AMQP cannot carry the message: .*({said})"):
        await publisher.publish("amq.topic", "key", b"{}", headers, content_type="application/json")
    with pytest.raises(RefusedError, match="cannot carry"):
        await publisher.publish("amq.topic", "k" * 300, b"{}", {}, content_type="application/json")
    assert channel is not None
    assert channel.is_open
    assert await publisher.publish_baton("two", b"{}", PATIENCE)


async def test_any_number_of_exchanges_takes_a_bounded_number_of_channels(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronexec.adapters.rabbitmq_reconnecting.MOST_CHANNELS", 5)
    publisher = make().publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    for _ in range(2):
        names = [f"nowhere.{number}" for number in range(10)] + ["amq.direct", "amq.fanout", "amq.topic"]
        for exchange in names:
            with pytest.raises(RefusedError):
                await publisher.publish(exchange, "key", b"{}", {}, content_type="text/plain")
    connection = publisher._connection._connection
    assert connection is not None
    others = [f"exchange {number}" for number in range(20)]
    await asyncio.gather(*(publisher._connection.channel(purpose) for purpose in others))
    assert len(publisher._connection._channels) <= 5
    assert len(connection._inner._channels) <= 5 + 1, "one may be closing"
    assert await publisher.publish_baton("two", b"{}", PATIENCE)
