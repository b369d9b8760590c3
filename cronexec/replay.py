"""Replaying: messages of the rejected queue are sent anew, or thrown away.

A message leaves the rejected queue only when the broker has confirmed it in the command queue. Whoever dies
in between has it in both, and the second of the two is answered like the first: it goes by the same id. A new
id is drawn only where the old one is on record for a command with other content, which would otherwise be
rejected again.
"""

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cronexec.domain.command import (
    Command,
    NewerSchemaError,
    command_identity,
    encode_command,
    read_command,
    same_content,
)
from cronexec.errors import (
    CronexecError,
    InvalidDocumentError,
    NotYetAppliedError,
    RefusedError,
)
from cronexec.ports import Broker, RejectedCommand, Store, TakenReject

MOST = 1_000

Edit = Callable[[bytes], Awaitable[bytes | None]]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of a message. `id`: as `identity` tells; `sent_as`: its id as a command, None if not sent.

    `removed`: whether it is out of the rejected queue. `reply`: the holder's, if there is one.
    """

    id: str | None
    sent_as: str | None = None
    removed: bool = False
    reply: dict[str, Any] | None = None
    error: CronexecError | None = None


def identity(rejected: RejectedCommand) -> str | None:
    """Return what a rejected message is named by: its command's id, or else the message's own."""
    return command_identity(rejected.body) or rejected.message_id


def choose(taken: Sequence[TakenReject], ids: Sequence[str]) -> list[TakenReject]:
    """Return the messages with these ids, all where there are none. Raises RefusedError for unknown ids."""
    known = {identity(each.command) for each in taken} | {each.command.message_id for each in taken}
    if missing := [each for each in ids if each not in known]:
        raise RefusedError("not_found", f"no rejected message has the id {', '.join(missing)}", "id")
    return [each for each in taken if not ids or {identity(each.command), each.command.message_id} & set(ids)]


class Replay:
    """Sends rejected messages anew, one after the other. `wait`: seconds for each answer."""

    def __init__(self, *, store: Store, broker: Broker, wait: float, edit: Edit | None = None) -> None:
        self._store = store
        self._broker = broker
        self._wait = wait
        self._edit = edit

    async def send(self, taken: TakenReject) -> Replayed:
        """Send one message, changed by `edit` if there is one that does.

        It stays where it is when it is no valid command, and when nobody knows whether it was sent.
        """
        name = identity(taken.command)
        try:
            command = await self._prepare(taken.command.body)
        except (InvalidDocumentError, NewerSchemaError) as error:
            return Replayed(id=name, error=error)
        if command is None:
            return Replayed(id=name)
        try:
            reply = await self._request(command)
        except NotYetAppliedError as error:
            if error.confirmed:
                taken.remove()
            return Replayed(id=name, sent_as=command.id, removed=error.confirmed, error=error)
        except CronexecError as error:
            return Replayed(id=name, error=error)
        taken.remove()
        return Replayed(id=name, sent_as=command.id, removed=True, reply=dict(reply), error=_refusal(reply))

    async def _request(self, command: Command) -> Mapping[str, Any]:
        return await self._broker.request(encode_command(command), command_id=command.id, wait=self._wait)

    async def _prepare(self, body: bytes) -> Command | None:
        """Return the command to send; None where somebody was to edit it and did not."""
        edited = await self._edit(body) if self._edit else body
        if edited is None:
            return None
        command, sent = read_command(edited)
        recorded = (await self._store.commands.replies([command.id])).get(command.id)
        if recorded is None or same_content(sent, recorded.document):
            return command
        return command.model_copy(update={"id": str(uuid.uuid4())})


def discard(taken: TakenReject) -> Replayed:
    """Throw a message away."""
    taken.remove()
    return Replayed(id=identity(taken.command), removed=True)


def readable(body: bytes) -> str:
    """Return a message's body as text to be edited."""
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False) + "\n"
    except ValueError:
        return body.decode(errors="replace")


def _refusal(reply: Any) -> CronexecError | None:
    if reply.get("ok"):
        return None
    error = reply["error"]
    return RefusedError(error["code"], error["message"], error.get("field"))
