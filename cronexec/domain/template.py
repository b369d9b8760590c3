"""Placeholders in targets: `{{ slot }}`, `{{ job }}`, `{{ params.league }}`.

A string that is nothing but one placeholder becomes its value, of whatever type; elsewhere the value is put
into the text (what is not text, as JSON). `{{ "{{" }}` writes two braces. There are no expressions: nothing
is evaluated, and what was put in is not looked at again. An unknown name is an error; leaving it in the text
would send `{{ slto }}` to somebody's server. A document with one is refused; which params there will be is
not known before the run, as a trigger may bring its own.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cronexec.domain.problems import nearest
from cronexec.errors import FieldProblem

NAMES = ("job", "slot", "run_id", "attempt", "epoch", "params")

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[\w-]+)*")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_MOST_NAMES = 20


class TemplateError(ValueError):
    """A placeholder cannot be filled in; the message names it and what is known."""


def render(
    value: Any,
    values: Mapping[str, Any],
    *,
    literal: Callable[[str], str] = str,
    escape: Callable[[str], str] = str,
) -> Any:
    """Return `value` (text, or JSON with text in it) with its placeholders filled in from `values`.

    Keys of objects stay as they are. `literal` maps the text around placeholders; `escape` maps what is put
    into a text with more in it than the placeholder. Raises TemplateError.
    """
    if isinstance(value, str):
        return _render_text(value, values, literal, escape)
    if isinstance(value, Mapping):
        return {key: render(item, values, literal=literal, escape=escape) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render(item, values, literal=literal, escape=escape) for item in value]
    return value


def check_template(value: Any, field: str = "") -> list[FieldProblem]:
    """Return what is wrong with the placeholders below `field`, as far as it shows without params."""
    return [
        FieldProblem(path, message) for path, text in texts(value, field) for message in wrong_names(text)
    ]


def texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in `value` with its path below `field`."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(item, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from texts(item, f"{field}[{index}]")


def placeholders(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each placeholder begins and ends, braces included.

    In one walk: a regular expression would look for the end of each of thousands that have none.
    """
    begin = text.find("{{")
    while begin >= 0 and (end := text.find("}}", begin + 2)) >= 0:
        yield begin, end + 2
        begin = text.find("{{", end + 2)


def wrong_names(text: str) -> Iterator[str]:
    """Yield a sentence for every placeholder in `text` that no run will know."""
    known = [name for name in NAMES if name != "params"]
    for begin, end in placeholders(text):
        name = text[begin + 2 : end - 2].strip()
        if not _QUOTED.fullmatch(name) and not _may_be_known(name):
            near = _nearest(name, known)
            hint = f"; did you mean {{{{ {near} }}}}?" if near else ""
            yield f"{_unknown(name, [*known, 'params.NAME'])}{hint}"


def _may_be_known(name: str) -> bool:
    first, *below = name.split(".")
    return bool(_PATH.fullmatch(name)) and first in NAMES and (first == "params" or not below)


def _render_text(
    text: str, values: Mapping[str, Any], literal: Callable[[str], str], escape: Callable[[str], str]
) -> Any:
    if "{{" not in text:
        return literal(text)
    found = list(placeholders(text))
    if found == [(0, len(text))]:
        return _value_of(text[2:-2], values)
    parts: list[str] = []
    done = 0
    for begin, end in found:
        parts += literal(text[done:begin]), escape(_as_text(_value_of(text[begin + 2 : end - 2], values)))
        done = end
    return "".join([*parts, literal(text[done:])])


def _value_of(content: str, values: Mapping[str, Any]) -> Any:
    name = content.strip()
    if _QUOTED.fullmatch(name):
        return name[1:-1]
    if not _PATH.fullmatch(name):
        raise TemplateError(_unknown(name, _known(values)))
    found: Any = values
    for key in name.split("."):
        try:
            found = (
                found[int(key)] if isinstance(found, Sequence) and not isinstance(found, str) else found[key]
            )
        except (KeyError, IndexError, ValueError, TypeError):
            raise TemplateError(_unknown(name, _known(values))) from None
    return found


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _known(values: Mapping[str, Any]) -> list[str]:
    params = values.get("params") or {}
    return [name for name in values if name != "params"] + [f"params.{name}" for name in params]


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    return f"the placeholder {{{{ {name} }}}} is not known; known are: {shown}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that may be meant; of a path into something, its beginning counts."""
    first, _, below = name.partition(".")
    near = nearest(first, NAMES) if below else None
    return f"params.{below}" if near == "params" else near or nearest(name, known)
