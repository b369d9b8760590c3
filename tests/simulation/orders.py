"""What became of commands (I6): a model of the jobs, driven by the commands in the order of the queue.

It is told of every message that the queue took, of every command that a fenced write recorded, of every ack
and every reply. The jobs of the database must be what the recorded commands make of them, one by one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from history import History

from cronexec.adapters.memory_hub import COMMANDS, REJECTED, MemoryMessage, MemoryQueue
from cronexec.adapters.memory_store import MemoryDatabase
from cronexec.ports import AppliedCommand, Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What commands say about a job."""

    document: Mapping[str, Any]
    version: int = 1
    is_paused: bool = False
    paused_until: datetime | None = None
    is_deleted: bool = False

    def at(self, instant: datetime) -> "_Job":
        """Return it as it is at an instant: a pause may have ended meanwhile."""
        if self.paused_until is None or self.paused_until > instant:
            return self
        return replace(self, is_paused=False, paused_until=None)


class CommandQueue(MemoryQueue):
    """Remembers at which place each command first stood."""

    def __init__(self) -> None:
        super().__init__()
        self.first_place: dict[str, int] = {}

    def put(self, message: MemoryMessage) -> None:
        self.first_place.setdefault(message.message_id or "", self._places + 1)
        super().put(message)


class Orders:
    def __init__(self, history: History, database: MemoryDatabase, queues: dict[str, MemoryQueue]) -> None:
        self._history = history
        self._database = database
        self._queues = queues
        self._jobs: dict[str, _Job] = {}
        self._last_place = 0

    @property
    def queue(self) -> CommandQueue:
        queue = self._queues[COMMANDS]
        assert isinstance(queue, CommandQueue)
        return queue

    def missing(self) -> list[str]:
        """Return the commands that the queue took and that are nowhere yet."""
        return [each for each in self.queue.first_place if not self._is_safe(each)]

    def seeded(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a job that was there before any command."""
        self._jobs[name] = _Job(document=document)

    def applied(self, batch: Batch) -> None:
        for command in batch.commands:
            self._check_order(command)
            self._apply(command)
        for job in batch.jobs:
            model = self._jobs.get(job.name)
            expected = model and model.at(batch.until)
            paused = job.paused_at(batch.until)
            found = _Job(
                document=job.document.to_document(),
                version=job.version,
                is_paused=paused is not None,
                paused_until=paused.until_at if paused else None,
                is_deleted=job.deleted_at is not None,
            )
            if found != expected:
                self._history.violate("I6", f"the job is {found}, and commands make it {expected}")

    def acked(self, message: MemoryMessage) -> None:
        if not self._is_safe(message.message_id or ""):
            self._history.violate("I6", f"the command {message.message_id} was acked, and is nowhere")

    def replied(self, reply: Mapping[str, Any]) -> None:
        recorded = self._database.commands.get(reply["id"])
        if recorded is not None and recorded.reply != reply:
            self._history.violate("I6", f"{reply['id']} was answered otherwise than it is recorded")
        if recorded is None and reply["ok"]:
            self._history.violate("I6", f"{reply['id']} was answered before it was recorded")

    def _is_safe(self, command_id: str) -> bool:
        rejected = self._queues[REJECTED].ready
        return command_id in self._database.commands or any(
            each.message_id == command_id for each in rejected
        )

    def _check_order(self, command: AppliedCommand) -> None:
        place = self.queue.first_place.get(command.id)
        if place is None:
            self._history.violate("I6", f"{command.id} was applied, and nobody sent it")
        elif place <= self._last_place:
            self._history.violate("I6", f"{command.id} (place {place}) was applied after {self._last_place}")
        else:
            self._last_place = place

    def _apply(self, command: AppliedCommand) -> None:
        fields = command.document
        name = fields["job"]["name"] if command.type == "job.put" else fields.get("name", "")
        job = self._jobs.get(name)
        is_there = job is not None and not job.is_deleted
        if command.type == "job.put":
            self._put(name, fields["job"])
        elif command.type.startswith("job.") and command.reply["ok"] and not is_there:
            self._history.violate("I6", f"{command.id} {command.type} was done to a job that is not there")
        elif command.type == "job.delete" and job is not None and is_there:
            self._jobs[name] = replace(job, is_deleted=True, is_paused=False, paused_until=None)
        elif command.type in {"job.pause", "job.resume"} and job is not None and is_there:
            if command.reply["ok"]:
                until = command.reply["result"].get("paused_until")
                self._jobs[name] = replace(
                    job,
                    is_paused=command.type == "job.pause",
                    paused_until=datetime.fromisoformat(until) if until else None,
                )
        elif command.type == "job.trigger" and command.reply["ok"]:
            self._check_trigger(command)

    def _put(self, name: str, document: Mapping[str, Any]) -> None:
        job = self._jobs.get(name)
        if job is None:
            self._jobs[name] = _Job(document=document)
        elif job.is_deleted:
            self._jobs[name] = _Job(document=document, version=job.version + 1)
        elif json.dumps(job.document, sort_keys=True) != json.dumps(document, sort_keys=True):
            self._jobs[name] = replace(job, document=document, version=job.version + 1)

    def _check_trigger(self, command: AppliedCommand) -> None:
        run_id = command.reply["result"]["run"]
        if run_id not in self._database.runs:
            self._history.violate("I6", f"{command.id} triggered {run_id}, which is not in the ledger")
