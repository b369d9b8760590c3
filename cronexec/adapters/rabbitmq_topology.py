"""The queues of a namespace, declared as each server version needs them.

A delivery limit of -1 is what keeps the baton and the commands of a 4.x server from being dropped after 20
requeues, and what makes a 3.x server drop them at the first. `x-consumer-timeout` is left out: no argument
protects on every version (a classic queue of 4.3 refuses it), renewing the baton does.

Queues outlive releases and settings: one that exists with other arguments is used as it is, since a
re-declaration is refused (406) and deleting it is not ours to do. The exception is a baton queue without
single active consumer: there renewals would reach other instances, so nobody competes on it. A 406 names only
the first difference, so a queue is declared again and again, each time with what was named, until the server
agrees: then all arguments are known.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from cronexec.adapters.amqp import AmqpConnection, Declared
from cronexec.adapters.amqp_problems import ChannelClosedError, explain_refused, unreachable
from cronexec.errors import UnreachableError

QueueType = Literal["quorum", "classic"]

SINGLE = "x-single-active-consumer"
PRECONDITION_FAILED = 406
DIFFERS = re.compile(r"(?:inequivalent|invalid) arg '(?P<name>[^']+)'(?:.* current is (?P<current>.+))?")
UNLIMITED_SINCE = (4,)  # where x-delivery-limit -1 means "no limit"
DIFFERENCES_AT_MOST = 20  # RabbitMQ knows fewer arguments


@dataclass(frozen=True, slots=True)
class Topology:
    """The names and arguments of a namespace's queues."""

    namespace: str
    queue_type: QueueType = "quorum"

    @property
    def baton(self) -> str:
        return f"{self.namespace}.baton"

    @property
    def commands(self) -> str:
        return f"{self.namespace}.commands"

    @property
    def newer(self) -> str:
        """Commands of a newer schema than the holder's, in their order, for a newer holder."""
        return f"{self.namespace}.commands.newer"

    @property
    def rejected(self) -> str:
        return f"{self.namespace}.commands.rejected"

    @property
    def control(self) -> str:
        """The exchange for what is said to all instances."""
        return f"{self.namespace}.control"

    def arguments(self, queue: str, version: tuple[int, ...]) -> dict[str, Any]:
        """Return the arguments to declare `queue` with on a server of `version`."""
        arguments: dict[str, Any] = {"x-queue-type": self.queue_type}
        if self.queue_type == "quorum" and version >= UNLIMITED_SINCE:
            arguments["x-delivery-limit"] = -1
        if queue != self.rejected:
            arguments[SINGLE] = True
        if queue == self.commands:
            arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.rejected}
        return arguments

    async def declare_all(self, connection: AmqpConnection) -> None:
        """Declare every queue; raises UnreachableError when one cannot be used."""
        for queue in (self.rejected, self.newer, self.commands, self.baton):
            await self.declare(connection, queue)

    async def declare(self, connection: AmqpConnection, queue: str) -> Declared:
        """Declare one queue, or take the existing one as it is.

        Raises:
            UnreachableError: no permission, or the baton queue is there without single active consumer.
        """
        shape = Shape({"durable": True, "auto_delete": False}, self.arguments(queue, connection.version))
        for _ in range(DIFFERENCES_AT_MOST):
            try:
                return await _declare(connection, queue, shape)
            except ChannelClosedError as error:
                differs = DIFFERS.search(error.text)
                if error.code != PRECONDITION_FAILED or differs is None:
                    raise explain_refused(error, f"the queue {queue}") from error
                if queue == self.baton and differs["name"] == SINGLE:
                    raise self._competing_is_unsafe() from error
                shape = shape.as_it_is(differs["name"], differs["current"])
        raise unreachable(
            f"the arguments of the queue {queue} could not be found out", "See the broker's log"
        )

    def _competing_is_unsafe(self) -> UnreachableError:
        return unreachable(
            f"the queue {self.baton} exists without {SINGLE}, so two instances could hold the baton at once",
            f"Stop the instances, delete it (rabbitmqctl delete_queue {self.baton}) and start them again: "
            "they declare it as it must be",
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a queue is declared with."""

    flags: dict[str, bool]
    arguments: dict[str, Any]

    def as_it_is(self, name: str, current: str | None) -> "Shape":
        """Return the shape with one property as the server's text `current` has it; None drops it."""
        quoted = re.search(r"'([^']*)'", current or "")
        if name in self.flags:
            return Shape(self.flags | {name: not self.flags[name]}, self.arguments)
        arguments = {key: value for key, value in self.arguments.items() if key != name}
        if quoted is not None:
            arguments[name] = _parse(quoted[1])
        return Shape(self.flags, arguments)


async def _declare(connection: AmqpConnection, queue: str, shape: Shape) -> Declared:
    """Declare on a channel of its own: a refusal costs the channel."""
    channel = await connection.channel()
    try:
        return await channel.declare(queue, arguments=shape.arguments, **shape.flags)
    finally:
        await channel.close()


def _parse(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text
