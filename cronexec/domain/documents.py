"""Job documents in files: YAML (several documents, lists), JSON, and JSON lines.

YAML 1.1 guesses: `10:30` is 630, `no` is false, `010` is 8 and a date is an object, where YAML 1.2 and people
see something else. Where the two differ the file is refused with the line and the remedy, quotes; instants
stay the text that they are. Keys that are given twice are refused, in JSON too. Here it is only made sure
what was written; whether it is a job is for `JobDocument.parse`.
"""

import json
import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from cronexec.errors import FieldProblem

_MAX_DEPTH = 64
_MIN_NODES = 10_000
_NODES_PER_CHARACTER = 10
_SWITCH = re.compile(r"(?:yes|no|on|off)", re.IGNORECASE)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_GROUPED = re.compile(r"[-+]?[0-9][0-9_.]*_[0-9_.]*")
_AMBIGUOUS = (
    (_SWITCH, "is false or true to some readers of YAML and text to others"),
    (_BASE_60, "is a number in base 60 to some readers of YAML and text to others"),
    (_OCTAL, "is an octal number to some readers of YAML and a decimal one to others"),
    (_GROUPED, "is a number to some readers of YAML and text to others"),
)


def read_documents(text: str, *, source: str) -> tuple[list[dict[str, Any]], list[FieldProblem]]:
    """Return the documents in `text`, in order, and what is wrong with the rest.

    `source` names the text in problems. A list stands for the documents in it; empty documents are left out.
    """
    found: list[FieldProblem] = []
    documents: list[dict[str, Any]] = []
    for place, value in _read_values(text.removeprefix("\ufeff"), source, found):
        for item_place, item in _items(place, value):
            if isinstance(item, dict):
                documents.append(item)
            elif item is not None:
                found.append(FieldProblem(item_place, "expected an object with the fields of a job"))
    if not documents and not found:
        found.append(FieldProblem(source, "there is nothing in it"))
    return documents, found


def _read_values(text: str, source: str, found: list[FieldProblem]) -> Iterator[tuple[str, Any]]:
    if text.lstrip().startswith(("{", "[")):
        whole = _read_json(text)
        if not isinstance(whole, Exception):
            yield source, whole
            return
        if _looks_like_json_lines(text):
            yield from _read_lines(text, source, found)
            return
        if isinstance(whole, _RefusedJsonError) or not _is_flow_yaml(text):
            found.append(FieldProblem(source, str(whole)))
            return
    yield from _read_yaml(text, source, found)


def _items(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from ((f"{place}, item {index}", item) for index, item in enumerate(value, 1))
    else:
        yield place, value


class _RefusedJsonError(ValueError):
    """It is JSON, and must not be accepted."""


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_refuse_twice, parse_constant=_refuse_constant)
    except RecursionError:
        return _RefusedJsonError("nested too deeply")
    except json.JSONDecodeError as error:
        return ValueError(f"no JSON: line {error.lineno}, column {error.colno}: {error.msg}")
    except _RefusedJsonError as error:
        return error
    except ValueError:  # Python converts no numbers of thousands of digits
        return _RefusedJsonError("a number of thousands of digits cannot be read")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise _RefusedJsonError(f"the field {key!r} is given twice in one object")
        document[key] = value
    return document


def _refuse_constant(constant: str) -> Any:
    raise _RefusedJsonError(f"{constant} is no JSON; give a finite number, text or null")


def _looks_like_json_lines(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(lines) > 1 and all(line[0] == "{" and line[-1] == "}" for line in lines[:2])


def _read_lines(text: str, source: str, found: list[FieldProblem]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        value = _read_json(line)
        if isinstance(value, Exception):
            found.append(
                FieldProblem(f"{source}, line {number}", re.sub(r"line 1, (?=column)", "", str(value)))
            )
        else:
            yield f"{source}, line {number}", value


def _is_flow_yaml(text: str) -> bool:
    """Whether it is YAML that only begins like JSON, `{name: a}`; then JSON's complaint would mislead."""
    try:
        _refuse_depth(text)
    except yaml.YAMLError:
        return False
    return True


def _read_yaml(text: str, source: str, found: list[FieldProblem]) -> Iterator[tuple[str, Any]]:
    judge = _Judge(budget=_MIN_NODES + _NODES_PER_CHARACTER * len(text))
    try:
        _refuse_depth(text)
        for document in yaml.compose_all(text, Loader=_Loader):
            if document is not None:
                yield (
                    f"{source}, line {document.start_mark.line + 1}",
                    _construct(document, judge, source, found),
                )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}, line {mark.line + 1}" if mark else source
        found.append(FieldProblem(place, f"no YAML: {error.problem or error.context}"))
    except yaml.YAMLError as error:  # a character that YAML forbids
        found.append(FieldProblem(source, f"no YAML: {str(error).splitlines()[0]}"))


def _refuse_depth(text: str) -> None:
    # Composing recurses, which crashes the interpreter in the C library; going through the events does not.
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=mark)


_FastestLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_FastestLoader):  # type: ignore[misc]
    """Composes nodes; instants stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct(node: yaml.Node, judge: "_Judge", source: str, found: list[FieldProblem]) -> Any:
    complaints = list(judge.judge(node, depth=0))
    found.extend(FieldProblem(f"{source}, line {line + 1}", message) for line, message in complaints)
    try:
        return None if complaints else yaml.constructor.SafeConstructor().construct_document(node)
    except ValueError as error:  # "0x_" looks like a number; Python converts none of thousands of digits
        line = node.start_mark.line + 1
        found.append(FieldProblem(f"{source}, line {line}", f"a number in it cannot be read: {error}"))
        return None


class _Judge:
    """Says what must not become a value. `budget`: so many nodes, aliases written out, may be in the file."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def judge(self, node: yaml.Node, depth: int) -> Iterator[tuple[int, str]]:
        line = node.start_mark.line
        self._budget -= 1
        if depth > _MAX_DEPTH:
            yield line, f"nested deeper than {_MAX_DEPTH} levels, or within itself"
        elif self._budget == 0:
            yield line, "the aliases stand for too much; write it out"
        elif self._budget > 0:
            yield from self._judge_content(node, line, depth)

    def _judge_content(self, node: yaml.Node, line: int, depth: int) -> Iterator[tuple[int, str]]:
        if isinstance(node, yaml.ScalarNode):
            yield from ((line, message) for message in _judge_scalar(node))
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from self.judge(item, depth + 1)
        elif isinstance(node, yaml.MappingNode):
            yield from _judge_keys(node)
            for key, value in node.value:
                yield from self.judge(key, depth + 1)
                yield from self.judge(value, depth + 1)


_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "merge", "value")
}


def _judge_scalar(node: yaml.ScalarNode) -> Iterator[str]:
    if node.tag not in _PLAIN_TAGS:
        yield f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not accepted; write it as text"
    elif not node.style and node.tag != "tag:yaml.org,2002:str":
        for pattern, effect in _AMBIGUOUS:
            if pattern.fullmatch(node.value):
                yield f'{node.value!r} {effect}; write "{node.value}" in quotes, or the value that is meant'
                return


def _judge_keys(node: yaml.MappingNode) -> Iterator[tuple[int, str]]:
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key, yaml.ScalarNode):
            yield key.start_mark.line, "expected text as a field's name; got a list or an object"
        elif key.value in seen:
            yield key.start_mark.line, f"the field {key.value!r} is given twice in one object"
        else:
            seen.add(key.value)
