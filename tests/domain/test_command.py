import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cronexec.domain.command import (
    MAX_BODY_BYTES,
    CancelRun,
    Command,
    DeleteJob,
    ErrorCode,
    NewerSchemaError,
    PauseJob,
    PutJob,
    ReleaseBaton,
    ResumeJob,
    TriggerJob,
    command_from_fields,
    command_identity,
    command_schema,
    encode_command,
    error_reply,
    ok_reply,
    parse_command,
    read_command,
    same_content,
)
from cronexec.domain.job import MAX_DOCUMENT_BYTES, JobDocument
from cronexec.errors import InvalidDocumentError

JOB = {"name": "a", "schedule": {"every": "1m"}, "target": {"type": "shell", "command": "true"}}
TYPES = ", ".join(each.model_fields["type"].default for each in get_args(Command))
SCHEMA = Draft202012Validator(command_schema())


def body(**fields: Any) -> bytes:
    return json.dumps({"schema": 1, "id": "c1", **fields}).encode()


def refusals(message: bytes) -> list[str]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_command(message)
    return [str(problem) for problem in caught.value.problems]


REFUSED: list[tuple[bytes, list[str]]] = [
    (b"", ["expected JSON; line 1, column 1: Expecting value"]),
    (b"\xff{}", ["expected JSON in UTF-8; byte 0 is none"]),
    (b"[]", ["expected an object; got a list"]),
    (b"7", ["expected an object; got 7"]),
    (b"[" * 200_000, ["nested too deeply"]),
    (b'{"a":' * 40_000, ["nested too deeply"]),
    (b'{"a": NaN}', ["NaN is no JSON; expected a finite number, text or null"]),
    (b'{"a": -Infinity}', ["-Infinity is no JSON; expected a finite number, text or null"]),
    (b'{"a": ' + b"9" * 5000 + b"}", ["a number of thousands of digits cannot be read"]),
    (b'{"a": 1, "a": 2}', ["the field 'a' is given twice in one object"]),
    (b" " * (MAX_BODY_BYTES + 1), ["a command has at most 256 KiB; this one has 256 KiB"]),
    (
        body(type="job.trigger", name="a", params={"x": 0}).replace(b"0}", b"1e999}"),
        ["params.x: expected a finite number; got inf"],
    ),
    (body(), [f"type: required, and not given: one of {TYPES}"]),
    (body(type="job.putt"), [f"type: expected one of {TYPES}; got 'job.putt'; did you mean 'job.put'?"]),
    (body(type="gate.put"), [f"type: 'gate.put' is not available yet; available: {TYPES}"]),
    (
        body(schema=True, id="", type="job.pause", nmae="a"),
        [
            "schema: expected 1; got true",
            "id: expected 1 to 128 visible ASCII characters; got ''",
            "name: required, and not given",
            "nmae: unknown field 'nmae'; did you mean 'name'?",
        ],
    ),
    (body(schema=0, type="baton.release"), ["schema: expected 1; got 0"]),
    (
        b'{"type": "baton.release"}',
        ["schema: expected 1; got nothing", "id: required, and not given"],
    ),
    (
        body(type="job.put", job={**JOB, "target": {"type": "shell", "comand": "x"}}, if_version="3"),
        [
            "job.target.command: required, and not given",
            "job.target.comand: unknown field 'comand'; did you mean 'command'?",
            "if_version: expected a whole number; got '3'",
        ],
    ),
    (
        body(type="job.put", job={**JOB, "schedule": {"cron": "0 0 30 2 *", "timezone": "Erope/Paris"}}),
        [
            "job.schedule.timezone: 'Erope/Paris' is no time zone; did you mean Europe/Paris?",
            (
                "job.schedule.cron: '0 0 30 2 *' never fires: no year has such a day. Check its day and "
                "its month"
            ),
        ],
    ),
    (body(type="job.put", job=None), ["job: required, and not given"]),
    (body(type="job.put", job=JOB, if_version=-1), ["if_version: expected a number of at least 0; got -1"]),
    (body(type="job.put", job=JOB, declared="yes"), ["declared: expected true or false; got 'yes'"]),
    (
        body(type="job.trigger", name="a", key="has space"),
        ["key: expected 1 to 128 visible ASCII characters; got 'has space'"],
    ),
    (
        body(type="run.cancel", run=""),
        ["run: expected a run's id, such as close-league@2026-12-24T03:00:00Z; got ''"],
    ),
    (
        body(type="baton.release", issued_by="x" * 300),
        [f"issued_by: expected text of at most 256 characters; got '{'x' * 60}' …"],
    ),
]


@pytest.mark.parametrize(("message", "sentences"), REFUSED)
def test_what_is_no_command_is_refused_with_every_reason(message: bytes, sentences: list[str]) -> None:
    assert refusals(message) == sentences


def test_a_newer_schema_is_told_apart_before_anything_else_is_judged() -> None:
    with pytest.raises(NewerSchemaError) as caught:
        parse_command(b'{"schema": 2, "id": "c9", "type": "job.frobnicate", "mood": 1}')
    assert (caught.value.schema, caught.value.command_id) == (2, "c9")


@pytest.mark.parametrize(
    ("message", "identity"),
    [
        (body(type="nonsense"), "c1"),
        (b'{"schema": 7, "id": "x"}', "x"),
        (b'{"id": 5}', None),
        (b'{"id": "with space"}', None),
        (b"[]", None),
        (b'{"id": "c1"', None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_an_invalid_message_is_identified_where_it_can_be(message: bytes, identity: str | None) -> None:
    assert command_identity(message) == identity


def is_same(one: bytes, other: bytes) -> bool:
    return same_content(read_command(one)[1], read_command(other)[1])


SENT = {"type": "job.trigger", "name": "a", "params": {"x": 1, "y": [1.5, True, "é"]}}


@pytest.mark.parametrize(
    "same",
    [
        body(**SENT),
        body(**SENT, key=None),
        body(**SENT, issued_by="somebody else"),
        json.dumps(dict(reversed(json.loads(body(**SENT)).items())), indent=2, ensure_ascii=False).encode(),
        body(**{**SENT, "params": {"y": [1.5, True, "é"], "x": 1.0}}),
    ],
)
def test_equal_content_is_recognized_however_it_is_written(same: bytes) -> None:
    assert is_same(same, body(**SENT))


@pytest.mark.parametrize(
    "other",
    [
        body(**{**SENT, "name": "b"}),
        body(**{**SENT, "params": {"x": True, "y": [1.5, True, "é"]}}),
        body(**{**SENT, "params": {"x": "1", "y": [1.5, True, "é"]}}),
        body(**{**SENT, "params": {"x": 1, "y": [True, 1.5, "é"]}}),
        body(**SENT, key="k"),
        body(type="job.pause", name="a"),
    ],
)
def test_other_content_is_told_apart(other: bytes) -> None:
    assert not is_same(other, body(**SENT))


keys = st.from_regex(r"\A[!-~]{1,40}\Z")
names = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z")
issuers = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
params = st.none() | st.dictionaries(
    st.sampled_from(["a.b", "$x"]), st.integers(0, 9) | st.text("äb"), max_size=2
)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        PutJob,
        id=keys,
        issued_by=issuers,
        job=st.builds(lambda name: JobDocument.parse({**JOB, "name": name, "timeout": "90s"}), names),
        if_version=st.none() | st.integers(0, 9),
        declared=st.booleans(),
        type=st.just("job.put"),
    ),
    st.builds(
        DeleteJob, id=keys, name=names, if_version=st.none() | st.integers(1, 9), type=st.just("job.delete")
    ),
    st.builds(PauseJob, id=keys, name=names, issued_by=issuers, type=st.just("job.pause")),
    st.builds(ResumeJob, id=keys, name=names, type=st.just("job.resume")),
    st.builds(
        TriggerJob, id=keys, name=names, params=params, key=st.none() | keys, type=st.just("job.trigger")
    ),
    st.builds(CancelRun, id=keys, run=keys, type=st.just("run.cancel")),
    st.builds(ReleaseBaton, id=keys, issued_by=issuers, type=st.just("baton.release")),
)


@given(commands)
def test_a_command_round_trips_and_the_schema_accepts_it(command: Command) -> None:
    message = encode_command(command)
    assert parse_command(message) == command
    assert list(SCHEMA.iter_errors(json.loads(message))) == []


@given(commands)
def test_a_command_encoded_anew_has_the_same_content(command: Command) -> None:
    again = parse_command(encode_command(command))
    assert is_same(encode_command(again), encode_command(command))


def test_a_job_is_no_longer_than_allowed_however_short_its_command_is() -> None:
    job = {**JOB, "params": {"x": "\x7f" * 11_000}}  # escaped, six times as long
    message = json.dumps(
        {"schema": 1, "id": "c1", "type": "job.put", "job": job}, ensure_ascii=False
    ).encode()
    assert len(message) < MAX_DOCUMENT_BYTES // 5
    assert refusals(message) == ["job: a job document has at most 64 KiB; this one has 65 KiB"]


def test_nulls_are_left_out_fields_to_parser_and_schema_alike() -> None:
    fields = {"type": "job.trigger", "name": "a", "params": None, "key": None, "issued_by": None}
    assert parse_command(body(**fields)) == TriggerJob(id="c1", name="a")
    assert SCHEMA.is_valid(json.loads(body(**fields)))


def test_the_schema_is_one_and_refuses_what_it_can_judge() -> None:
    Draft202012Validator.check_schema(command_schema())
    for message in (
        b"{}",
        b'{"id": "c1", "type": "baton.release"}',
        body(schema=2, type="baton.release"),
        body(type="job.put"),
        body(type="job.put", job={**JOB, "retry": {"max_attempts": 0}}),
        body(type="job.put", job=JOB, if_version=-1),
        body(type="job.delete", name="No"),
        body(type="job.pause", name="a", extra=1),
        body(type="run.resolve", run="a", state="queued"),
        body(id="", type="baton.release"),
    ):
        assert not SCHEMA.is_valid(json.loads(message)), message


def test_a_command_too_large_to_be_accepted_is_refused_when_it_is_written() -> None:
    with pytest.raises(InvalidDocumentError, match="at most 256 KiB"):
        encode_command(TriggerJob(id="c1", name="a", params={"x": "x" * MAX_BODY_BYTES}))


def test_fields_without_a_schema_make_a_command_or_every_refusal() -> None:
    assert command_from_fields({"type": "job.pause", "id": "c1", "name": "a"}) == PauseJob(id="c1", name="a")
    with pytest.raises(InvalidDocumentError) as caught:
        command_from_fields({"type": "job.pause", "id": "ü", "name": "No"})
    assert [problem.field for problem in caught.value.problems] == ["id", "name"]


def test_replies_have_the_shape_of_the_contract() -> None:
    assert ok_reply("c1", {"version": 3}) == {"id": "c1", "ok": True, "result": {"version": 3}}
    refused = error_reply("c1", ErrorCode.VERSION_CONFLICT, "it is at 4", "if_version")
    assert json.loads(json.dumps(refused)) == {
        "id": "c1",
        "ok": False,
        "error": {"code": "version_conflict", "message": "it is at 4", "field": "if_version"},
    }
