"""What a sender is told of a command, by how far it got: never that it was not sent when it may have been."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from cronexec.adapters.amqp_problems import ChannelClosedError
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.adapters.rabbitmq_publisher import RabbitmqPublisher
from cronexec.adapters.rabbitmq_reconnecting import ReconnectingConnection
from cronexec.adapters.rabbitmq_requests import RabbitmqRequests
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.errors import NotYetAppliedError, UnreachableError

LIMIT = timedelta(milliseconds=50)


class Channel:
    """Enough of a channel to send on."""

    class connection:  # noqa: N801  it stands for an attribute
        user = "guest"

    def __init__(self, ends: Exception | None = None) -> None:
        self._ends = ends

    async def answer(self, answer: asyncio.Future[Any]) -> Any:
        if self._ends:
            raise self._ends
        return await answer


class Connection:
    """Opens channels, or never does."""

    def __init__(self, *, opens: bool, ends: Exception | None) -> None:
        self._opens = opens
        self._ends = ends

    async def channel(self, _purpose: str, _prepare: Callable[..., Any]) -> Channel:
        if not self._opens:
            await asyncio.Event().wait()
        return Channel(self._ends)


class Publisher:
    """Takes what is sent, and confirms it or never does."""

    def __init__(self, *, confirms: bool) -> None:
        self._confirms = confirms
        self.sent: list[bytes] = []

    async def to_queue(self, _channel: Channel, _queue: str, body: bytes, _properties: Any) -> None:
        self.sent.append(body)
        if not self._confirms:
            await asyncio.Event().wait()


def requests(*, opens: bool = True, confirms: bool = True, ends: Exception | None = None) -> RabbitmqRequests:
    return RabbitmqRequests(
        cast(ReconnectingConnection, Connection(opens=opens, ends=ends)),
        cast(RabbitmqPublisher, Publisher(confirms=confirms)),
        Topology("requests"),
        send_timeout=LIMIT,
    )


async def test_a_confirmed_command_without_an_answer_is_in_the_queue() -> None:
    with pytest.raises(NotYetAppliedError, match="is in the queue") as caught:
        await requests().request(b"{}", command_id="one", wait=0.01)
    assert caught.value.confirmed


async def test_a_confirmed_command_whose_channel_ends_is_in_the_queue() -> None:
    closed = ChannelClosedError(541, "INTERNAL_ERROR")

    with pytest.raises(NotYetAppliedError, match="is in the queue"):
        await requests(ends=closed).request(b"{}", command_id="one", wait=5)


async def test_a_command_that_was_handed_over_unconfirmed_may_be_applied() -> None:
    with pytest.raises(NotYetAppliedError, match="may be applied or not") as caught:
        await requests(confirms=False).request(b"{}", command_id="one", wait=0.01)
    assert not caught.value.confirmed


async def test_a_command_that_never_left_was_not_sent() -> None:
    with pytest.raises(UnreachableError, match="was not sent"):
        await requests(opens=False).request(b"{}", command_id="one", wait=0.01)


@pytest.fixture
async def broker(amqp_url: str, namespace: str) -> AsyncIterator[RabbitMQ]:
    opened = RabbitMQ([amqp_url], namespace=namespace, connection_name="requests")
    yield opened
    await opened.close()


async def test_a_wait_shorter_than_connecting_takes_is_no_reason_not_to_send(broker: RabbitMQ) -> None:
    with pytest.raises(NotYetAppliedError) as caught:
        await broker.request(b"{}", command_id="one", wait=0.001)
    assert caught.value.confirmed
