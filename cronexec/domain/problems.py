"""What is wrong with a document, told so that its writer can put it right.

pydantic finds the wrong fields, all of them in one go; here its errors become our sentences. Two things need
the models for that, which are therefore walked along with pydantic's path: the tags of unions, which pydantic
puts into the path although no such key is in the document, and the names known at a place, from which the
nearest to a misspelt one is taken.

Validators of ours raise `problem(...)`, whose sentence is used as it is, or `problems(...)` for several at
once, each with its path below the field.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from cronexec.errors import FieldProblem, InvalidDocumentError

_SHOWN = 60
_MANY_DIGITS = 10**_SHOWN
_NEAR = 0.6

REFERENCE = "an object with both $ref and $id is a reference to MongoDB and cannot be kept as it is"

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "tuple_type": "a list",
    "invalid_key": "text as a field's name",
    "string_unicode": "text without half a surrogate pair",
}
_EXPECTED_BOUND = {
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} characters",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


def problem(message: str) -> PydanticCustomError:
    """Return the error to raise in a validator; `message` is the whole sentence."""
    return PydanticCustomError("problem", "{message}", {"message": message})


def problems(found: Sequence[FieldProblem]) -> PydanticCustomError:
    """Return the error to raise in a validator that found several, with paths below the validated field."""
    return PydanticCustomError("problems", "several problems", {"found": list(found)})


def invalid_document(error: ValidationError, root: Any) -> InvalidDocumentError:
    """Translate what pydantic found. `root`: the model, or the union of models, that was validated."""
    return InvalidDocumentError([told for details in error.errors() for told in _tell(details, root)])


def show(given: object) -> str:
    """Return what was given, short enough for a sentence."""
    if isinstance(given, str):
        return f"{given[:_SHOWN]!r}{' …' if len(given) > _SHOWN else ''}"
    if given is None or isinstance(given, bool):
        return {None: "nothing", True: "true", False: "false"}[given]
    if isinstance(given, (int, float)):
        return repr(given) if abs(given) < _MANY_DIGITS or given != given else "a number of very many digits"  # noqa: PLR0124  NaN
    if isinstance(given, Mapping):
        return "an object"
    return "a list" if isinstance(given, (list, tuple)) else f"a {type(given).__name__}"


def is_reference(given: Mapping[Any, Any]) -> bool:
    """Whether MongoDB's drivers would read back `given` as a reference (DBRef), which is no plain object."""
    return "$ref" in given and "$id" in given


def nearest(given: str, known: Iterable[str], cutoff: float = _NEAR) -> str | None:
    """Return the known name that is nearest to a misspelt one, or None where none is near."""
    spellings = {name.lower(): name for name in known}
    found = difflib.get_close_matches(given.lower(), spellings, n=1, cutoff=cutoff)
    return spellings[found[0]] if found else None


def expected(accepted: str, given: object) -> str:
    """Return the sentence for a value that is not accepted."""
    return f"expected {accepted}; got {show(given)}"


def expected_one_of(known: Sequence[str], given: object) -> str:
    """Return the sentence for a value that is none of the `known`, with the nearest of them."""
    near = nearest(given, known) if isinstance(given, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    accepted = ", ".join(known)
    return f"{expected(f'one of {accepted}' if len(known) > 1 else accepted, given)}{hint}"


def join_path(path: Iterable[int | str]) -> str:
    """Return a path as people write it: `target.expect[1]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _tell(details: ErrorDetails, root: Any) -> Iterator[FieldProblem]:
    path, model = _locate(details["loc"], root)
    context = details.get("ctx", {})
    match details["type"]:
        case "problems":
            for found in context["found"]:
                yield FieldProblem(_below(join_path(path), found.field), found.message)
        case "extra_forbidden":
            yield FieldProblem(join_path(path), unknown_field(str(path[-1]), model))
        case "union_tag_not_found" | "union_tag_invalid":
            yield FieldProblem(join_path([*path, "type"]), _tell_tag(details["input"], model))
        case _:
            yield FieldProblem(join_path(path), _sentence(details, context, model))


def _below(path: str, field: str) -> str:
    """Return the path of a field below `path`; an item of a list has no dot before its index."""
    return f"{path}.{field}" if path and field and not field.startswith("[") else f"{path}{field}"


def _sentence(details: ErrorDetails, context: Mapping[str, Any], model: Any) -> str:
    given, kind = details["input"], details["type"]
    if kind == "problem":
        return str(context["message"])
    if kind == "missing":
        return "required, and not given"
    if kind in {"enum", "literal_error"}:
        return _tell_word(_accepted_words(context["expected"]), given, getattr(model, "words_not_yet", ()))
    if kind in _EXPECTED_BOUND:
        return expected(_EXPECTED_BOUND[kind].format(**context), given)
    if kind == "string_type" and isinstance(given, (bool, int, float)):
        return f"{expected('text', given)}; put it in quotes"
    return expected(_EXPECTED[kind], given) if kind in _EXPECTED else f"{details['msg']}; got {show(given)}"


def _accepted_words(told: str) -> list[str]:
    return [word.strip("'") for word in told.replace(" or ", ", ").split(", ")]


def _tell_tag(given: Any, union: Any) -> str:
    members = {_tag(member): member for member in _members(union)}
    tag = given.get("type") if isinstance(given, Mapping) else None
    if tag is None:
        return f"required, and not given: one of {', '.join(members)}"
    return _tell_word(list(members), tag, getattr(next(iter(members.values())), "types_not_yet", ()))


def _tell_word(known: Sequence[str], given: object, not_yet: Collection[str]) -> str:
    if isinstance(given, str) and given in not_yet:
        return f"{given!r} is not available yet; available: {', '.join(known)}"
    return expected_one_of(known, given)


def unknown_field(name: str, model: Any) -> str:
    """Return the sentence for a field that `model` lacks: not built, at home elsewhere, misspelt, unknown."""
    if name in getattr(model, "fields_not_yet", ()):
        return f"{name!r} is not available yet; leave it out"
    known = list(model.model_fields)
    if home := getattr(model, "homes", {}).get(name):
        return f"unknown field {name!r}; it belongs in {home!r}"
    if near := nearest(name, known):
        return f"unknown field {name!r}; did you mean {near!r}?"
    return f"unknown field {name!r}; known: {', '.join(known)}"


def _locate(loc: Sequence[int | str], root: Any) -> tuple[list[int | str], Any]:
    """Return the path without the tags of unions, and the model or union that judges its last step."""
    path: list[int | str] = []
    here, judge = root, root
    for step in loc:
        if members := _members(here):
            here = judge = next(member for member in members if _tag(member) == step)
            continue
        if step == "[key]":
            continue
        path.append(step)
        fields = getattr(here, "model_fields", {})
        judge = here if isinstance(here, type) else judge
        here = _given(fields[step].annotation) if step in fields else None
    return path, here if _members(here) else judge


def _given(annotation: Any) -> Any:
    """Return what a field is where it is given: of `Model | None`, the model."""
    kinds = get_args(annotation)
    return kinds[0] if kinds[1:] == (NoneType,) else annotation


def _members(annotation: Any) -> list[type[BaseModel]]:
    members = [each for each in get_args(annotation) if isinstance(each, type)]
    members = [each for each in members if issubclass(each, BaseModel)]
    return members if len(members) > 1 else []


def _tag(member: type[BaseModel]) -> str:
    return str(get_args(member.model_fields["type"].annotation)[0])
