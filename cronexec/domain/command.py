"""Commands and replies: what travels on the command queue."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cronexec.domain.job import JobDocument
from cronexec.errors import CronexecError

SCHEMA = 1


class ErrorCode(StrEnum):
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    VERSION_CONFLICT = "version_conflict"


class NewerSchemaError(CronexecError):
    """The command is of a newer schema than this instance knows."""

    def __init__(self, schema: int) -> None:
        super().__init__(f"the command has schema {schema}; this instance knows up to {SCHEMA}")
        self.schema = schema


@dataclass(frozen=True, kw_only=True, slots=True)
class _Command:
    id: str
    issued_by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PutJob(_Command):
    job: JobDocument
    if_version: int | None = None
    declared: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class DeleteJob(_Command):
    name: str
    if_version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseJob(_Command):
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeJob(_Command):
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TriggerJob(_Command):
    name: str
    params: dict[str, Any] | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRun(_Command):
    run: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseBaton(_Command):
    pass


Command = PutJob | DeleteJob | PauseJob | ResumeJob | TriggerJob | CancelRun | ReleaseBaton


def parse_command(body: bytes) -> Command:
    """Raises InvalidDocumentError, NewerSchemaError."""
    raise NotImplementedError


def command_identity(body: bytes) -> str | None:
    raise NotImplementedError


def encode_command(command: Command) -> bytes:
    raise NotImplementedError


def ok_reply(command_id: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"id": command_id, "ok": True, "result": result}


def error_reply(command_id: str | None, code: str, message: str, field: str | None = None) -> dict[str, Any]:
    return {"id": command_id, "ok": False, "error": {"code": code, "message": message, "field": field}}


def command_schema() -> dict[str, Any]:
    raise NotImplementedError
