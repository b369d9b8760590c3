"""The inbox: commands on their way from the queue into a fenced write, and their replies on the way back.

Order is the queue's order; a command is applied once for each id: one whose id is in the audit log gets its
recorded reply again, or is rejected (`id_reused`) where its content is not that of the record. What cannot be
parsed, or is not valid, is answered where that is possible and moved to the rejected queue with the reason
before it is acked: a message is acked only when its effect, its reply or its rejection is safe.

A command of a newer schema is for a newer holder. It moves to a queue of its own, where any number of them
wait in their order and hold up nothing here. Every holder looks there first, and takes commands only once
what waited there is in its hands: it was sent before. What is too new for this one as well stays unacked, and
so returns to its place with the term.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cronexec.domain.command import (
    BackfillJob,
    Command,
    ErrorCode,
    NewerSchemaError,
    command_identity,
    error_reply,
    read_command,
    same_content,
)
from cronexec.domain.job import Job
from cronexec.domain.run import Run
from cronexec.domain.situation import named_runs, named_slots
from cronexec.errors import CronexecError, InvalidDocumentError
from cronexec.log import Log
from cronexec.ports import AppliedCommand, CommandArrived, Link, Publisher, RecordedReply, Store
from cronexec.runtime.service import Backoff, Wake
from cronexec.runtime.too_new import TooNew, TooNewCommands

MOST_AT_ONCE = 256
NO_JOBS: Mapping[str, Job] = {}
LAST_REPLIES_TIMEOUT = 2.0
KEPT_TIMEOUT = 5.0  # seconds: should what was counted not come, commands must not wait for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A valid command, its fields as they were sent, and the message that it came in."""

    command: Command
    sent: Mapping[str, Any]
    arrived: CommandArrived

    def repeats(self, recorded: RecordedReply) -> bool:
        """Whether this is the recorded command again."""
        return same_content(self.sent, recorded.document)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Commands ready to be applied in order, with the ledger entries they name.

    `repeated` have been answered before.
    """

    commands: Sequence[Received]
    runs: Mapping[str, Run]
    repeated: Sequence[tuple[Received, Mapping[str, Any]]]


class Inbox:
    """Belongs to one term, and to the link that the commands came on."""

    def __init__(
        self,
        *,
        link: Link,
        publisher: Publisher,
        store: Store,
        log: Log,
        wake: Callable[[], None],
        renew_interval: timedelta,
    ) -> None:
        self._link = link
        self._publisher = publisher
        self._store = store
        self._log = log
        self._wake = wake
        self._waiting: deque[Received] = deque()
        self._singly = 0
        self._to_keep: deque[CommandArrived] = deque()
        self._kept_to_come = 0
        self._kept_are_here = Wake()
        self._too_new = TooNewCommands(
            keep=self._keep, ack=link.ack_commands, renew_interval=renew_interval, done=self._task_done
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to take commands, those first that earlier holders kept."""
        waiting = await self._link.take_kept()
        self._kept_to_come += waiting  # less those that have arrived meanwhile
        if self._kept_to_come > 0:
            self._kept_are_here.clear()
            self._spawn(self._take_commands_after_kept())
        else:
            await self._link.take_commands()

    async def _take_commands_after_kept(self) -> None:
        await self._kept_are_here.wait(KEPT_TIMEOUT)
        await self._link.take_commands()

    def arrive(self, arrived: CommandArrived) -> None:
        """Take a message from the queue: validated before anything else looks at it."""
        self._read(arrived)
        if arrived.kept:
            self._kept_to_come -= 1
            if self._kept_to_come <= 0:
                self._kept_are_here.set()

    def _read(self, arrived: CommandArrived) -> None:
        try:
            command, sent = read_command(arrived.body)
            received = Received(command=command, sent=sent, arrived=arrived)
        except NewerSchemaError as error:
            self._keep_for_newer(arrived, error)
        except InvalidDocumentError as error:
            self._spawn(self._reject(arrived, str(error), error.problems[0].field or None))
        except Exception as error:  # noqa: BLE001  a message that crashes must not end this term, and every next
            self._log.exception("command.crashed", message_id=arrived.message_id)
            why = f"it could not be read: {type(error).__name__}: {error}"
            self._spawn(self._reject(arrived, why, None, code=ErrorCode.INTERNAL))
        else:
            self._waiting.append(received)
            self._wake()

    def _keep_for_newer(self, arrived: CommandArrived, error: NewerSchemaError) -> None:
        name = error.command_id or arrived.message_id or str(arrived.tag)
        if arrived.kept:
            self._kept_to_come = 0  # those behind it may never be delivered to this holder
        if not arrived.kept or self._too_new.add(TooNew(id=name, schema=error.schema, arrived=arrived)):
            self._log.warning("command.newer_schema", schema=error.schema, why=str(error))
        if arrived.kept:
            return
        self._to_keep.append(arrived)
        if len(self._to_keep) == 1:
            self._spawn(self._keep_all())

    async def _keep_all(self) -> None:
        """Move commands one after the other, in their order."""
        while self._to_keep:
            await self._keep(self._to_keep[0])
            self._link.ack_commands([self._to_keep.popleft().tag])

    async def _keep(self, arrived: CommandArrived) -> None:
        await self._until_safe(partial(self._publisher.keep, arrived), "command.keep_delayed")

    async def _until_safe(self, publish: Callable[[], Awaitable[None]], delayed: str) -> None:
        """Publish until it is confirmed. What is not acked when the term ends comes back with the next."""
        backoff = Backoff()
        while True:
            try:
                return await publish()
            except CronexecError as error:
                self._log.warning(delayed, error=str(error))
                await asyncio.sleep(backoff.next())

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def goes_singly(self) -> bool:
        """Whether the next commands are to be written each in a write of its own."""
        return self._singly > 0

    async def prepare(self, most: int = MOST_AT_ONCE, jobs: Mapping[str, Job] = NO_JOBS) -> Prepared:
        """Take up to `most` of what has arrived, and look up what applying it to `jobs` needs."""
        taken = self._take(min(most, 1 if self._singly else MOST_AT_ONCE))
        if not taken:
            return Prepared(commands=(), runs={}, repeated=())
        self._singly = max(0, self._singly - 1)
        try:
            known = await self._store.commands.replies([received.command.id for received in taken])
            unanswered = [received for received in taken if received.command.id not in known]
            fresh = _first_of_each_id(unanswered)
            runs = await self._look_up([received.command for received in fresh.values()], jobs)
        except CronexecError:
            self.put_back(taken)
            raise
        self.put_back([one for one in unanswered if fresh[one.command.id] is not one])
        return Prepared(commands=list(fresh.values()), runs=runs, repeated=self._repeated(taken, known))

    def _take(self, most: int) -> list[Received]:
        """Take from the front. A backfill makes as many runs as fit into a write: it goes alone."""
        taken: list[Received] = []
        while self._waiting and len(taken) < most:
            goes_alone = isinstance(self._waiting[0].command, BackfillJob)
            if not (goes_alone and taken):
                taken.append(self._waiting.popleft())
            if goes_alone:
                break
        return taken

    async def _look_up(self, commands: Sequence[Command], jobs: Mapping[str, Job]) -> dict[str, Run]:
        """Return the entries of the ledger that applying the commands needs, by id."""
        wanted = [run_id for command in commands for run_id in named_runs(command)]
        runs = await self._store.runs.get_many(wanted) if wanted else {}
        for command in commands:
            if (named := self._named_slots(command, jobs)) is not None:
                runs |= {run.id: run for run in await self._store.runs.at_slots(*named)}
        return runs

    def _named_slots(
        self, command: Command, jobs: Mapping[str, Job]
    ) -> tuple[str, Sequence[datetime]] | None:
        try:
            return named_slots(command, jobs)
        except Exception:  # noqa: BLE001  to apply it crashes likewise, which rejects it
            self._log.exception("command.crashed", type=command.type, id=command.id)
            return None

    def _repeated(
        self, taken: Sequence[Received], known: Mapping[str, RecordedReply]
    ) -> list[tuple[Received, Mapping[str, Any]]]:
        """Return the commands that were answered before, with that answer; those that only look so go."""
        found = [(one, known[one.command.id]) for one in taken if one.command.id in known]
        for one, recorded in found:
            if not one.repeats(recorded):
                self._refuse_reused(one)
        return [(one, recorded.reply) for one, recorded in found if one.repeats(recorded)]

    def _refuse_reused(self, received: Received) -> None:
        """Reject a command whose id was another one's: that one's reply would be no answer to it."""
        message = (
            f"the id {received.command.id} was used before, by a command with other content, which has been "
            "answered; send this one with an id of its own (a new UUID)"
        )
        self._spawn(self._reject(received.arrived, message, "id", code=ErrorCode.ID_REUSED))

    def put_back(self, commands: Sequence[Received]) -> None:
        """Return commands to the front, in their order: the write that carried them did not happen."""
        self._waiting.extendleft(reversed(commands))

    def put_back_singly(self, commands: Sequence[Received]) -> None:
        """Return commands that could not be written together.

        Each goes into a write of its own, so that the culprit is known.
        """
        self.put_back(commands)
        self._singly = len(commands)

    def answer(self, answered: Sequence[tuple[Received, Mapping[str, Any]]]) -> None:
        """Ack commands whose replies are recorded, and send these.

        A reply that is lost is given again when asked.
        """
        if not answered:
            return
        self._link.ack_commands([received.arrived.tag for received, _ in answered])
        self._spawn(self._send([(received.arrived, reply) for received, reply in answered]))

    def refuse(self, received: Received, message: str, code: ErrorCode = ErrorCode.UNWRITABLE) -> None:
        """Reject a valid command that cannot be applied, or that the database will never take."""
        self._spawn(self._reject(received.arrived, message, None, code=code))

    @property
    def kept(self) -> dict[str, int]:
        """Return the schemas of the commands in hand that wait for a newer holder, by their ids."""
        return {each.id: each.schema for each in self._too_new}

    def discard(self, command_id: str, who: str) -> None:
        """Reject a command that waits for a newer holder."""
        for arrived in self._too_new.take(command_id):
            why = f"it was kept for a newer holder, and discarded by {who}"
            self._spawn(self._reject(arrived, why, None, code=ErrorCode.DISCARDED))

    async def close(self) -> None:
        """Stop: the term is over, and unanswered messages go back to the queue with the link.

        Replies that are on their way are sent, in bounded time: what they answer is committed and acked.
        """
        self._kept_are_here.set()
        self._too_new.close()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=LAST_REPLIES_TIMEOUT)
            for task in pending:
                task.cancel()

    async def _send(self, replies: Sequence[tuple[CommandArrived, Mapping[str, Any]]]) -> None:
        for arrived, reply in replies:
            try:
                await self._reply(arrived, reply)
            except CronexecError as error:
                self._log.warning("command.reply_not_sent", error=str(error))

    async def _reply(self, arrived: CommandArrived, reply: Mapping[str, Any]) -> None:
        if arrived.reply_to:
            body = json.dumps(reply).encode()
            await self._publisher.reply(arrived.reply_to, arrived.correlation_id, body)

    async def _reject(
        self,
        arrived: CommandArrived,
        message: str,
        field: str | None,
        code: ErrorCode = ErrorCode.INVALID,
    ) -> None:
        self._log.warning("command.rejected", code=code.value, field=field, why=message, user=arrived.user)
        await self._until_safe(
            lambda: self._publisher.reject(arrived, code=code.value, message=message, field=field),
            "command.reject_delayed",
        )
        self._link.ack_commands([arrived.tag])
        reply = error_reply(command_identity(arrived.body), code.value, message, field)
        await self._send([(arrived, reply)])

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("command.crashed", exc_info=error)


def applied(received: Received, reply: Mapping[str, Any], *, at: Any, epoch: int) -> AppliedCommand:
    """Return the audit record of a command and the reply it gets."""
    return AppliedCommand(
        id=received.command.id,
        type=received.command.type,
        received_at=at,
        reply=reply,
        document=received.sent,
        issued_by=received.command.issued_by,
        user=received.arrived.user,
        epoch=epoch,
    )


def _first_of_each_id(commands: Iterable[Received]) -> dict[str, Received]:
    """Return the commands by id without repetitions: those come again, and find the recorded reply."""
    first: dict[str, Received] = {}
    for received in commands:
        first.setdefault(received.command.id, received)
    return first
