"""The field `schedule` of a job document: how it is validated, written, and published as JSON Schema.

Schedules are read once for each definition, so that jobs with equal schedules share one object, and its
computation. The job's name belongs to the definition only where the cron expression has an H.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from cronexec.domain.hashed import is_hashed
from cronexec.domain.problems import expected, problem, problems
from cronexec.domain.schedule import Schedule, ScheduleError
from cronexec.errors import FieldProblem

FIELDS = ("cron", "every", "at", "timezone", "anchor", "start", "end", "exclude", "jitter", "dst")
_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class _Definition:
    """A schedule as it was given; `key` tells it from all others."""

    key: Hashable
    given: Mapping[str, Any] = field(compare=False)


def _read(given: Any, info: ValidationInfo) -> Schedule:
    if isinstance(given, Schedule):
        return given
    if not isinstance(given, Mapping):
        raise problem(
            expected('an object such as {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"}', given)
        )
    try:
        return _share(given, info.data.get("name", ""))
    except ScheduleError as error:
        found = [FieldProblem(each.field, str(each).removesuffix(".")) for each in (error, *error.others)]
        raise problems(found) from None


def _share(given: Mapping[str, Any], name: str) -> Schedule:
    cron = given.get("cron")
    depends_on_name = isinstance(cron, str) and is_hashed(cron)
    try:
        definition = _Definition(tuple((key, _key(value)) for key, value in given.items()), given)
        return _read_once(definition, name if depends_on_name else "")
    except TypeError:  # a value that cannot be a key; what is wrong with it is told by the schedule
        return Schedule.from_document(given, name=name)


def _key(value: Any) -> Hashable:
    """Return a key that equal values share, with their types: 1, 1.0 and true are equal."""
    if isinstance(value, (str, int, float)):
        return (type(value), value)
    if isinstance(value, Mapping):
        return tuple((key, _key(each)) for key, each in value.items())
    if isinstance(value, Sequence):
        return (type(value), *map(_key, value))
    return (type(value), value)


@lru_cache(maxsize=_KEPT)
def _read_once(definition: _Definition, name: str) -> Schedule:
    return Schedule.from_document(definition.given, name=name)


def _write(schedule: Schedule) -> dict[str, Any]:
    return schedule.to_document()


_INSTANT_SCHEMA = {"type": "string", "examples": ["2026-12-24T18:00:00+01:00"]}
_LENGTH_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_EXCLUSION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "examples": ["2026-12-24", "2026-12-24/2027-01-02"]},
        {
            "type": "object",
            "properties": {
                "from": {"type": "string"},
                "to": {"type": "string"},
                "cron": {"type": "string", "examples": ["* * 24-26 12 *"]},
                "calendar": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    ]
}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cron": {"type": "string", "examples": ["0 3 * * *", "@daily", "*/10 * * * * *", "H H(0-5) * * *"]},
        "every": {**_LENGTH_SCHEMA, "examples": ["15m"]},
        "at": _INSTANT_SCHEMA,
        "timezone": {"type": "string", "examples": ["Europe/Amsterdam"]},
        "anchor": _INSTANT_SCHEMA,
        "start": _INSTANT_SCHEMA,
        "end": _INSTANT_SCHEMA,
        "exclude": {"type": "array", "items": _EXCLUSION_SCHEMA},
        "jitter": {**_LENGTH_SCHEMA, "examples": ["5m"]},
        "dst": {
            "type": "object",
            "properties": {
                "gap": {"enum": ["run", "skip"], "default": "run"},
                "fold": {"enum": ["first", "second", "both"], "default": "first"},
            },
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
    "oneOf": [
        {"required": [kind], "properties": {kind: {"not": {"type": "null"}}}}
        for kind in ("cron", "every", "at")
    ],
}

ScheduleField = Annotated[Schedule, PlainValidator(_read), PlainSerializer(_write), WithJsonSchema(_SCHEMA)]
