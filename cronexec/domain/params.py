"""Params: those of a job and of its triggers, with the types that the job's document gives them.

`params_schema` is read with the document. Its defaults are filled into the params where they are left out,
and left out again where the document is written: two documents that mean the same are written the same. The
holder checks what a trigger brings. Nothing is checked when a run starts: what is in the ledger and in the
documents has been.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from cronexec.domain.json_values import means_the_same, read_object
from cronexec.domain.params_check import Check, accepted
from cronexec.domain.params_schema import NOTHING, ParamType, read_schema, type_of, walk
from cronexec.domain.problems import expected, problems
from cronexec.errors import FieldProblem


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamsSchema:
    """The types of a job's params. Equal where the documents are; `type` is what they say."""

    document: Mapping[str, Any]
    type: ParamType = field(compare=False)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Read a schema, for validators. Raises pydantic's error with everything that is wrong."""
        document = read_object(given)
        found: list[FieldProblem] = []
        read = read_schema(document, found)
        if found := [*(found or _wrong_defaults(read))]:
            raise problems(found)
        return cls(document=document, type=read)

    def complete(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params with defaults filled in, for validators.

        Raises pydantic's error with everything that is wrong, by path below `params`.
        """
        completed, found = self.check(params)
        if found:
            raise problems(found)
        return completed

    def check(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], list[FieldProblem]]:
        """Return the params with defaults filled in, and what is wrong with them, by path below `params`."""
        check = Check()
        completed: dict[str, Any] = check.value(self.type, params, "")
        return completed, check.found

    def without_defaults(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as they are written: without those that are at their default."""
        check = Check()
        defaults = {
            name: check.value(each, each.default, name)
            for name, each in (self.type.properties or {}).items()
            if each.default is not NOTHING
        }
        return {
            name: value
            for name, value in params.items()
            if name not in defaults or not means_the_same(defaults[name], value)
        }

    def read_text(self, name: str, text: str) -> Any:
        """Return the value that `text`, from a command line, has for the param `name`. Raises ValueError."""
        of = (self.type.properties or {}).get(name, ParamType())
        if not of.types:
            return json_or_text(text)
        value = json_or_text(text)
        kinds = {type_of(value), "number"} if type_of(value) == "integer" else {type_of(value)}
        if kinds & (set(of.types) - {"string"}):
            return value
        if "string" in of.types:
            return text
        raise ValueError(expected(accepted(of.types), text))

    def describe(self) -> Iterator[tuple[str, str]]:
        """Yield each param with what it may be, for people."""
        for name, each in (self.type.properties or {}).items():
            is_needed = name in self.type.required and each.default is NOTHING
            facts = [each.label, *(f"{keyword} {limit:g}" for keyword, limit in each.limits.items())]
            facts += ["required"] if is_needed else []
            facts += [] if each.default is NOTHING else [f"default {json.dumps(each.default)}"]
            yield name, ", ".join(facts) + (f": {each.description}" if each.description else "")


def json_or_text(text: str) -> Any:
    """Return the JSON that `text` is, or the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wrong_defaults(schema: ParamType) -> Iterator[FieldProblem]:
    """Yield what is wrong with the defaults of a schema, each judged by its own type."""
    check = Check()
    for path, each in walk(schema):
        if each.default is not NOTHING:
            check.value(each, each.default, f"{path}.default" if path else "default")
    yield from check.found


def fill_in(params: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Complete the params of a document by its `params_schema`, if it has one; for validators."""
    schema: ParamsSchema | None = info.data.get("params_schema")
    return params if schema is None else schema.complete(params)


def _read(given: Any) -> ParamsSchema:
    if isinstance(given, ParamsSchema):
        return given
    if not isinstance(given, Mapping):
        raise problems(
            [
                FieldProblem(
                    "", expected('an object such as {"properties": {"league": {"type": "integer"}}}', given)
                )
            ]
        )
    return ParamsSchema.parse(given)


_PUBLISHED = {
    "type": "object",
    "description": "A JSON Schema of the params. Keywords: type, enum, const, default, title, description, "
    "minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength, format (date, date-time), "
    "items, minItems, maxItems, properties, required, additionalProperties (true or false).",
    "properties": {"type": {"const": "object"}, "properties": {"type": "object"}},
}
ParamsSchemaField = Annotated[
    ParamsSchema,
    PlainValidator(_read),
    PlainSerializer(lambda schema: dict(schema.document)),
    WithJsonSchema(_PUBLISHED),
]
