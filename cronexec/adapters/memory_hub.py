"""A broker in memory: the queues of one namespace, as the runtime relies on them, and hooks to break them.

A queue has a single active consumer, the first of those who consume it; what it has not acknowledged stays
with it until it is given back or its link goes, and then returns to its place, marked as redelivered. All
instances that share a hub run on one event loop.

Hooks: `drop_links`, `purge`, `delete_queue`, `block_publishes`, `go_down`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cronexec.errors import UnreachableError

BATON = "baton"
COMMANDS = "commands"
NEWER = "commands.newer"
REJECTED = "commands.rejected"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryMessage:
    """A message in a queue. `place` is where it belongs in it."""

    body: bytes
    place: int = 0
    redelivered: bool = False
    message_id: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    user: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)


class MemoryConsumer:
    """One who consumes a queue, through a link. `unacked` is by delivery tag."""

    def __init__(
        self, prefetch: int, deliver: Callable[[int, MemoryMessage], None], on_cancel: Callable[[], None]
    ) -> None:
        self.prefetch = prefetch
        self.deliver = deliver
        self.on_cancel = on_cancel
        self.unacked: dict[int, MemoryMessage] = {}
        self._tag = 0

    def take(self, message: MemoryMessage) -> None:
        self._tag += 1
        self.unacked[self._tag] = message
        self.deliver(self._tag, message)


class MemoryQueue:
    """Messages in order, and the consumers in the order in which they came."""

    def __init__(self) -> None:
        self.ready: list[MemoryMessage] = []
        self.consumers: list[MemoryConsumer] = []
        self._places = 0

    def put(self, message: MemoryMessage) -> None:
        self._places += 1
        self.ready.append(replace(message, place=self._places))
        self._deliver()

    def consume(self, consumer: MemoryConsumer) -> None:
        self.consumers.append(consumer)
        self._deliver()

    def ack(self, consumer: MemoryConsumer, tag: int) -> None:
        consumer.unacked.pop(tag, None)
        self._deliver()

    def leave(self, consumer: MemoryConsumer) -> None:
        """Stop consuming; what was not acknowledged is back in place before the next one gets anything."""
        if consumer in self.consumers:
            self.consumers.remove(consumer)
        self.ready += [replace(message, redelivered=True) for message in consumer.unacked.values()]
        self.ready.sort(key=lambda message: message.place)
        consumer.unacked.clear()
        self._deliver()

    def _deliver(self) -> None:
        while self.ready and self.consumers and len(self.consumers[0].unacked) < self.consumers[0].prefetch:
            self.consumers[0].take(self.ready.pop(0))


class MemoryHub:
    """What the instances of a namespace share.

    `published` has what runs sent to exchanges; an (exchange, routing key) in `routes` is routable.
    """

    def __init__(self) -> None:
        self.queues = {name: MemoryQueue() for name in (BATON, COMMANDS, NEWER, REJECTED)}
        self.routes: set[tuple[str, str]] = set()
        self.published: list[tuple[str, str, bytes, Mapping[str, Any]]] = []
        self.requesters: dict[str, Callable[[bytes], None]] = {}
        self.links: list[Callable[[str], None]] = []
        self.listeners: list[Callable[[bytes], None]] = []
        self.tells_of_deletion = True
        self.blocked = False
        self.down = False

    def drop_links(self, reason: str = "the connection broke") -> None:
        """Break every link, as a broker does that restarts."""
        for drop in list(self.links):
            drop(reason)

    def purge(self, queue: str) -> None:
        """Remove what is ready; what is with a consumer stays there."""
        self.queues[queue].ready.clear()

    def delete_queue(self, queue: str) -> None:
        """Delete a queue with all that is in it and cancel its consumers; the next one finds it empty.

        Where `tells_of_deletion` is False, nobody learns of it.
        """
        deleted, self.queues[queue] = self.queues[queue], MemoryQueue()
        for consumer in list(deleted.consumers) if self.tells_of_deletion else ():
            consumer.on_cancel()

    def block_publishes(self, *, blocked: bool = True) -> None:
        """Take no messages, as under a memory alarm; False ends it."""
        self.blocked = blocked

    def go_down(self, *, down: bool = True) -> None:
        """Break every link and accept no connection; False ends it. The queues keep what they have."""
        self.down = down
        if down:
            self.drop_links("the broker went down")

    def check_reachable(self) -> None:
        if self.down:
            raise UnreachableError("broker", "the broker is down", "Start it")
