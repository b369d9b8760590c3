"""The ground that all documents stand on: frozen models that refuse unknown fields.

A field that is None is left out, and so is one at its default: two documents that mean the same are written
the same.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from cronexec.domain.duration import format_duration, parse_duration
from cronexec.domain.problems import REFERENCE, expected, is_reference, problem, problems
from cronexec.errors import FieldProblem, InvalidDocumentError


class DocumentModel(BaseModel):
    """Base of the parts of documents.

    `fields_not_yet`, `words_not_yet`: fields and words of the design that are not built, and are refused as
    such. `homes`: fields of other parts, by the part where they belong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields_not_yet: ClassVar[frozenset[str]] = frozenset()
    words_not_yet: ClassVar[frozenset[str]] = frozenset()
    homes: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {key: value for key, value in given.items() if value is not None}
        return given

    def to_document(self) -> dict[str, Any]:
        """Return the canonical document: JSON-able, without what is at its default."""
        written = self.model_dump(mode="json", exclude_defaults=True)
        kind = getattr(self, "type", None)
        return written if kind is None else {"type": kind, **written}


def read_length(given: object) -> timedelta:
    """Read a length of time, never negative: text such as "1h30m", a number of seconds, or a timedelta."""
    seconds: Any = given.total_seconds() if isinstance(given, timedelta) else given
    try:
        return parse_duration(seconds)
    except ValueError as error:
        raise problem(str(error).removesuffix(".")) from None


def read_positive_length(given: object) -> timedelta:
    """Read a length of time above zero."""
    length = read_length(given)
    if not length:
        raise problem(expected('a length of time above zero, such as "90s" or "1h30m"', given))
    return length


def read_instant(given: object) -> datetime:
    """Read an instant, in UTC: ISO 8601 text with an offset, or an aware datetime."""
    try:
        instant = datetime.fromisoformat(given) if isinstance(given, str) else given
        if isinstance(instant, datetime) and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise problem(expected('an instant with its offset, such as "2026-12-24T18:00:00+01:00"', given))


def check_instants(**given: datetime | None) -> None:
    """Raise InvalidDocumentError where one of these is a datetime without an offset, and so no instant."""
    naive = [name for name, instant in given.items() if instant is not None and instant.tzinfo is None]
    if naive:
        told = "expected an aware datetime, such as datetime.now(UTC); got one without an offset"
        raise InvalidDocumentError([FieldProblem(name, told) for name in naive])


def write_instant(instant: datetime) -> str:
    """Return an instant as it is written: ISO 8601 in UTC, with `Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def text_map(judge: Callable[[str, str], str | None] | None = None) -> Any:
    """Return the validator of an object of texts. `judge` says what is wrong with an entry, or None."""

    def read(given: object) -> dict[str, str]:
        if not isinstance(given, Mapping):
            raise problem(expected("an object of texts", given))
        if is_reference(given):
            raise problem(REFERENCE)
        found = [
            FieldProblem(str(key), message)
            for key, value in given.items()
            if (message := _judge_text(key) or _judge_text(value) or (judge and judge(key, value)))
        ]
        if found:
            raise problems(found)
        return dict(given)

    return PlainValidator(read)


def _judge_text(given: object) -> str | None:
    if not isinstance(given, str):
        return f"{expected('text', given)}; put it in quotes"
    if not is_storable(given):
        return "text with a null character or half a surrogate pair cannot be stored"
    return None


def is_storable(text: str) -> bool:
    """Whether the database and the broker can keep `text`."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


_LENGTH_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": "^\\s*[0-9][0-9.dhms]*\\s*$"},
        {"type": "number", "minimum": 0},
    ],
    "examples": ["90s", "1h30m", 60],
}

_LENGTH_WRITTEN = (PlainSerializer(format_duration), WithJsonSchema(_LENGTH_SCHEMA))
Length = Annotated[timedelta, BeforeValidator(read_length), *_LENGTH_WRITTEN]
Instant = Annotated[
    datetime,
    PlainValidator(read_instant),
    PlainSerializer(write_instant),
    WithJsonSchema({"type": "string", "examples": ["2026-12-24T18:00:00+01:00"]}),
]
PositiveLength = Annotated[timedelta, BeforeValidator(read_positive_length), *_LENGTH_WRITTEN]
TEXT_MAP_SCHEMA = WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}})
NO_TEXTS: dict[str, str] = {}
TextMap = Annotated[dict[str, str], text_map(), TEXT_MAP_SCHEMA]
