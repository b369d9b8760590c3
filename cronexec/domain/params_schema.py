"""The types of a job's params: a subset of JSON Schema (draft 2020-12) that can be checked in bounded time.

What a keyword says here it says in JSON Schema, with one difference: an object with `properties` has no
others unless `additionalProperties` is true, because a param that nobody declared is most often a misspelt
one. What could take for ever is left out, and refused by name: `pattern` (a regular expression may try 2^n
ways), references, and combinations such as `anyOf`. So a check looks at every value once, whatever the
schema.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cronexec.domain.problems import expected, expected_one_of, nearest, show
from cronexec.errors import FieldProblem

TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
FORMATS = ("date", "date-time")
MOST_TYPES = 200  # in a schema, nested ones counted
MOST_PROBLEMS = 20
LONGEST_NAME = 128

NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_OF_TYPES: Mapping[str, frozenset[str]] = (
    dict.fromkeys(NUMBERS, frozenset({"integer", "number"}))
    | dict.fromkeys(("minLength", "maxLength", "format"), frozenset({"string"}))
    | dict.fromkeys(("items", "minItems", "maxItems"), frozenset({"array"}))
    | dict.fromkeys(("properties", "required", "additionalProperties"), frozenset({"object"}))
)
_ANNOTATIONS = ("title", "description", "examples", "$schema", "$comment", "deprecated")
_KEYWORDS = ("type", "enum", "const", "default", *_ANNOTATIONS, *_OF_TYPES)
_UNBOUNDED = "could take for ever to check; use enum, format, minLength and maxLength"
_NOT_TAKEN = {
    "pattern": f"a pattern {_UNBOUNDED}",
    "patternProperties": f"a pattern {_UNBOUNDED}",
    **dict.fromkeys(
        ("$ref", "$defs", "definitions", "$id", "$anchor"), "references are not available; write the type out"
    ),
    **dict.fromkeys(
        ("allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        "combinations are not available; give a list of types, or an enum",
    ),
}
NOTHING: Any = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class ParamType:
    """What one value may be; `types` empty: anything. `properties` None: any.

    `choices`: as `enum` or `const` has them. `limits`: of the keywords `NUMBERS` and `LENGTHS`, those given.
    """

    types: tuple[str, ...] = ()
    choices: tuple[Any, ...] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    format: str | None = None
    items: "ParamType | None" = None
    properties: "Mapping[str, ParamType] | None" = None
    required: tuple[str, ...] = ()
    takes_others: bool = False
    default: Any = NOTHING
    description: str = ""
    _keys: frozenset[tuple[bool, Any]] = frozenset()

    def chooses(self, value: Any) -> bool:
        """Whether a scalar is one of the choices: 1 is 1.0, and is not true."""
        return _choice_key(value) in self._keys

    @property
    def label(self) -> str:
        """Return the type in a few words, for people."""
        if self.choices is not None:
            return " | ".join(choice if isinstance(choice, str) else show(choice) for choice in self.choices)
        label = " | ".join(self.types) or "anything"
        return f"{label} ({self.format})" if self.format else label


def type_of(value: Any) -> str:
    """Return the narrowest of `TYPES` that `value`, JSON, is of; 1.0 is a whole number."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if isinstance(value, int) or value.is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def read_schema(given: Mapping[str, Any], found: list[FieldProblem]) -> ParamType:
    """Return the type that `given`, JSON, describes; what is wrong with it is added to `found`."""
    reader = _Reader(found)
    read = reader.read({"type": "object", **given}, "")
    if read.types != ("object",):
        reader.refuse("type", expected('"object": params are one', given.get("type")))
    if reader.count > MOST_TYPES:
        reader.refuse("", f"at most {MOST_TYPES} types are taken; these are {reader.count}")
    return read


class _Reader:
    """Reads a schema to the end, whatever is wrong with it; what is wrong is read as if it was not there."""

    def __init__(self, found: list[FieldProblem]) -> None:
        self._found = found
        self.count = 0

    def refuse(self, path: str, message: str) -> None:
        if not self._has_enough:
            self._found.append(FieldProblem(path, message))

    @property
    def _has_enough(self) -> bool:
        """Whether so much is wrong that no more is told: to find the nearest names takes time."""
        return len(self._found) >= MOST_PROBLEMS

    def read(self, given: Any, path: str) -> ParamType:
        self.count += 1
        if not isinstance(given, Mapping):
            self.refuse(path, expected('an object such as {"type": "integer"}', given))
            return ParamType()
        if self.count > MOST_TYPES:
            return ParamType()
        types = self._types(given, path)
        for keyword in given:
            if not self._has_enough and (wrong := _judge_keyword(keyword, types)):
                self.refuse(below(path, keyword), wrong)
        properties = self._properties(given, path)
        choices = self._choices(given, path)
        return ParamType(
            types=types,
            choices=choices,
            _keys=frozenset(map(_choice_key, choices or ())),
            limits=self._limits(given, path),
            format=self._format(given, path),
            items=self.read(given["items"], below(path, "items")) if "items" in given else None,
            properties=properties,
            required=self._required(given, properties, path),
            takes_others=self._flag(given, "additionalProperties", path, default=properties is None),
            default=given.get("default", NOTHING),
            description=self._text(given, "description", path) or self._text(given, "title", path),
        )

    def _types(self, given: Mapping[str, Any], path: str) -> tuple[str, ...]:
        named = given.get("type", ())
        types = tuple(named) if isinstance(named, (list, tuple)) else (named,)
        for each in types:
            if each not in TYPES:
                self.refuse(below(path, "type"), expected_one_of(TYPES, each))
        return tuple(dict.fromkeys(each for each in types if each in TYPES))

    def _choices(self, given: Mapping[str, Any], path: str) -> tuple[Any, ...] | None:
        if "const" not in given and "enum" not in given:
            return None
        keyword = "const" if "const" in given else "enum"
        choices: Any = [given["const"]] if keyword == "const" else given["enum"]
        if not isinstance(choices, list) or not choices:
            self.refuse(below(path, keyword), expected("a list of values", choices))
            return None
        if any(isinstance(choice, (Mapping, list)) for choice in choices):
            self.refuse(below(path, keyword), "expected text, numbers, true, false or null")
            return None
        return tuple(choices)

    def _limits(self, given: Mapping[str, Any], path: str) -> dict[str, float]:
        limits: dict[str, float] = {}
        for keyword in (*NUMBERS, *LENGTHS):
            if keyword not in given:
                continue
            limit = given[keyword]
            if keyword in NUMBERS and type_of(limit) not in {"integer", "number"}:
                self.refuse(below(path, keyword), expected("a number", limit))
            elif keyword in LENGTHS and (type_of(limit) != "integer" or limit < 0):
                self.refuse(below(path, keyword), expected("a whole number of at least 0", limit))
            else:
                limits[keyword] = limit
        for least, most in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
            if least in limits and most in limits and limits[least] > limits[most]:
                self.refuse(below(path, least), f"it is above {most}, so there is no value between them")
        return limits

    def _format(self, given: Mapping[str, Any], path: str) -> str | None:
        named = given.get("format")
        if named is None or named in FORMATS:
            return named
        self.refuse(below(path, "format"), expected_one_of(FORMATS, named))
        return None

    def _properties(self, given: Mapping[str, Any], path: str) -> dict[str, ParamType] | None:
        named = given.get("properties")
        if named is None:
            return None
        path = below(path, "properties")
        if not isinstance(named, Mapping):
            self.refuse(path, expected("an object of types by name", named))
            return None
        for name in named:
            if not 0 < len(name) <= LONGEST_NAME:
                self.refuse(below(path, name), f"a name has 1 to {LONGEST_NAME} characters")
        return {name: self.read(each, below(path, name)) for name, each in named.items()}

    def _required(
        self, given: Mapping[str, Any], properties: Mapping[str, ParamType] | None, path: str
    ) -> tuple[str, ...]:
        named = given.get("required", [])
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            self.refuse(below(path, "required"), expected("a list of names", named))
            return ()
        closed = properties is not None and given.get("additionalProperties") is not True
        for name in named if closed else ():
            if name not in (properties or {}) and not self._has_enough:
                hint = did_you_mean(name, properties or ())
                self.refuse(below(path, "required"), f"{show(name)} is none of the properties{hint}")
        return tuple(named)

    def _flag(self, given: Mapping[str, Any], keyword: str, path: str, *, default: bool) -> bool:
        value = given.get(keyword, default)
        if not isinstance(value, bool):
            self.refuse(below(path, keyword), expected("true or false", value))
        return bool(value)

    def _text(self, given: Mapping[str, Any], keyword: str, path: str) -> str:
        value = given.get(keyword, "")
        if not isinstance(value, str):
            self.refuse(below(path, keyword), expected("text", value))
            return ""
        return value


def _choice_key(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value


def _judge_keyword(keyword: str, types: Sequence[str]) -> str | None:
    if keyword in _NOT_TAKEN:
        return _NOT_TAKEN[keyword]
    if keyword not in _KEYWORDS:
        return f"unknown keyword {show(keyword)}{did_you_mean(keyword, _KEYWORDS)}"
    of = _OF_TYPES.get(keyword)
    if of and types and not of & set(types):
        return f"{keyword} is for {' and '.join(sorted(of))}; the type is {' or '.join(types)}"
    return None


def did_you_mean(name: str, known: "Mapping[str, Any] | Sequence[str]") -> str:
    """Return the hint at the nearest known name, or nothing. Long names are not compared: it takes time."""
    short = [each for each in known if len(each) <= LONGEST_NAME // 2][: MOST_TYPES // 2]
    near = nearest(name, short) if len(name) <= LONGEST_NAME // 2 else None
    return f"; did you mean {near!r}?" if near else ""


def walk(of: ParamType, path: str = "") -> Iterator[tuple[str, ParamType]]:
    """Yield every type of a schema with its path."""
    yield path, of
    for name, each in (of.properties or {}).items():
        yield from walk(each, below(below(path, "properties"), name))
    if of.items is not None:
        yield from walk(of.items, below(path, "items"))


def below(path: str, step: str) -> str:
    """Return the path of `step` below `path`."""
    return f"{path}.{step}" if path else step
