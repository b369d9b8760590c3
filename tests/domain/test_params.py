"""Params: their types in a job document, checked against JSON Schema itself, and bounded in time."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sample_jobs import document, job
from sample_namespace import Namespace, refusal, result

from cronexec.domain.command import TriggerJob
from cronexec.domain.job import JobDocument
from cronexec.domain.params import ParamsSchema
from cronexec.errors import InvalidDocumentError

LEAGUE = {
    "properties": {"league": {"type": "integer", "minimum": 1, "default": 7}, "day": {"type": "string"}}
}


def refusals(**fields: Any) -> list[str]:
    with pytest.raises(InvalidDocumentError) as caught:
        document(**fields)
    return [str(problem) for problem in caught.value.problems]


KNOWN = "string, integer, number, boolean, array, object, null"
TYPED = '{"league": {"type": "integer"}}'
FOR_EVER = "could take for ever to check; use enum, format, minLength and maxLength"
WRONG_SCHEMAS: list[tuple[Any, str]] = [
    (
        [],
        f'params_schema: expected an object such as {{"properties": {TYPED}}}; got a list',
    ),
    ({"type": "array"}, "params_schema.type: expected \"object\": params are one; got 'array'"),
    (
        {"properties": {"a": {"type": "interger"}}},
        f"params_schema.properties.a.type: expected one of {KNOWN}; got 'interger'; did you mean 'integer'?",
    ),
    (
        {"properties": {"a": {"minimun": 1}}},
        "params_schema.properties.a.minimun: unknown keyword 'minimun'; did you mean 'minimum'?",
    ),
    (
        {"properties": {"a": {"type": "string", "minimum": 1}}},
        "params_schema.properties.a.minimum: minimum is for integer and number; the type is string",
    ),
    (
        {"properties": {"a": {"pattern": "(a+)+$"}}},
        f"params_schema.properties.a.pattern: a pattern {FOR_EVER}",
    ),
    (
        {"properties": {"a": {"$ref": "#"}}},
        "params_schema.properties.a.$ref: references are not available; write the type out",
    ),
    (
        {"properties": {"a": {"anyOf": []}}},
        "params_schema.properties.a.anyOf: combinations are not available; give a list of types, or an enum",
    ),
    (
        {"properties": {"a": {"minimum": 3, "maximum": 2}}},
        "params_schema.properties.a.minimum: it is above maximum, so there is no value between them",
    ),
    (
        {"properties": {"a": {"type": "integer", "default": "7"}}},
        "params_schema.properties.a.default: expected a whole number; got '7'",
    ),
    (
        {"properties": {"league": {}}, "required": ["leage"]},
        "params_schema.required: 'leage' is none of the properties; did you mean 'league'?",
    ),
    (
        {"properties": {"a": 5}},
        'params_schema.properties.a: expected an object such as {"type": "integer"}; got 5',
    ),
    (
        {"properties": {"a": {"enum": []}}},
        "params_schema.properties.a.enum: expected a list of values; got a list",
    ),
    (
        {"properties": {"a": {"format": "uri"}}},
        "params_schema.properties.a.format: expected one of date, date-time; got 'uri'",
    ),
    (
        {"properties": {"a": {"minLength": -1}}},
        "params_schema.properties.a.minLength: expected a whole number of at least 0; got -1",
    ),
    (
        {"additionalProperties": {}},
        "params_schema.additionalProperties: expected true or false; got an object",
    ),
]


@pytest.mark.parametrize(("schema", "sentence"), WRONG_SCHEMAS)
def test_a_wrong_schema_is_refused_with_the_path(schema: Any, sentence: str) -> None:
    assert refusals(params_schema=schema) == [sentence]


def test_everything_that_is_wrong_with_a_schema_is_said_in_one_go() -> None:
    found = refusals(
        params_schema={"properties": {"a": {"type": "int"}, "b": {"maxLength": "x"}}}, name="A B"
    )
    assert len(found) == 3


WRONG_PARAMS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"league": "x"}, LEAGUE, "params.league: expected a whole number; got 'x'"),
    ({"league": 0}, LEAGUE, "params.league: expected a number of at least 1; got 0"),
    ({"league": True}, LEAGUE, "params.league: expected a whole number; got true"),
    ({"leage": 8}, LEAGUE, "params.leage: there is no such param; did you mean 'league'?"),
    ({}, {"properties": {"a": {}}, "required": ["a"]}, "params.a: required, and not given"),
    (
        {"a": [1, "x"]},
        {"properties": {"a": {"items": {"type": ["integer", "null"]}}}},
        "params.a[1]: expected a whole number or null; got 'x'",
    ),
    (
        {"a": {"b": {"c": 1}}},
        {"properties": {"a": {"properties": {"b": {"properties": {}}}}}},
        "params.a.b.c: there is no such param",
    ),
    ({"a": 2}, {"properties": {"a": {"enum": [1, "two"]}}}, "params.a: expected one of 1 | two; got 2"),
    (
        {"a": "2026-02-30"},
        {"properties": {"a": {"format": "date"}}},
        "params.a: expected a date such as \"2026-12-24\"; got '2026-02-30'",
    ),
    (
        {"a": "2026-02-03T10:00:00"},
        {"properties": {"a": {"format": "date-time"}}},
        "params.a: expected a date-time such as \"2026-12-24T18:00:00Z\"; got '2026-02-03T10:00:00'",
    ),
]


@pytest.mark.parametrize(("params", "schema", "sentence"), WRONG_PARAMS)
def test_params_that_do_not_fit_are_refused_with_their_path(
    params: dict[str, Any], schema: dict[str, Any], sentence: str
) -> None:
    assert refusals(params=params, params_schema=schema) == [sentence]


def test_defaults_are_filled_in_and_left_out_where_the_document_is_written() -> None:
    nested = {"properties": {"a": {"properties": {"b": {"default": 1}, "c": {}}, "default": {"c": 2}}}}
    read = document(params_schema=nested)
    assert read.params == {"a": {"b": 1, "c": 2}}
    assert "params" not in read.to_document()
    assert JobDocument.parse(read.to_document()) == read
    changed = document(params_schema=nested, params={"a": {"b": 5}})
    assert changed.to_document()["params"] == {"a": {"b": 5}}
    assert document(params_schema=nested, params={"a": {"b": 1, "c": 2}}).to_json() == read.to_json()


def test_a_param_that_only_python_takes_for_its_default_is_written() -> None:
    untyped = {"properties": {"a": {"default": 1}, "b": {"default": [0]}}}
    read = document(params_schema=untyped, params={"a": True, "b": [False]})
    assert read.to_document()["params"] == {"a": True, "b": [False]}
    assert document(params_schema=untyped, params={"a": 1.0, "b": [0]}).to_document().get("params") is None


def test_a_secret_in_a_default_is_refused_as_one_in_params() -> None:
    [sentence] = refusals(params_schema={"properties": {"a": {"default": "${secret:A}"}}})
    assert sentence.startswith("params.a: secrets are not resolved in params")


def trigger(params: dict[str, Any] | None) -> TriggerJob:
    return TriggerJob(id="t1", name="backup", params=params, key="k")


def test_the_params_of_a_trigger_are_merged_checked_and_completed() -> None:
    typed = job(params_schema=LEAGUE, params={"day": "mon"})
    effects = Namespace(typed).apply(trigger({"league": 8.0}))
    assert effects.entries[0].params == {"league": 8, "day": "mon"}
    assert json.dumps(effects.entries[0].params["league"]) == "8"
    assert Namespace(typed).apply(trigger(None)).entries[0].params is None  # those of its job
    assert result(Namespace(job()).apply(trigger({"what": "ever"})))["created"]
    assert refusal(Namespace(typed).apply(trigger({"league": "x"}))) == ("invalid", "params.league")


TEXTS: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "string"}, "007", "007"),
    ({"type": "integer"}, "7", 7),
    ({"type": "number"}, "7", 7),
    ({"type": "boolean"}, "true", True),
    ({"type": ["string", "null"]}, "null", None),
    ({"type": ["string", "integer"]}, "7", 7),
    ({"type": "array"}, "[1]", [1]),
    ({}, "7", 7),
    ({}, "seven", "seven"),
]


@pytest.mark.parametrize(("type_", "text", "value"), TEXTS)
def test_text_of_a_command_line_is_read_by_the_type(type_: dict[str, Any], text: str, value: Any) -> None:
    schema = ParamsSchema.parse({"properties": {"a": type_}})
    assert schema.read_text("a", text) == value
    assert schema.read_text("unknown", "7") == 7


def test_text_that_no_type_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a whole number; got 'seven'"):
        ParamsSchema.parse(LEAGUE).read_text("league", "seven")


# --- JSON Schema itself as the oracle. What is left out of both sides: an object with `properties` is closed
# here, and JSON Schema's `format` asserts nothing.

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -2.0])
    | st.text("ab", max_size=3)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
limits = st.integers(0, 3)
TYPES = ["string", "integer", "number", "boolean", "array", "object", "null"]


@st.composite
def types(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    kind = draw(st.sampled_from([*TYPES, None]))
    drawn: dict[str, Any] = (
        {} if kind is None else {"type": draw(st.just(kind) | st.just(sorted({kind, "null"})))}
    )
    if draw(st.integers(0, 4)) == 0:
        drawn["enum"] = draw(st.lists(scalars, min_size=1, max_size=3))
    if kind in {"integer", "number"}:
        keywords = st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
        drawn[draw(keywords)] = draw(limits)
    if kind == "string":
        drawn[draw(st.sampled_from(["minLength", "maxLength"]))] = draw(limits)
    if kind == "array":
        drawn[draw(st.sampled_from(["minItems", "maxItems"]))] = draw(limits)
        drawn |= {"items": draw(types(depth - 1))} if depth else {}
    if kind == "object" and depth:
        drawn |= draw(objects(depth - 1))
    return drawn


@st.composite
def objects(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from("abc"), types(depth), max_size=3))
    required = draw(st.lists(st.sampled_from("abc"), max_size=2, unique=True))
    is_open = draw(st.booleans()) or any(name not in properties for name in required)
    return {"properties": properties, "required": required, "additionalProperties": is_open}


@given(schema=objects(), params=st.dictionaries(st.sampled_from("abcd"), values, max_size=4))
def test_what_json_schema_accepts_is_accepted_and_nothing_else(
    schema: dict[str, Any], params: dict[str, Any]
) -> None:
    Draft202012Validator.check_schema(schema)
    completed, found = ParamsSchema.parse(schema).check(params)
    assert (not found) is Draft202012Validator(schema).is_valid(params), [str(each) for each in found]
    if not found:
        assert completed == params


NASTY: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": [{}] * 60_000}, {"a": {"items": {"properties": {f"p{n}": {} for n in range(190)}}}}),
    ({"a": list(range(60_000))}, {"a": {"items": {"type": "string"}}}),
    ({f"{n:0120}": 1 for n in range(1_500)}, {f"p{n:0110}": {} for n in range(190)}),
    ({"a": [["x"] * 9] * 6_000}, {"a": {"items": {"items": {"enum": [f"{n}" for n in range(5_000)]}}}}),
]


@pytest.mark.parametrize(("params", "properties"), NASTY)
def test_a_check_ends_soon_whatever_it_is_given(params: dict[str, Any], properties: dict[str, Any]) -> None:
    schema = ParamsSchema.parse({"properties": properties})
    before = time.process_time()
    _, found = schema.check(params)
    took = time.process_time() - before
    assert 0 < len(found) <= 20
    assert took < 0.05  # a few milliseconds on a machine that does nothing else
