"""The broker of a namespace: the link that competes and consumes, the publisher, and what observers ask."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class BatonArrived:
    """A baton was delivered to us and is ours until acked, released, or `LinkLost`."""

    tag: int
    message_id: str | None
    redelivered: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandArrived:
    """A message from the command queue, or `kept`: from the queue of those kept for a newer holder.

    `user` is the AMQP user where the sender set it (the broker verifies it).
    """

    tag: int
    body: bytes
    message_id: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    user: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLost:
    """The link is gone: nothing that was delivered on it is ours any more. Always the last event."""

    reason: str


MOST_KEPT_IN_HAND = 64  # commands: what a link hands out, unacked, of those kept for a newer holder

LinkEvent = BatonArrived | CommandArrived | LinkLost


class Link(Protocol):
    """One consuming connection.

    It competes for the baton, and takes commands while this instance holds. It never publishes.
    """

    @property
    def tells_of_deletion(self) -> bool:
        """Whether the link is lost when its queues are deleted: not every broker tells."""
        ...

    async def events(self) -> LinkEvent:
        """Wait for the next event. After `LinkLost` it is returned again at every call."""
        ...

    async def take_kept(self) -> int:
        """Begin to consume what holders kept for newer ones; returns how many messages wait there.

        At most `MOST_KEPT_IN_HAND` of them are handed out at a time.
        """
        ...

    async def take_commands(self) -> None:
        """Begin to consume the command queue (on becoming the holder)."""
        ...

    def ack_baton(self, tag: int) -> None: ...

    def ack_commands(self, tags: Sequence[int]) -> None: ...

    async def release(self) -> None:
        """Give up the baton and everything undone: cancel the consumers, nack with requeue, close."""
        ...

    async def close(self) -> None:
        """Close the connection at once; the broker requeues what was unacked. Idempotent, never raises."""
        ...

    def sever(self) -> None:
        """Shut the socket down. Callable from any thread, does not wait: for the watchdog."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """What a passive declare tells: ready messages (unacked ones are not counted) and consumers."""

    ready: int
    consumers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedCommand:
    """A message of the rejected queue."""

    body: bytes
    reason: str
    field: str | None = None
    rejected_at: datetime | None = None
    message_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenReject:
    """A message of the rejected queue, in hand. It returns there unless `remove` is called in time."""

    command: RejectedCommand
    remove: Callable[[], None]


class Publisher(Protocol):
    """One publishing connection, opened when first needed and again after a failure.

    All publishes are confirmed and mandatory.
    """

    async def publish_baton(self, message_id: str, body: bytes, timeout: float) -> bool:
        """Publish a baton.

        True: confirmed. False: not confirmed in `timeout` seconds (alarm, blocked); it may still arrive.
        """
        ...

    async def publish_command(
        self, body: bytes, *, command_id: str, reply_to: str | None, expires: float | None = None
    ) -> None: ...

    async def reply(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        """Send a reply. A requester that is gone is no error."""
        ...

    async def reject(self, command: CommandArrived, *, code: str, message: str, field: str | None) -> None:
        """Put a message into the rejected queue with the reason in its headers; confirmed."""
        ...

    async def keep(self, command: CommandArrived) -> None:
        """Put a command aside for a newer holder, with what its answer and its record need; confirmed."""
        ...

    async def publish_control(self, body: bytes) -> None:
        """Say something to all instances that listen at this moment (`Control`); confirmed.

        Raises RefusedError where none does.
        """
        ...

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, headers: Mapping[str, Any], *, content_type: str
    ) -> None:
        """Publish for a run (target `publish`); raises `RefusedError` when it cannot be routed."""
        ...

    async def close(self) -> None: ...


class Control(Protocol):
    """What is said to all instances, from when this is open until it is lost. Nothing is kept for later."""

    async def next(self) -> bytes:
        """Wait for the next message. Raises UnreachableError once the broker is gone; then open another."""
        ...

    async def close(self) -> None:
        """Listen no more. Idempotent, never raises."""
        ...


class Management(Protocol):
    """The broker's management, where it is configured."""

    async def links_of(self, instance_id: str) -> Sequence[str]:
        """Return the broker's names of the links of an instance; one of the last seconds may be missing."""
        ...

    async def close_link(self, link: str, reason: str) -> bool:
        """Have the broker close a link, whatever the instance does itself: the baton moves on.

        Returns whether it was still there. `reason` is what the closed side and the broker's log are told.
        """
        ...

    async def close(self) -> None: ...


class Broker(Protocol):
    """The broker of one namespace."""

    async def open_link(self) -> Link:
        """Connect, declare the queues for the server's version, and consume the baton queue.

        Raises:
            UnreachableError: also when the baton queue exists without single active consumer: never compete
            on such a queue.
        """
        ...

    def publisher(self) -> Publisher: ...

    async def open_control(self) -> Control:
        """Listen to what is said to all instances. Raises UnreachableError."""
        ...

    async def baton_depth(self) -> QueueDepth: ...

    async def rejected(self, limit: int = 50) -> list[RejectedCommand]:
        """Look at the rejected queue without taking from it."""
        ...

    def take_rejected(self, most: int) -> AbstractAsyncContextManager[Sequence[TakenReject]]:
        """Take messages from the rejected queue; those that are not removed return at the end."""
        ...

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Mapping[str, Any]:
        """Send a command and wait for its reply.

        Raises:
            NotYetAppliedError: nobody answered within `wait` seconds; the command stays in the queue.
        """
        ...

    async def close(self) -> None: ...
