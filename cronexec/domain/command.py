"""Commands and replies: what travels on the command queue, as JSON that any language can write.

A command is `{"schema": 1, "id": "…", "type": "job.put", …}`. The id is the sender's and makes the command
happen once; a reply is `{"id", "ok": true, "result": {…}}` or `{"id", "ok": false, "error": {"code",
"message", "field"}}`.

An id stands for one content: `same_content` tells whether a known id came with that again. It looks at the
fields as they were sent, not at what this release makes of them: another release says the same.

A body comes from outside and may be anything: it is bounded in size before it is read and in depth while it
is, its numbers are finite, its keys unique. A command of a newer schema is told apart before anything else is
judged, because a newer holder will understand it.

The commands themselves are in `commands_job`, `commands_trigger` and `commands_run`. A new one goes there,
into `Command` below, and into `apply`.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from cronexec.domain.command_model import SCHEMA, is_key
from cronexec.domain.commands_job import (
    BlackoutJob,
    DeleteJob,
    PauseJob,
    PutJob,
    ResumeJob,
    SkipSlots,
    UnblackoutJob,
)
from cronexec.domain.commands_run import CancelRun, KeptCommands, ReleaseBaton, ResolveRun, RetryRun
from cronexec.domain.commands_trigger import BackfillJob, TriggerJob
from cronexec.domain.document_schema import publish_schema
from cronexec.domain.job import READ_FROM
from cronexec.domain.json_values import means_the_same
from cronexec.domain.problems import expected, invalid_document
from cronexec.errors import CronexecError, FieldProblem, InvalidDocumentError

__all__ = [
    "MAX_BODY_BYTES",
    "SCHEMA",
    "BackfillJob",
    "BlackoutJob",
    "CancelRun",
    "Command",
    "DeleteJob",
    "ErrorCode",
    "KeptCommands",
    "NewerSchemaError",
    "PauseJob",
    "PutJob",
    "ReleaseBaton",
    "ResolveRun",
    "ResumeJob",
    "RetryRun",
    "SkipSlots",
    "TriggerJob",
    "UnblackoutJob",
    "command_from_fields",
    "command_identity",
    "command_schema",
    "encode_command",
    "error_reply",
    "ok_reply",
    "parse_command",
    "read_command",
    "same_content",
]

MAX_BODY_BYTES = 256 * 1024


class ErrorCode(StrEnum):
    """Why a command was refused; the contract with programs."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    VERSION_CONFLICT = "version_conflict"
    CONFLICT = "conflict"
    ID_REUSED = "id_reused"
    UNREADABLE_JOB = "unreadable_job"
    ALREADY_SETTLED = "already_settled"
    UNWRITABLE = "unwritable"
    DISCARDED = "discarded"
    INTERNAL = "internal"


class NewerSchemaError(CronexecError):
    """The command is of a newer schema than this instance knows: keep it for a newer holder."""

    def __init__(self, schema: int, command_id: str | None) -> None:
        super().__init__(
            f"the command has schema {schema}, and this instance knows up to {SCHEMA}; update the instances"
        )
        self.schema = schema
        self.command_id = command_id


Command = (
    PutJob
    | DeleteJob
    | PauseJob
    | ResumeJob
    | SkipSlots
    | BlackoutJob
    | UnblackoutJob
    | TriggerJob
    | BackfillJob
    | CancelRun
    | RetryRun
    | ResolveRun
    | KeptCommands
    | ReleaseBaton
)

_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])


def parse_command(body: bytes) -> Command:
    """Return the command that a message carries. Raises as `read_command` does."""
    return read_command(body)[0]


def read_command(body: bytes) -> tuple[Command, dict[str, Any]]:
    """Return the command that a message carries, and its fields as they were sent.

    Raises:
        InvalidDocumentError: it is no command; every wrong field is named.
        NewerSchemaError: it is of a schema that this version does not know.
    """
    sent = _read_object(body)
    document = {name: value for name, value in sent.items() if name != "schema"}
    schema = sent.get("schema")
    number = schema if isinstance(schema, int) and not isinstance(schema, bool) else 0
    if number > SCHEMA:
        raise NewerSchemaError(number, _readable_id(sent))
    found = [] if number == SCHEMA else [FieldProblem("schema", expected(str(SCHEMA), schema))]
    try:
        command = command_from_fields(document, read_from=len(body))
    except InvalidDocumentError as error:
        raise InvalidDocumentError([*found, *error.problems]) from None
    if found:
        raise InvalidDocumentError(found)
    return command, sent


def same_content(sent: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two commands, as they were sent, ask for the same, however their JSON is written.

    The order of keys, 1.0 for 1 (some languages write no other) and a field that is null make no difference,
    nor does who sends it; 1 and true do.
    """
    return means_the_same(_content(sent), _content(other))


def command_from_fields(fields: Mapping[str, Any], *, read_from: int | None = None) -> Command:
    """Return the command with these fields, `type` and `id` among them.

    `read_from`: how many bytes of JSON they were read from. Raises InvalidDocumentError with every wrong
    field.
    """
    try:
        return _COMMAND.validate_python(dict(fields), context={READ_FROM: read_from})
    except ValidationError as error:
        raise invalid_document(error, Command) from None


def command_identity(body: bytes) -> str | None:
    """Return the id of a message that is no valid command, to answer it by; or None."""
    try:
        return _readable_id(_read_object(body))
    except InvalidDocumentError:
        return None


def encode_command(command: Command) -> bytes:
    """Return the message that carries `command`.

    Raises InvalidDocumentError where it is too large to be accepted.
    """
    body = json.dumps(command.to_document(), ensure_ascii=False, separators=(",", ":")).encode()
    _check_length(body)
    return body


def ok_reply(command_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply to a command that was applied."""
    return {"id": command_id, "ok": True, "result": dict(result)}


def error_reply(command_id: str | None, code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """Return the reply to a command that was refused.

    `code` is one of `ErrorCode`; `field` is the path of the wrong field.
    """
    return {"id": command_id, "ok": False, "error": {"code": str(code), "message": message, "field": field}}


def command_schema() -> dict[str, Any]:
    """Return the JSON Schema of all commands, the job document included."""
    published = publish_schema(_COMMAND.json_schema(), "cronexec command")
    for definition in published["$defs"].values():
        if "id" in definition.get("properties", {}):
            definition["properties"] = {"schema": {"const": SCHEMA}, **definition["properties"]}
            definition["required"] = ["schema", *definition["required"]]
    return published


def _read_object(body: bytes) -> dict[str, Any]:
    _check_length(body)
    try:
        document = json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    except RecursionError:
        raise _no_command("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise _no_command(f"expected JSON in UTF-8; byte {error.start} is none") from None
    except json.JSONDecodeError as error:
        raise _no_command(f"expected JSON; line {error.lineno}, column {error.colno}: {error.msg}") from None
    except InvalidDocumentError:
        raise
    except ValueError:  # Python converts no numbers of thousands of digits
        raise _no_command("a number of thousands of digits cannot be read") from None
    if not isinstance(document, dict):
        raise _no_command(expected("an object", document))
    return document


def _check_length(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        size = len(body) / 1024
        raise _no_command(f"a command has at most {MAX_BODY_BYTES // 1024} KiB; this one has {size:.0f} KiB")


def _no_command(message: str) -> InvalidDocumentError:
    return InvalidDocumentError([FieldProblem("", message)])


def _refuse_constant(constant: str) -> Any:
    raise _no_command(f"{constant} is no JSON; expected a finite number, text or null")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = next(
            key for index, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:index])
        )
        raise _no_command(f"the field {twice!r} is given twice in one object")
    return document


def _content(sent: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sent.items() if value is not None and name != "issued_by"}


def _readable_id(document: Mapping[str, Any]) -> str | None:
    command_id = document.get("id")
    return command_id if isinstance(command_id, str) and is_key(command_id) else None
