"""The broker: the queues of `memory_hub` on a server, and connections to it that may break anywhere.

A connection is known to both its ends, and each learns of its end in its own time: a stopped process still
believes in a connection that the server has given up and whose messages others have. Deliveries and acks of
one queue keep their order; those of two queues, which have a channel each, overtake each other.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from history import History
from simulated_loop import Process
from simulated_network import Network, Stream, Wire
from watcher import Watcher

from cronexec.adapters.link_events import LinkEvents
from cronexec.adapters.memory_hub import BATON, COMMANDS, REJECTED, MemoryConsumer, MemoryMessage, MemoryQueue
from cronexec.errors import UnreachableError
from cronexec.ports import BatonArrived, CommandArrived, LinkEvent

BATON_PREFETCH = 8
COMMAND_PREFETCH = 16
CANCEL_TIMEOUT = 0.5
CONNECT_TIMEOUT = 2.0


class BrokerServer:
    """`is_down`: no connection; `is_blocked`: under an alarm, what is published waits."""

    def __init__(self, network: Network, history: History, watcher: Watcher) -> None:
        self.network = network
        self.history = history
        self.watcher = watcher
        self.queues = {name: MemoryQueue() for name in (BATON, COMMANDS, REJECTED)}
        self.sessions: list[Session] = []
        self.is_down = False
        self.is_blocked = False
        self.held: list[Callable[[], None]] = []

    def drop(self, process: Process | None, why: str) -> None:
        """Give up the connections of a process, or all."""
        for session in [each for each in self.sessions if process in {None, each.process}]:
            session.give_up(why)

    def go_down(self) -> None:
        self.is_down = True
        self.drop(None, "the broker went down")

    def unblock(self) -> None:
        self.is_blocked = False
        held, self.held = self.held, []
        for publish in held:
            publish()

    def publish(self, queue: str, message: MemoryMessage) -> None:
        if self.is_blocked:
            self.held.append(partial(self.publish, queue, message))
            return
        self.queues[queue].put(message)
        self.history.add("mq", "published", queue=queue, id=message.message_id)

    def batons(self) -> int:
        """Return how many there are, ready or with somebody."""
        return len(self.queues[BATON].ready) + sum(session.batons() for session in self.sessions)

    def lose_batons(self) -> None:
        """Forget all batons, as a queue with a delivery limit may."""
        queue = self.queues[BATON]
        self.drop(None, "the queue's leader moved")
        queue.ready.clear()


class Session:
    """The server's end of a consuming connection."""

    def __init__(self, server: BrokerServer, process: Process, link: "SimulatedLink", wire: Wire) -> None:
        self.server = server
        self.process = process
        self.link = link
        self.is_open = True
        self.has_nacked = False
        self._consumers: dict[str, tuple[MemoryQueue, MemoryConsumer]] = {}
        self.down = {name: Stream(server.network, wire.down, process) for name in (BATON, COMMANDS)}
        server.sessions.append(self)

    def consume(self, name: str) -> None:
        if not self.is_open or name in self._consumers:
            return
        prefetch = BATON_PREFETCH if name == BATON else COMMAND_PREFETCH
        queue = self.server.queues[name]
        consumer = MemoryConsumer(prefetch, partial(self._deliver, name), lambda: None)
        self._consumers[name] = (queue, consumer)
        queue.consume(consumer)

    def _deliver(self, name: str, tag: int, message: MemoryMessage) -> None:
        if name == BATON:
            self.server.history.add(
                "mq", "baton", to=self.process.name, place=message.place, again=message.redelivered
            )
            if self.has_nacked:
                self.server.history.violate(
                    "I8", f"the baton came back to {self.process.name}, who released it"
                )
        arrived = self.link.baton_arrived if name == BATON else self.link.command_arrived
        self.down[name].send(arrived, tag, message)

    def ack(self, name: str, tags: Sequence[int]) -> None:
        if not self.is_open or name not in self._consumers:
            return
        queue, consumer = self._consumers[name]
        for tag in tags:
            message = consumer.unacked.get(tag)
            queue.ack(consumer, tag)
            if message is not None and name == COMMANDS:
                self.server.watcher.command_acked(message)
            if message is not None and name == BATON and self.server.batons() == 0:
                self.server.history.violate("I4", f"{self.process.name} acked the last baton")

    def cancel(self, answer: Callable[[], None]) -> None:
        """Cancel the baton's consumer; what it has stays with it."""
        if self.is_open and BATON in self._consumers:
            queue, consumer = self._consumers[BATON]
            if consumer in queue.consumers:
                queue.consumers.remove(consumer)
        self.down[BATON].send(answer)

    def nack(self) -> None:
        """Requeue the batons."""
        if not self.is_open or BATON not in self._consumers:
            return
        queue, consumer = self._consumers[BATON]
        self.has_nacked = True
        queue.ready += [replace(message, redelivered=True) for message in consumer.unacked.values()]
        queue.ready.sort(key=lambda message: message.place)
        consumer.unacked.clear()
        queue._deliver()  # to ourselves, if we still consume

    def batons(self) -> int:
        return len(self._consumers[BATON][1].unacked) if BATON in self._consumers else 0

    def take_away(self) -> None:
        """Cancel the baton's consumer from here (its timeout, a queue that moved), and say so."""
        if self.is_open and BATON in self._consumers:
            queue, consumer = self._consumers[BATON]
            queue.leave(consumer)
            self.down[BATON].send(self.link.lose, "the broker cancelled the consumer")

    def give_up(self, why: str) -> None:
        """Close from here."""
        if self.is_open:
            self.close()
            self.down[BATON].send(self.link.lose, why)

    def close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.server.sessions.remove(self)
        for queue, consumer in self._consumers.values():
            queue.leave(consumer)


class SimulatedLink:
    """A `Link`: the client's end."""

    tells_of_deletion = True

    def __init__(self, server: BrokerServer, process: Process, wire: Wire) -> None:
        self._network = server.network
        self._history = server.history
        self._process = process
        self._events = LinkEvents()
        self._takes_commands = False
        self._is_closed = False
        self.session = Session(server, process, self, wire)
        self.up = {name: Stream(server.network, wire.up, None) for name in (BATON, COMMANDS)}
        self.up[BATON].send(self.session.consume, BATON)

    async def events(self) -> LinkEvent:
        return await self._events.next()

    async def take_kept(self) -> int:
        return 0  # nobody sends commands of a newer schema here

    async def take_commands(self) -> None:
        if not self._takes_commands and self._events.lost is None:
            self._takes_commands = True
            self.up[COMMANDS].send(self.session.consume, COMMANDS)

    def ack_baton(self, tag: int) -> None:
        if self._events.lost is None:
            self.up[BATON].send(self.session.ack, BATON, [tag])

    def ack_commands(self, tags: Sequence[int]) -> None:
        if self._events.lost is None:
            self.up[COMMANDS].send(self.session.ack, COMMANDS, tags)

    async def release(self) -> None:
        if self._events.lose("released"):
            self._history.add(self._process.name, "link.release")
            await self._cancel()
            self._nack()
        self._close()

    async def _cancel(self) -> None:
        """Wait until the server has cancelled the consumer, at most half a second."""
        done = asyncio.Event()
        self.up[BATON].send(self.session.cancel, done.set)
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await done.wait()
        except TimeoutError:
            pass

    def _nack(self) -> None:
        self.up[BATON].send(self.session.nack)

    async def close(self) -> None:
        self._events.lose("closed")
        self._close()

    def sever(self) -> None:
        self.lose("the connection broke")

    def lose(self, why: str) -> None:
        if self._events.lose(why):
            self._close()

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.up[BATON].follow(self.up[COMMANDS])
            self.up[BATON].send(self.session.close)

    def baton_arrived(self, tag: int, message: MemoryMessage) -> None:
        self._events.put(
            BatonArrived(tag=tag, message_id=message.message_id, redelivered=message.redelivered)
        )

    def command_arrived(self, tag: int, message: MemoryMessage) -> None:
        self._events.put(
            CommandArrived(
                tag=tag,
                body=message.body,
                message_id=message.message_id,
                reply_to=message.reply_to,
                correlation_id=message.correlation_id,
            )
        )


class SimulatedControl:
    """A `Control` on which nothing is ever said."""

    async def next(self) -> bytes:
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """Nothing is open."""


class SimulatedBroker:
    """A `Broker` and a `Publisher` of one process: what the runtime uses of them."""

    link_type = SimulatedLink

    def __init__(self, server: BrokerServer, process: Process) -> None:
        self._server = server
        self._network = server.network
        self._process = process
        self._wire = self._network.wire(process, "broker")
        self._up = {name: Stream(self._network, self._wire.up, None) for name in (BATON, COMMANDS, REJECTED)}

    async def open_link(self) -> SimulatedLink:
        if self._server.is_down or not await self._ask(self._network.delay, CONNECT_TIMEOUT):
            raise UnreachableError("broker", "the broker does not answer", "")
        if self._server.is_down:
            raise UnreachableError("broker", "the broker is down", "")
        return self.link_type(self._server, self._process, self._wire)

    async def open_control(self) -> "SimulatedControl":
        return SimulatedControl()

    async def publish_baton(self, message_id: str, body: bytes, timeout: float) -> bool:
        return await self._publish(BATON, MemoryMessage(body=body, message_id=message_id), timeout)

    async def publish_command(
        self,
        body: bytes,
        *,
        command_id: str,
        reply_to: str | None,
        expires: float | None = None,  # noqa: ARG002  no command here expires
    ) -> None:
        message = MemoryMessage(
            body=body, message_id=command_id, correlation_id=command_id, reply_to=reply_to
        )
        if not await self._publish(COMMANDS, message, CONNECT_TIMEOUT):
            raise UnreachableError("broker", "the broker did not confirm", "")

    async def reply(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:  # noqa: ARG002  the watcher knows whose it is
        if self._server.is_down:
            raise UnreachableError("broker", "the broker is down", "")
        self._up[COMMANDS].send(self._server.watcher.replied, body)

    async def reject(self, command: CommandArrived, *, code: str, message: str, field: str | None) -> None:
        headers: Mapping[str, Any] = {"code": code, "message": message, "field": field}
        rejected = MemoryMessage(body=command.body, message_id=command.message_id, headers=headers)
        if not await self._publish(REJECTED, rejected, CONNECT_TIMEOUT):
            raise UnreachableError("broker", "the broker did not confirm", "")
        self._server.history.add("mq", "rejected", id=command.message_id, code=code, why=message)

    async def close(self) -> None:
        """Nothing is open."""

    async def _publish(self, queue: str, message: MemoryMessage, timeout: float) -> bool:
        """Publish; returns whether it was confirmed in time. If not, it may arrive all the same."""
        return await self._ask(partial(self._server.publish, queue, message), timeout, self._up[queue])

    async def _ask(self, what: Callable[[], Any], timeout: float, up: Stream | None = None) -> bool:
        server, answered = self._server, asyncio.Event()

        def serve() -> None:
            if server.is_down:
                return
            what()
            if not server.is_blocked or up is None:
                self._network.send(self._wire.down, answer)

        def answer() -> None:
            self._network.in_process(self._process, self._network.delay(), answered.set)

        (up or Stream(self._network, self._wire.up, None)).send(serve)
        try:
            async with asyncio.timeout(timeout):
                await answered.wait()
        except TimeoutError:
            return False
        return True
