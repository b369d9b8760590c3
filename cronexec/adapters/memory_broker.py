"""The broker's ports on a `MemoryHub`: for the tests of the runtime, and whoever tries it without servers.

It keeps the same promises as `adapters.rabbitmq`, and the same contract tests run on both.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from cronexec.adapters.clock import SystemClock
from cronexec.adapters.link_events import LinkEvents
from cronexec.adapters.memory_hub import (
    BATON,
    COMMANDS,
    NEWER,
    REJECTED,
    MemoryConsumer,
    MemoryHub,
    MemoryMessage,
    MemoryQueue,
)
from cronexec.adapters.rejected import rejected_command, rejected_headers
from cronexec.errors import NotYetAppliedError, RefusedError, UnreachableError
from cronexec.ports import (
    MOST_KEPT_IN_HAND,
    BatonArrived,
    Clock,
    CommandArrived,
    LinkEvent,
    QueueDepth,
    RejectedCommand,
    TakenReject,
)

BATON_PREFETCH = 8
COMMAND_PREFETCH = 512


class MemoryBroker:
    """A `Broker` for one instance. Those that share a hub compete.

    `user` is who it logs in as; `clock`: the one that the database's readings go to, else this machine's.
    """

    def __init__(
        self, hub: MemoryHub | None = None, *, user: str = "guest", clock: Clock | None = None
    ) -> None:
        self.hub = hub or MemoryHub()
        self._links: list[MemoryLink] = []
        self._publisher = MemoryPublisher(self.hub, user, clock or SystemClock())

    async def open_link(self) -> "MemoryLink":
        self.hub.check_reachable()
        link = MemoryLink(self.hub)
        self._links.append(link)
        return link

    def publisher(self) -> "MemoryPublisher":
        return self._publisher

    async def open_control(self) -> "MemoryControl":
        self.hub.check_reachable()
        return MemoryControl(self.hub)

    async def baton_depth(self) -> QueueDepth:
        self.hub.check_reachable()
        queue = self.hub.queues[BATON]
        return QueueDepth(ready=len(queue.ready), consumers=len(queue.consumers))

    async def rejected(self, limit: int = 50) -> list[RejectedCommand]:
        self.hub.check_reachable()
        messages = self.hub.queues[REJECTED].ready[:limit]
        return [rejected_command(each.body, each.message_id, each.headers) for each in messages]

    @asynccontextmanager
    async def take_rejected(self, most: int) -> AsyncIterator[Sequence[TakenReject]]:
        self.hub.check_reachable()
        queue = self.hub.queues[REJECTED]
        taken: list[TakenReject] = []

        def deliver(tag: int, message: MemoryMessage) -> None:
            command = rejected_command(message.body, message.message_id, message.headers)
            taken.append(TakenReject(command=command, remove=lambda: queue.ack(consumer, tag)))

        consumer = MemoryConsumer(min(most, len(queue.ready)), deliver, lambda: None)
        queue.consume(consumer)
        consumer.prefetch = 0
        try:
            yield taken
        finally:
            queue.leave(consumer)

    async def request(self, body: bytes, *, command_id: str, wait: float) -> Mapping[str, Any]:
        reply_to = f"reply-to.{uuid4().hex}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.hub.requesters[reply_to] = lambda reply: None if answer.done() else answer.set_result(reply)
        try:
            await self._publisher.publish_command(body, command_id=command_id, reply_to=reply_to)
            async with asyncio.timeout(wait):
                reply: Mapping[str, Any] = json.loads(await answer)
        except TimeoutError as error:
            raise NotYetAppliedError(command_id, wait) from error
        finally:
            del self.hub.requesters[reply_to]
        return reply

    async def close(self) -> None:
        await self._publisher.close()
        for link in self._links:
            await link.close()


class MemoryLink:
    """A `Link`: consumes the baton queue from the start."""

    def __init__(self, hub: MemoryHub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._events = LinkEvents()
        self._consuming: dict[str, tuple[MemoryQueue, MemoryConsumer]] = {}
        self._numbers = itertools.count(1)  # one series of tags for two queues
        self._delivered: dict[int, tuple[str, int]] = {}
        hub.links.append(self._lose)
        self._consume(BATON, MemoryConsumer(BATON_PREFETCH, self._baton_arrived, self._cancelled))

    @property
    def tells_of_deletion(self) -> bool:
        return self._hub.tells_of_deletion

    async def events(self) -> LinkEvent:
        return await self._events.next()

    async def take_commands(self) -> None:
        self._take(COMMANDS, COMMAND_PREFETCH)

    async def take_kept(self) -> int:
        waiting = len(self._hub.queues[NEWER].ready)
        self._take(NEWER, MOST_KEPT_IN_HAND)
        return waiting

    def _take(self, name: str, prefetch: int) -> None:
        if name not in self._consuming and self._events.lost is None:
            arrived = partial(self._command_arrived, name)
            self._consume(name, MemoryConsumer(prefetch, arrived, self._cancelled))

    def ack_baton(self, tag: int) -> None:
        self._ack(BATON, [tag])

    def ack_commands(self, tags: Sequence[int]) -> None:
        for tag in tags:
            name, delivery = self._delivered.pop(tag, (COMMANDS, 0))
            self._ack(name, [delivery])

    async def release(self) -> None:
        self._lose("released")

    async def close(self) -> None:
        self._lose("closed")

    def sever(self) -> None:
        self._loop.call_soon_threadsafe(self._lose, "the connection broke")

    def _consume(self, name: str, consumer: MemoryConsumer) -> None:
        queue = self._hub.queues[name]
        self._consuming[name] = (queue, consumer)
        queue.consume(consumer)

    def _ack(self, name: str, tags: Sequence[int]) -> None:
        if self._events.lost is None and name in self._consuming:
            queue, consumer = self._consuming[name]
            for tag in tags:
                queue.ack(consumer, tag)

    def _cancelled(self) -> None:
        self._lose("the broker cancelled the consumer (deleted, moved or timed out)")

    def _lose(self, reason: str) -> None:
        if self._events.lose(reason):
            self._hub.links.remove(self._lose)
            for queue, consumer in self._consuming.values():
                queue.leave(consumer)

    def _baton_arrived(self, tag: int, message: MemoryMessage) -> None:
        self._events.put(
            BatonArrived(tag=tag, message_id=message.message_id, redelivered=message.redelivered)
        )

    def _command_arrived(self, name: str, delivery: int, message: MemoryMessage) -> None:
        tag = next(self._numbers)
        self._delivered[tag] = (name, delivery)
        self._events.put(
            CommandArrived(
                tag=tag,
                body=message.body,
                message_id=message.message_id,
                reply_to=message.reply_to,
                correlation_id=message.correlation_id,
                user=message.user,
                headers=message.headers,
                kept=name == NEWER,
            )
        )


class MemoryControl:
    """A `Control`; it is lost with the links."""

    def __init__(self, hub: MemoryHub) -> None:
        self._hub = hub
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()  # None, at the end: lost
        hub.listeners.append(self._arrived.put_nowait)
        hub.links.append(self._lose)

    async def next(self) -> bytes:
        body = await self._arrived.get()
        if body is None:
            self._arrived.put_nowait(None)
            raise UnreachableError("broker", "the connection to the broker was lost", "It is opened again")
        return body

    async def close(self) -> None:
        if self._lose in self._hub.links:
            self._lose("closed")

    def _lose(self, _: str) -> None:
        self._hub.links.remove(self._lose)
        self._hub.listeners.remove(self._arrived.put_nowait)
        self._arrived.put_nowait(None)


class MemoryPublisher:
    """A `Publisher`. Publishes to queues of the hub at once; what is blocked is not kept for later."""

    def __init__(self, hub: MemoryHub, user: str, clock: Clock) -> None:
        self._hub = hub
        self._user = user
        self._clock = clock
        self._is_closed = False

    async def publish_baton(self, message_id: str, body: bytes, timeout: float) -> bool:  # noqa: ARG002
        self._check_open()
        if self._hub.blocked:
            return False
        self._hub.queues[BATON].put(MemoryMessage(body=body, message_id=message_id))
        return True

    async def publish_command(
        self,
        body: bytes,
        *,
        command_id: str,
        reply_to: str | None,
        expires: float | None = None,  # noqa: ARG002  no time passes in here
    ) -> None:
        self._check_takes()
        message = MemoryMessage(
            body=body, message_id=command_id, correlation_id=command_id, reply_to=reply_to, user=self._user
        )
        self._hub.queues[COMMANDS].put(message)

    async def reply(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:  # noqa: ARG002  one address a request
        self._check_open()
        if requester := self._hub.requesters.get(reply_to):
            requester(body)

    async def reject(self, command: CommandArrived, *, code: str, message: str, field: str | None) -> None:
        self._check_takes()
        headers = rejected_headers(command, code=code, message=message, field=field, at=self._clock.now())
        message_id = command.message_id or uuid4().hex
        self._hub.queues[REJECTED].put(
            MemoryMessage(body=command.body, message_id=message_id, headers=headers)
        )

    async def keep(self, command: CommandArrived) -> None:
        self._check_takes()
        self._hub.queues[NEWER].put(
            MemoryMessage(
                body=command.body,
                message_id=command.message_id,
                reply_to=command.reply_to,
                correlation_id=command.correlation_id,
                user=command.user,
                headers=command.headers,
            )
        )

    async def publish_control(self, body: bytes) -> None:
        self._check_takes()
        if not self._hub.listeners:
            raise RefusedError("unroutable", "no queue takes the message: no instance listens")
        for listener in list(self._hub.listeners):
            listener(body)

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        headers: Mapping[str, Any],
        *,
        content_type: str,  # noqa: ARG002  nobody reads it here
    ) -> None:
        self._check_takes()
        if (exchange, routing_key) not in self._hub.routes:
            raise RefusedError(
                "unroutable",
                f"no queue takes the message (exchange {exchange!r}, routing key {routing_key!r})",
            )
        self._hub.published.append((exchange, routing_key, body, headers))

    async def close(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnreachableError("broker", "the connection to the broker was closed by this instance", "")
        self._hub.check_reachable()

    def _check_takes(self) -> None:
        self._check_open()
        if self._hub.blocked:
            raise UnreachableError(
                "broker", "the broker takes no messages", "It may be under a memory or disk alarm"
            )
