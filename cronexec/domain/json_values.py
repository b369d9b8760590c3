"""Free-form parts of documents (params, bodies, AMQP headers): JSON that database and broker can keep.

What they cannot keep is refused here, with its path, and never changed in silence: numbers beyond 64 bits,
NaN and infinity, lone surrogates, keys that are no text or contain a null character, nesting without end, and
what MongoDB's drivers read back as a reference. Keys with `.` and `$` are fine.
"""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from cronexec.domain.problems import REFERENCE, expected, is_reference, problems
from cronexec.errors import FieldProblem

MAX_DEPTH = 32  # MongoDB nests 100 levels, and the document around takes some

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_ANYTHING = "text, a number, true, false, null, a list or an object"


def canonical_json(value: object) -> str:
    """Return `value` as JSON text that is equal exactly where the values are (1, 1.0 and true differ)."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def means_the_same(one: object, other: object) -> bool:
    """Whether two JSON values are equal, however they were written: 1.0 is 1, and true is not."""
    return canonical_json(_one_form(one)) == canonical_json(_one_form(other))


def contains(value: Any, part: Any) -> bool:
    """Whether JSON `value` has all of `part`: an object may have further fields, here and further below."""
    if isinstance(part, Mapping) and isinstance(value, Mapping):
        return all(key in value and contains(value[key], each) for key, each in part.items())
    if isinstance(part, (list, tuple)) and isinstance(value, (list, tuple)):
        return len(part) == len(value) and all(map(contains, value, part))
    return means_the_same(value, part)


def _one_form(value: Any) -> Any:
    """Return JSON with whole numbers written one way."""
    if isinstance(value, Mapping):
        return {key: _one_form(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_one_form(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Copier:
    """Makes a copy of plain dicts and lists, and keeps what is wrong; what is wrong is copied as None."""

    def __init__(self) -> None:
        self.found: list[FieldProblem] = []

    def copy(self, value: Any, path: str, depth: int = 0) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._copy_text(value, path)
        if isinstance(value, (int, float)):
            return self._copy_number(value, path)
        return self._copy_nested(value, path, depth + 1)

    def _copy_nested(self, value: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            return self._refuse(path, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return self._copy_object(value, path, depth)
        if isinstance(value, (list, tuple)):
            return [self.copy(item, f"{path}[{index}]", depth) for index, item in enumerate(value)]
        return self._refuse(path, f"{expected(_ANYTHING, value)}; put it in quotes")

    def _copy_object(self, value: Mapping[Any, Any], path: str, depth: int) -> Any:
        copied: dict[str, Any] = {}
        if is_reference(value):
            return self._refuse(path, REFERENCE)
        for key, item in value.items():
            below = f"{path}.{key}" if path else str(key)
            if not isinstance(key, str):
                self._refuse(below, f"{expected('text as key', key)}; put it in quotes")
            elif "\0" in key:
                self._refuse(path, "a key with a null character cannot be stored")
            else:
                copied[self._copy_text(key, below)] = self.copy(item, below, depth)
        return copied

    def _copy_text(self, value: str, path: str) -> str:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self._refuse(path, "text with half a surrogate pair cannot be stored")
        return value

    def _copy_number(self, value: float, path: str) -> Any:
        if isinstance(value, int) and not _MIN_INT <= value <= _MAX_INT:
            return self._refuse(path, "a whole number beyond 64 bits cannot be stored; put it in quotes")
        if not math.isfinite(value):
            return self._refuse(path, f"expected a finite number; got {value!r}")
        return value

    def _refuse(self, path: str, message: str) -> Any:
        self.found.append(FieldProblem(path, message))
        return None


def _read_value(given: Any) -> Any:
    copier = _Copier()
    copied = copier.copy(given, "")
    if copier.found:
        raise problems(copier.found)
    return copied


def read_object(given: Any) -> Any:
    """Return a copy of a JSON object, for validators. Raises with everything that cannot be kept."""
    if not isinstance(given, Mapping):
        raise problems([FieldProblem("", expected("an object", given))])
    return _read_value(given)


JsonValue = Annotated[Any, PlainValidator(_read_value), WithJsonSchema({})]
NO_FIELDS: dict[str, Any] = {}
JsonObject = Annotated[dict[str, Any], PlainValidator(read_object), WithJsonSchema({"type": "object"})]
