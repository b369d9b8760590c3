import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronexec.domain.documents import read_documents
from cronexec.domain.job import JobDocument

ACCEPTED: list[tuple[str, list[dict[str, Any]]]] = [
    ("name: a\n---\nname: b\n", [{"name": "a"}, {"name": "b"}]),
    ("---\nname: a\n---\n---\n# nothing\n", [{"name": "a"}]),
    ("- {name: a}\n- {name: b}\n", [{"name": "a"}, {"name": "b"}]),
    ('{"name": "a"}', [{"name": "a"}]),
    ('[{"name": "a"}, {"name": "b"}]', [{"name": "a"}, {"name": "b"}]),
    ('{"name": "a"}\n\n{"name": "b"}\n', [{"name": "a"}, {"name": "b"}]),
    ('\ufeff{"name": "a"}', [{"name": "a"}]),
    ('{\n  "name":\n  "a"\n}\n', [{"name": "a"}]),
    ("{name: a, target: {type: shell}}", [{"name": "a", "target": {"type": "shell"}}]),
    ("at: 2026-12-24T18:00:00+01:00\n", [{"at": "2026-12-24T18:00:00+01:00"}]),
    ("at: 2026-12-24 18:00:00\n", [{"at": "2026-12-24 18:00:00"}]),
    ("day: 2026-12-24\n", [{"day": "2026-12-24"}]),
    (
        "a: '10:30'\nb: \"no\"\nc: true\nd: 1.5\ne: ~\n",
        [{"a": "10:30", "b": "no", "c": True, "d": 1.5, "e": None}],
    ),
    ("x: &base {a: 1, b: 2}\ny:\n  <<: *base\n  b: 3\n", [{"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}]),
]


@pytest.mark.parametrize(("text", "documents"), ACCEPTED)
def test_documents_are_read_in_order(text: str, documents: list[dict[str, Any]]) -> None:
    assert read_documents(text, source="f") == (documents, [])


def ambiguous(value: str, why: str) -> str:
    return f"f, line 1: '{value}' is {why}; write \"{value}\" in quotes, or the value that is meant"


BASE_60 = "a number in base 60 to some readers of YAML and text to others"
SWITCH = "false or true to some readers of YAML and text to others"

REFUSED: list[tuple[str, list[str]]] = [
    ("", ["f: there is nothing in it"]),
    ("---\n# only a comment\n", ["f: there is nothing in it"]),
    ("a: 10:30", [ambiguous("10:30", BASE_60)]),
    ("a: 1:30:00", [ambiguous("1:30:00", BASE_60)]),
    ("a: no", [ambiguous("no", SWITCH)]),
    ("On: a", [ambiguous("On", SWITCH)]),
    ("a: 0755", [ambiguous("0755", "an octal number to some readers of YAML and a decimal one to others")]),
    ("a: 1_000", [ambiguous("1_000", "a number to some readers of YAML and text to others")]),
    ("a: 1\nb: 2\na: 3\n", ["f, line 3: the field 'a' is given twice in one object"]),
    ("a: {b: 1, b: 2}", ["f, line 1: the field 'b' is given twice in one object"]),
    ('{"a": 1, "a": 2}', ["f: the field 'a' is given twice in one object"]),
    ('{"a": {"b": 1, "b": 2}}', ["f: the field 'b' is given twice in one object"]),
    ('{"a": NaN}', ["f: NaN is no JSON; give a finite number, text or null"]),
    ('{"a": ' + "9" * 5000 + "}", ["f: a number of thousands of digits cannot be read"]),
    ('{"a":\n', ["f: no JSON: line 2, column 1: Expecting value"]),
    ("[" * 100_000, ["f: nested too deeply"]),
    ("- " * 100_000 + "a", ["f, line 1: no YAML: nested deeper than 64 levels"]),
    ("? [a]\n: b\n", ["f, line 1: expected text as a field's name; got a list or an object"]),
    ("a: !!timestamp 2026-01-01", ["f, line 1: the tag !!timestamp is not accepted; write it as text"]),
    ("a: !!binary aGk=", ["f, line 1: the tag !!binary is not accepted; write it as text"]),
    ("just text", ["f, line 1: expected an object with the fields of a job"]),
    ("- {name: a}\n- 5\n", ["f, line 1, item 2: expected an object with the fields of a job"]),
    ("a: &x\n  b: *x\n", ["f, line 2: nested deeper than 64 levels, or within itself"]),
]


@pytest.mark.parametrize(("text", "sentences"), REFUSED)
def test_what_is_ambiguous_or_no_document_is_refused_with_its_line(text: str, sentences: list[str]) -> None:
    _, problems = read_documents(text, source="f")
    assert [str(problem) for problem in problems][: len(sentences)] == sentences


@pytest.mark.parametrize(
    "text", ["a: [\n", "a: *nothing", "a: !!python/object:os.system {}", "a: !mine x", "a: \0"]
)
def test_what_is_no_yaml_is_refused(text: str) -> None:
    documents, problems = read_documents(text, source="f")
    assert documents == []
    assert len(problems) == 1


@pytest.mark.parametrize("number", ["0x_", "0b_", "1" * 5_000])
def test_what_looks_like_a_number_and_is_none_is_refused_with_its_line(number: str) -> None:
    found, problems = read_documents(f"---\nname: a\n---\nname: b\ntimeout: {number}\n", source="f")
    assert found == [{"name": "a"}]
    [problem] = problems
    assert (problem.field, problem.message[:27]) == ("f, line 4", "a number in it cannot be re")


def test_one_bad_document_does_not_hide_the_good_ones() -> None:
    documents, problems = read_documents("name: a\n---\nname: no\n---\nname: c\n", source="f")
    assert documents == [{"name": "a"}, {"name": "c"}]
    assert [problem.field for problem in problems] == ["f, line 3"]


def test_a_bad_line_of_json_lines_is_named() -> None:
    documents, problems = read_documents('{"name": "a"}\n{"name": "b"}\n{"name": }\n', source="f")
    assert documents == [{"name": "a"}, {"name": "b"}]
    assert [str(problem) for problem in problems] == ["f, line 3: no JSON: column 10: Expecting value"]


def test_aliases_that_stand_for_too_much_are_refused_at_once() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for above, below in zip("abcdefghi", "bcdefghij", strict=True):
        bomb += f"{below}: &{below} [{','.join([f'*{above}'] * 9)}]\n"
    began = time.process_time()
    documents, problems = read_documents(bomb, source="f")
    assert documents == []
    assert [problem.message for problem in problems] == ["the aliases stand for too much; write it out"]
    assert time.process_time() - began < 1


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.$", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text("abc.$", min_size=1), values, max_size=3), min_size=1, max_size=4))
def test_json_and_json_lines_are_read_as_they_were_written(documents: list[dict[str, Any]]) -> None:
    lines = "\n".join(json.dumps(document) for document in documents)
    assert read_documents(lines, source="f") == (documents, [])
    assert read_documents(json.dumps(documents, indent=1, ensure_ascii=False), source="f") == (documents, [])


def test_the_example_of_a_job_is_a_job_as_it_is_read() -> None:
    text = """
name: close-league
schedule: {cron: "0 3 * * *", timezone: Europe/Amsterdam}
target:
  type: webhook
  url: "https://games.example/close"
  body: {league: 7, slot: "{{ slot }}"}
  expect: [200, 204]
timeout: 10m
misfire: {policy: latest, grace: 60s}
---
name: once
schedule: {at: 2026-12-24T18:00:00+01:00}
target: {type: handler, name: once}
"""
    documents, problems = read_documents(text, source="f")
    assert problems == []
    jobs = [JobDocument.parse(document) for document in documents]
    assert [job.name for job in jobs] == ["close-league", "once"]
    assert jobs[1].schedule.to_document() == {"at": "2026-12-24T17:00:00Z"}
