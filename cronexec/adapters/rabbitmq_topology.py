"""The queues of a namespace, declared as each server version needs them.

A delivery limit of -1 is what keeps the baton and the commands of a 4.x server from being dropped after 20 requeues, and what makes a 3.x
server drop them at the first. Queues outlive releases and settings: one that exists with other arguments is used as it is, since a
re-declaration is refused (406) and deleting it is not ours to do. The exception is a baton queue without single active consumer:
there renewals would reach other instances, so nobody competes on it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cronexec.adapters.amqp import AmqpConnection, ChannelClosedError, Declared
from cronexec.adapters.amqp_problems import explain_refused, unreachable
from cronexec.errors import UnreachableError

QueueType = Literal["quorum", "classic"]

SINGLE = "x-single-active-consumer"
NOT_FOUND = 404
PRECONDITION_FAILED = 406
DIFFERS = re.compile(r"inequivalent arg '(?P<name>[^']+)'.*current is (?P<current>.+)$")
UNLIMITED_SINCE = (
    4,
)  # where x-delivery-limit -1 means "no limit"; before, it means "drop at the first requeue"
ARGUMENTS_AT_MOST = 20


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
    def rejected(self) -> str:
        return f"{self.namespace}.commands.rejected"

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
        for queue in (self.rejected, self.commands, self.baton):
            await self.declare(connection, queue)

    async def declare(self, connection: AmqpConnection, queue: str) -> Declared:
        """Declare one queue, or take the existing one as it is.

        Raises:
            UnreachableError: no permission, or the baton queue is there without single active consumer.
        """
        wanted = self.arguments(queue, connection.version)
        durable = True
        for _ in range(ARGUMENTS_AT_MOST):
            channel = await connection.channel()
            try:
                return await channel.declare(queue, durable=durable, arguments=wanted)
            except ChannelClosedError as error:
                differs = DIFFERS.search(error.text) if error.code == PRECONDITION_FAILED else None
                if differs is None:
                    raise explain_refused(error, queue) from error
            finally:
                await channel.close()
            if queue == self.baton and differs["name"] == SINGLE:
                raise self._competing_is_unsafe()
            if differs["name"] not in wanted:
                break
            wanted = _as_it_is(wanted, differs["name"], differs["current"])
        return await look_up(connection, queue)

    def _competing_is_unsafe(self) -> UnreachableError:
        return unreachable(
            f"the queue {self.baton} exists without {SINGLE}, so two instances could hold the baton at once",
            f"Stop the instances, delete the queue (rabbitmqctl delete_queue {self.baton}) and start them again: they declare it as it must be",
        )


async def look_up(connection: AmqpConnection, queue: str) -> Declared:
    """Return ready messages and consumers of an existing queue; raises UnreachableError when it is not there or not for us."""
    channel = await connection.channel()
    try:
        return await channel.look_up(queue)
    except ChannelClosedError as error:
        raise explain_refused(error, queue) from error
    finally:
        await channel.close()


def _as_it_is(arguments: Mapping[str, Any], name: str, current: str) -> dict[str, Any]:
    """Replace one argument by what the server says it is, so that the next declaration can find the next difference."""
    others = {key: value for key, value in arguments.items() if key != name}
    value = re.search(r"'([^']*)'", current)
    if value is None or "none" in current:
        return others
    return others | {name: _parse(value[1])}


def _parse(text: str) -> Any:
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text
