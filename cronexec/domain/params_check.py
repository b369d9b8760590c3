"""Checking params against their types: one walk, which copies them with defaults filled in.

A check has a bound: it looks no more than `MOST_LOOKS` times (at a value, a property, a required name) and
tells of no more than `MOST_PROBLEMS`, so that it holds up the holder for a few milliseconds at most.
"""

import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cronexec.domain.params_schema import MOST_PROBLEMS, NOTHING, ParamType, below, did_you_mean, type_of
from cronexec.domain.problems import expected
from cronexec.errors import FieldProblem

MOST_LOOKS = 5_000

_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_Limit = tuple[str, Callable[[Any, float], bool]]
_OF_NUMBERS: Mapping[str, _Limit] = {
    "minimum": ("a number of at least {}", operator.ge),
    "maximum": ("a number of at most {}", operator.le),
    "exclusiveMinimum": ("a number above {}", operator.gt),
    "exclusiveMaximum": ("a number below {}", operator.lt),
}
_LIMITS: Mapping[str, Mapping[str, _Limit]] = {
    "integer": _OF_NUMBERS,
    "number": _OF_NUMBERS,
    "string": {
        "minLength": ("text of at least {} characters", lambda value, limit: len(value) >= limit),
        "maxLength": ("text of at most {} characters", lambda value, limit: len(value) <= limit),
    },
    "array": {
        "minItems": ("a list of at least {}", lambda value, limit: len(value) >= limit),
        "maxItems": ("a list of at most {}", lambda value, limit: len(value) <= limit),
    },
}
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_FORMATS = {
    "date": (re.compile(_DAY), "2026-12-24"),
    "date-time": (
        re.compile(
            rf"{_DAY}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}([.][0-9]{{1,6}})?(Z|[+-][0-9]{{2}}:[0-9]{{2}})"
        ),
        "2026-12-24T18:00:00Z",
    ),
}


def accepted(types: tuple[str, ...]) -> str:
    """Return the types as words of a sentence."""
    return " or ".join(_NAMES[each] for each in types)


class Check:
    """One check of one or more values, which share its bound. `found`: what is wrong."""

    def __init__(self) -> None:
        self.found: list[FieldProblem] = []
        self._left = MOST_LOOKS

    def value(self, of: ParamType, value: Any, path: str) -> Any:
        """Return a copy of `value` with the defaults of its type; what is wrong is added to `found`."""
        if not self._may_look(1):
            return value
        kind = type_of(value)
        if wrong := _wrong_kind(of, kind, value):
            self._refuse(path, wrong)
            return value
        self._check_limits(of, kind, value, path)
        if kind == "object":
            return self._object(of, value, path)
        if kind == "array" and of.items is not None:
            return [
                self.value(of.items, item, f"{path}[{index}]")
                for index, item in enumerate(value[: self._left])
            ]
        return int(value) if kind == "integer" and "integer" in of.types else value

    def _may_look(self, times: int) -> bool:
        """Count how often this looks at something; False once it was too often, or has found enough."""
        if 0 < self._left <= times:  # once
            self._refuse("", "these are too many values to be checked; give fewer")
        self._left -= times
        return self._left > 0 and len(self.found) < MOST_PROBLEMS

    def _check_limits(self, of: ParamType, kind: str, value: Any, path: str) -> None:
        for keyword, limit in of.limits.items():
            sentence, is_within = _LIMITS.get(kind, {}).get(keyword, ("", None))
            if is_within is not None and not is_within(value, limit):
                self._refuse(path, expected(sentence.format(limit), value))
        if kind == "string" and of.format is not None:
            written, example = _FORMATS[of.format]
            if not written.fullmatch(value) or not _is_instant(value):
                self._refuse(path, expected(f'a {of.format} such as "{example}"', value))

    def _object(self, of: ParamType, value: Mapping[str, Any], path: str) -> Any:
        properties = of.properties or {}
        if not self._may_look(len(of.required) + len(properties)):
            return value
        given = {name: each.default for name, each in properties.items() if each.default is not NOTHING}
        given |= value
        for name in of.required:
            if name not in given:
                self._refuse(below(path, name), "required, and not given")
        return {name: self._property(of, name, item, path) for name, item in given.items()}

    def _property(self, of: ParamType, name: str, item: Any, path: str) -> Any:
        known = (of.properties or {}).get(name)
        if known is not None:
            return self.value(known, item, below(path, name))
        if not of.takes_others and self._may_look(1):
            hint = "" if self.found else did_you_mean(name, of.properties or {})
            self._refuse(below(path, name), f"there is no such param{hint}")
        return item

    def _refuse(self, path: str, message: str) -> None:
        if len(self.found) < MOST_PROBLEMS:
            self.found.append(FieldProblem(path, message))


def _wrong_kind(of: ParamType, kind: str, value: Any) -> str | None:
    if of.types and kind not in of.types and not (kind == "integer" and "number" in of.types):
        return expected(accepted(of.types), value)
    if of.choices is not None and (kind in {"array", "object"} or not of.chooses(value)):
        return expected(f"one of {of.label}", value)
    return None


def _is_instant(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
