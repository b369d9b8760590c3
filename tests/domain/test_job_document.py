import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cronexec.domain.job import JobDocument, MisfirePolicy, OverlapPolicy, job_schema
from cronexec.errors import InvalidDocumentError

SHELL = {"type": "shell", "command": "true"}
SCHEMA = Draft202012Validator(job_schema())


def document(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "schedule": {"every": "1m"}, "target": SHELL, **fields}


def webhook(**fields: Any) -> dict[str, Any]:
    return document(target={"type": "webhook", "url": "https://h/x", **fields})


def refusals(wrong: Any) -> list[str]:
    with pytest.raises(InvalidDocumentError) as caught:
        JobDocument.parse(wrong)
    return [str(problem) for problem in caught.value.problems]


LENGTH = 'write a number with d, h, m, s or ms, as in "15m", "1h30m" or "500ms", or a number of seconds'

REFUSED: list[tuple[Any, str]] = [
    ([], "expected an object; got a list"),
    (5, "expected an object; got 5"),
    (
        document(name="Close League"),
        "name: expected 1 to 128 of a-z 0-9 . _ -, beginning with a letter or digit; got 'Close League'",
    ),
    (document(name=7), "name: expected text; got 7; put it in quotes"),
    (document(tiemout="5s"), "tiemout: unknown field 'tiemout'; did you mean 'timeout'?"),
    (document(cron="* * * * *"), "cron: unknown field 'cron'; it belongs in 'schedule'"),
    (document(command="x"), "command: unknown field 'command'; it belongs in 'target'"),
    (document(gate="api"), "gate: 'gate' is not available yet; leave it out"),
    (document(notify=[]), "notify: 'notify' is not available yet; leave it out"),
    (
        document(overlap="skpi"),
        "overlap: expected one of queue, skip, allow, replace; got 'skpi'; did you mean 'skip'?",
    ),
    (
        document(overlap=["queue"]),
        (
            "overlap: expected one of queue, skip, allow, replace, or an object such as "
            '{"policy": "queue", "queue_limit": 3}; got a list'
        ),
    ),
    (
        document(overlap={"policy": "qeue"}),
        "overlap.policy: expected one of queue, skip, allow, replace; got 'qeue'; did you mean 'queue'?",
    ),
    (document(overlap={"limit": 3}), "overlap.limit: unknown field 'limit'; did you mean 'queue_limit'?"),
    (
        document(retry={"max_attempt": 3}),
        "retry.max_attempt: unknown field 'max_attempt'; did you mean 'max_attempts'?",
    ),
    (
        document(retry={"when": {"status": [1]}}),
        "retry.when.status: unknown field 'status'; did you mean 'statuses'?",
    ),
    (document(queue_limit=3), "queue_limit: unknown field 'queue_limit'; it belongs in 'overlap'"),
    (document(overlap={"queue_limit": -1}), "overlap.queue_limit: expected a number of at least 0; got -1"),
    (
        document(overlap={"policy": "allow", "max_running": 0}),
        "overlap.max_running: expected a number of at least 1; got 0",
    ),
    (
        document(overlap={"policy": "queue", "max_running": 2}),
        "overlap.max_running: 'queue' runs one at a time; leave it out",
    ),
    (
        document(overlap={"policy": "allow", "queue_limit": 2}),
        "overlap.queue_limit: nothing waits without 'max_running'; give that too",
    ),
    (
        document(overlap={"policy": "skip", "queue_limit": 2}),
        "overlap.queue_limit: no line forms under 'skip'; leave it out",
    ),
    (
        document(misfire={"grace": "5m", "window": "5m"}),
        "misfire.window: it is no longer than the grace, within which nothing is missed; make it longer",
    ),
    (document(window="6h"), "window: unknown field 'window'; it belongs in 'misfire'"),
    (
        document(abandoned="rety"),
        "abandoned: expected one of fail, retry, ask; got 'rety'; did you mean 'retry'?",
    ),
    (document(timeout="soon"), f"timeout: 'soon' is no length of time; {LENGTH}"),
    (document(timeout=0), 'timeout: expected a length of time above zero, such as "90s" or "1h30m"; got 0'),
    (document(timeout=-5), f"timeout: -5 is no length of time; {LENGTH}"),
    (document(misfire={"limit": 0}), "misfire.limit: expected a number of at least 1; got 0"),
    (document(misfire={"limit": "9"}), "misfire.limit: expected a whole number; got '9'"),
    (document(misfire={"limit": True}), "misfire.limit: expected a whole number; got true"),
    (document(misfire={"grce": 1}), "misfire.grce: unknown field 'grce'; did you mean 'grace'?"),
    (document(misfire="skip"), "misfire: expected an object; got 'skip'"),
    (document(labels={"team": 7}), "labels.team: expected text; got 7; put it in quotes"),
    (document(labels={7: "team"}), "labels.7: expected text; got 7; put it in quotes"),
    (document(labels={"on": True}), "labels.on: expected text; got true; put it in quotes"),
    (document(labels=["x"]), "labels: expected an object of texts; got a list"),
    (document(params=[1]), "params: expected an object; got a list"),
    (document(params={"a": [float("nan")]}), "params.a[0]: expected a finite number; got nan"),
    (document(params={"a": float("inf")}), "params.a: expected a finite number; got inf"),
    (
        document(params={"a": 2**64}),
        "params.a: a whole number beyond 64 bits cannot be stored; put it in quotes",
    ),
    (
        document(params={"at": datetime(2026, 1, 1, tzinfo=UTC)}),
        (
            "params.at: expected text, a number, true, false, null, a list or an object; got a datetime; "
            "put it in quotes"
        ),
    ),
    (document(params={1: 2}), "params.1: expected text as key; got 1; put it in quotes"),
    (
        document(params={"a": [{"$ref": "b", "$id": 1}]}),
        "params.a[0]: an object with both $ref and $id is a reference to MongoDB and cannot be kept as it is",
    ),
    (
        document(labels={"$ref": "b", "$id": "1"}),
        "labels: an object with both $ref and $id is a reference to MongoDB and cannot be kept as it is",
    ),
    (document(params={"a\0": 2}), "params: a key with a null character cannot be stored"),
    (document(params={"a": "\ud800"}), "params.a: text with half a surrogate pair cannot be stored"),
    (
        document(schedule="* * * * *"),
        (
            'schedule: expected an object such as {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"}; '
            "got '* * * * *'"
        ),
    ),
    (document(target="x"), "target: expected an object; got 'x'"),
    (
        document(target={}),
        "target.type: required, and not given: one of webhook, shell, handler, publish",
    ),
    (
        document(target={"type": "webhok"}),
        (
            "target.type: expected one of webhook, shell, handler, publish; got 'webhok'; did you mean "
            "'webhook'?"
        ),
    ),
    (
        document(target={"type": ["shell"]}),
        "target.type: expected one of webhook, shell, handler, publish; got a list",
    ),
    (document(target={"type": "shell"}), "target.command: required, and not given"),
    (document(target={**SHELL, "command": " "}), "target.command: expected a command for the shell; got ' '"),
    (
        document(target={**SHELL, "cwd": "srv"}),
        "target.cwd: expected an absolute path such as \"/srv/app\"; got 'srv'",
    ),
    (document(target={**SHELL, "user": "bob"}), "target.user: 'user' is not available yet; leave it out"),
    (
        document(target={**SHELL, "env": {"PORT": 80}}),
        "target.env.PORT: expected text; got 80; put it in quotes",
    ),
    (
        document(target={**SHELL, "env": {"A-B": "x"}}),
        "target.env.A-B: expected a variable's name of letters, digits and _; got 'A-B'",
    ),
    (
        document(target={**SHELL, "env": {"CRONEXEC_SLOT": "x"}}),
        "target.env.CRONEXEC_SLOT: set by cronexec to identify the run; leave it out",
    ),
    (
        document(target={**SHELL, "env": {"A": "x\0"}}),
        "target.env.A: text with a null character or half a surrogate pair cannot be stored",
    ),
    (webhook(url="ftp://h/x"), "target.url: expected a URL such as \"https://host/path\"; got 'ftp://h/x'"),
    (webhook(url="https://"), "target.url: expected a URL such as \"https://host/path\"; got 'https://'"),
    (
        webhook(url="http//u:secret@h"),
        "target.url: expected a URL such as \"https://host/path\"; got 'http//u:***@h'",
    ),
    (webhook(url="http://h:99999/"), "target.url: no URL: 'http://h:99999/' has a wrong host or port"),
    (
        webhook(method="post"),
        (
            "target.method: expected one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; got 'post'; "
            "did you mean 'POST'?"
        ),
    ),
    (
        webhook(expect=[200, 99]),
        'target.expect[1]: expected a status from 100 to 599 or a range such as "2xx"; got 99',
    ),
    (
        webhook(expect=[True]),
        'target.expect[0]: expected a status from 100 to 599 or a range such as "2xx"; got true',
    ),
    (webhook(expect=[]), "target.expect: expected at least one status; got an empty list"),
    (webhook(expect=200), "target.expect: expected a list; got 200"),
    (webhook(headers={"A B": "x"}), "target.headers.A B: expected a header's name; got 'A B'"),
    (
        webhook(headers={"A": "x\r\nB: y"}),
        "target.headers.A: expected a value without line breaks; got 'x\\r\\nB: y'",
    ),
    (
        webhook(headers={"idempotency-key": "x"}),
        "target.headers.idempotency-key: set by cronexec to identify the run; leave it out",
    ),
    (
        document(target={"type": "handler", "name": "no name"}),
        "target.name: expected a handler's name: 1 to 128 letters, digits and . _ : -; got 'no name'",
    ),
    (
        document(target={"type": "publish"}),
        "target.routing_key: required with the default exchange: the name of a queue",
    ),
    (
        document(target={"type": "publish", "routing_key": "é" * 128}),
        f"target.routing_key: expected at most 255 bytes; got '{'é' * 60}' …",
    ),
    (document(description="x" * 70_000), "a job document has at most 64 KiB; this one has 68 KiB"),
    ({**document(), 5: "x"}, "[5]: expected text as a field's name; got 5"),
]


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED)
def test_a_wrong_field_is_refused_with_its_path_what_was_given_and_what_is_accepted(
    wrong: Any, sentence: str
) -> None:
    assert refusals(wrong) == [sentence]


def test_all_wrong_fields_are_reported_in_one_go() -> None:
    wrong = {
        "name": "A",
        "tiemout": 3,
        "schedule": {"cron": "0 0 30 2 *", "timezone": "Europe/Amsterdm"},
        "target": {"type": "webhook", "ulr": "x", "expect": [1], "headers": {"a b": "", "c": 5}},
        "overlap": "never",
        "params": {"a": float("nan"), "b": [2**70]},
    }
    with pytest.raises(InvalidDocumentError) as caught:
        JobDocument.parse(wrong)
    assert [problem.field for problem in caught.value.problems] == [
        "name",
        "schedule.timezone",
        "schedule.cron",
        "target.url",
        "target.headers.a b",
        "target.headers.c",
        "target.expect[0]",
        "target.ulr",
        "params.a",
        "params.b[0]",
        "overlap",
        "tiemout",
    ]


def test_the_missing_fields_of_an_empty_document_are_named() -> None:
    assert refusals({}) == [f"{name}: required, and not given" for name in ("name", "schedule", "target")]


def test_an_unknown_time_zone_comes_with_the_nearest_known_one() -> None:
    wrong = document(schedule={"cron": "0 3 * * *", "timezone": "Europe/Amsterdm"})
    assert refusals(wrong) == [
        "schedule.timezone: 'Europe/Amsterdm' is no time zone; did you mean Europe/Amsterdam?"
    ]


def test_nesting_without_end_is_refused_and_not_followed() -> None:
    bomb: Any = []
    for _ in range(100_000):
        bomb = [bomb]
    (sentence,) = refusals(document(params={"a": bomb}))
    assert sentence.endswith("nested deeper than 32 levels")
    loop: list[Any] = []
    loop.append(loop)
    (sentence,) = refusals(document(params={"a": loop}))
    assert sentence.endswith("nested deeper than 32 levels")


@pytest.mark.parametrize(
    ("target", "timeout"),
    [
        ({"type": "webhook", "url": "http://h"}, timedelta(seconds=60)),
        ({"type": "publish", "routing_key": "q"}, timedelta(seconds=60)),
        (SHELL, None),
        ({"type": "handler", "name": "h"}, None),
    ],
)
def test_the_default_timeout_depends_on_the_target(target: dict[str, Any], timeout: timedelta | None) -> None:
    job = JobDocument.parse(document(target=target))
    assert job.timeout == timeout
    assert "timeout" not in job.to_document()


def test_a_timeout_at_the_default_of_another_target_is_kept() -> None:
    job = JobDocument.parse(document(timeout="1m"))
    assert job.to_document()["timeout"] == "1m"
    assert JobDocument.parse(job.to_document()) == job


def test_the_canonical_document_leaves_out_what_is_at_its_default() -> None:
    everything = document(
        description="",
        owner="",
        labels={},
        params={},
        timeout=None,
        overlap="queue",
        misfire={"policy": "latest", "grace": 60, "limit": 100},
        abandoned="fail",
        target={**SHELL, "env": {}, "cwd": None, "kill_after": "10s"},
    )
    assert JobDocument.parse(everything).to_document() == document()


OVERLAPS = [
    ("queue", None),
    ({}, None),
    ({"policy": "queue", "queue_limit": 1}, None),
    ({"queue_limit": 3}, {"policy": "queue", "queue_limit": 3}),
    ({"policy": "skip"}, "skip"),
    ("replace", "replace"),
    ({"policy": "allow", "max_running": None}, "allow"),
    ({"policy": "allow", "max_running": 5, "queue_limit": 1}, {"policy": "allow", "max_running": 5}),
]


@pytest.mark.parametrize(("given", "written"), OVERLAPS)
def test_overlap_is_written_as_text_where_only_the_policy_is_said(given: Any, written: Any) -> None:
    assert JobDocument.parse(document(overlap=given)).to_document().get("overlap") == written


def test_two_ways_to_write_a_job_are_equal_and_have_one_canonical_form() -> None:
    first = JobDocument.parse(
        document(timeout="90m", schedule={"cron": " 0  0 * * *"}, misfire={"grace": "1m"})
    )
    second = JobDocument.parse(document(timeout=5400, schedule={"cron": "0 0 * * *", "timezone": "UTC"}))
    assert first == second
    assert first.to_json() == second.to_json()


def test_params_that_python_takes_for_equal_differ_in_canonical_form() -> None:
    texts = {JobDocument.parse(document(params={"a": value})).to_json() for value in (1, 1.0, True)}
    assert len(texts) == 3


def test_schedules_with_one_definition_are_one_object() -> None:
    first, second = (JobDocument.parse(document(name=name)) for name in ("a", "b"))
    assert first.schedule is second.schedule


def test_a_schedule_of_true_is_not_taken_for_one_of_1_that_was_read_before() -> None:
    JobDocument.parse(document(schedule={"every": 1}))
    assert [sentence.split(":")[0] for sentence in refusals(document(schedule={"every": True}))] == [
        "schedule.every"
    ]


def test_a_document_does_not_change_with_what_it_was_made_from() -> None:
    params = {"a": [1]}
    job = JobDocument.parse(document(params=params))
    params["a"].append(2)
    assert job.params == {"a": [1]}


def test_dotted_keys_and_keys_with_dollars_survive() -> None:
    odd = {"a.b": 1, "$set": {"$x.y": [None]}, "": "empty"}
    job = JobDocument.parse(
        document(
            params=odd,
            labels={"app.kubernetes.io/name": "x", "$y": "z"},
            target={"type": "publish", "routing_key": "q", "headers": odd, "body": odd},
        )
    )
    written = json.loads(json.dumps(job.to_document()))
    assert written["params"] == written["target"]["headers"] == written["target"]["body"] == odd
    assert JobDocument.parse(written) == job


@pytest.mark.parametrize(
    "url",
    [
        "https://games.example/close?slot={{ slot }}",
        "http://${secret:HOST}:8080/x",
        "http://[::1]:80/",
        "https://u:p@h/x#f",
        "HTTPS://EXAMPLE",
        "http://{{ params.host }}/x",
    ],
)
def test_urls_with_placeholders_are_accepted_as_they_are(url: str) -> None:
    assert JobDocument.parse(webhook(url=url)).to_document()["target"]["url"] == url


@pytest.mark.parametrize(
    ("expect", "status", "expected"),
    [(["2xx"], 299, True), (["2xx"], 300, False), ([200, "4xx"], 404, True), ([200], 204, False)],
)
def test_statuses_are_expected_by_number_or_range(expect: list[Any], status: int, *, expected: bool) -> None:
    target: Any = JobDocument.parse(webhook(expect=expect)).target
    assert target.expects(status) is expected


names = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z")
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
lengths = st.sampled_from(["1s", "90s", "1h30m", "500ms", "2d", 60, 1.5, "7"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
headers = st.dictionaries(st.from_regex(r"\AX-[A-Z]{1,5}\Z"), st.from_regex(r"\A[a-z ]{0,9}\Z"), max_size=2)


def optional(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of these fields; each may be null, too."""
    return st.fixed_dictionaries({}, optional={name: st.none() | field for name, field in fields.items()})


def merged(
    required: dict[str, Any], others: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda first, second: {**first, **second}, st.fixed_dictionaries(required), others)


targets = st.one_of(
    merged(
        {"type": st.just("webhook"), "url": st.sampled_from(["http://h", "HTTPS://h:1/x?{{ slot }}"])},
        optional(
            method=st.sampled_from(["GET", "POST", "PUT"]),
            headers=headers,
            body=values,
            expect=st.lists(st.integers(100, 599) | st.sampled_from(["2xx", "3xx"]), min_size=1, max_size=3),
        ),
    ),
    merged(
        {"type": st.just("shell"), "command": st.sampled_from(["true", "date +%F"])},
        optional(
            env=st.dictionaries(st.from_regex(r"\A[A-Z]{1,4}\Z"), texts, max_size=2),
            cwd=st.just("/"),
            kill_after=lengths,
        ),
    ),
    st.fixed_dictionaries(
        {"type": st.just("handler"), "name": st.sampled_from(["close_league", "app.jobs:run"])}
    ),
    merged(
        {"type": st.just("publish"), "routing_key": st.just("q")},
        optional(exchange=st.sampled_from(["", "x"]), body=values, headers=objects),
    ),
)
schedules = st.sampled_from(
    [
        {"cron": "0 3 * * *", "timezone": "Europe/Amsterdam"},
        {"cron": "@hourly", "start": "2026-01-01T00:00:00Z"},
        {"cron": "*/10 * * * * *", "timezone": None},
        {"every": "15m", "anchor": "2026-01-01T00:05:00+01:00"},
        {"every": 30},
        {"at": "2026-12-24T18:00:00+01:00", "every": None},
    ]
)
overlaps = st.one_of(
    st.sampled_from([policy.value for policy in OverlapPolicy]),
    optional(queue_limit=st.integers(0, 5)),
    merged({"policy": st.sampled_from(["skip", "replace"])}, optional(max_running=st.none())),
    merged(
        {"policy": st.just("allow"), "max_running": st.integers(1, 9)},
        optional(queue_limit=st.integers(0, 5)),
    ),
)
documents = merged(
    {"name": names, "schedule": schedules, "target": targets},
    optional(
        description=texts,
        owner=texts,
        labels=st.dictionaries(texts, texts, max_size=2),
        params=objects,
        timeout=lengths,
        overlap=overlaps,
        misfire=optional(
            policy=st.sampled_from([policy.value for policy in MisfirePolicy]),
            grace=lengths,
            limit=st.integers(1, 1000),
            window=st.sampled_from(["30d", 2_592_000, None]),
        ),
        abandoned=st.just("fail"),
    ),
)


@given(documents)
def test_a_document_round_trips_and_its_canonical_form_is_stable(written: dict[str, Any]) -> None:
    job = JobDocument.parse(written)
    canonical = job.to_document()
    again = JobDocument.parse(json.loads(json.dumps(canonical)))
    assert again == job
    assert again.to_json() == job.to_json()


@given(documents)
def test_the_schema_accepts_what_the_parser_accepts(written: dict[str, Any]) -> None:
    job = JobDocument.parse(written)
    assert list(SCHEMA.iter_errors(written)) == []
    assert list(SCHEMA.iter_errors(job.to_document())) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"exclude": ["2026-12-24", "2026-12-24/2027-01-02", {"cron": "* * * * sun", "from": None}]},
        {"exclude": [{"from": "2026-12-24", "to": "2026-12-26"}, {"calendar": ["2026-12-25"]}]},
        {"exclude": None, "jitter": None, "dst": None},
        {"exclude": [], "jitter": 90, "dst": {}},
        {"jitter": "1m30s", "dst": {"gap": "skip", "fold": None}},
    ],
)
def test_the_schema_accepts_schedules_in_full(fields: dict[str, Any]) -> None:
    written = document(schedule={"cron": "H 3 * * *", **fields})
    canonical = JobDocument.parse(written).to_document()
    assert list(SCHEMA.iter_errors(written)) == []
    assert list(SCHEMA.iter_errors(canonical)) == []
    for wrong in ({"exclude": "2026-12-24"}, {"exclude": [{}]}, {"dst": {"gap": "no"}}, {"jitter": []}):
        assert not SCHEMA.is_valid(document(schedule={"cron": "H 3 * * *", **wrong}))


def test_the_schema_is_one_and_refuses_what_it_can_judge() -> None:
    Draft202012Validator.check_schema(job_schema())
    for wrong in (
        {},
        document(name="A"),
        document(tiemout=1),
        document(retry={"max_attempts": 0}),
        document(target={"command": "x"}),
        document(schedule={"cron": "* * * * *", "every": "1m"}),
        document(schedule={}),
        document(overlap="alow"),
        document(overlap={"limit": 1}),
        document(target=None),
        webhook(expect=[99]),
    ):
        assert not SCHEMA.is_valid(wrong), wrong


KNOWN = "known are: job, slot, run_id, attempt, epoch, params.NAME"


def publish(**fields: Any) -> dict[str, Any]:
    return document(target={"type": "publish", "routing_key": "q", **fields})


def shell(**fields: Any) -> dict[str, Any]:
    return document(target=SHELL | fields)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            webhook(url="https://h/{{ slto }}"),
            "target.url: the placeholder {{ slto }} is not known; %s; did you mean {{ slot }}?",
        ),
        (
            webhook(headers={"X": "{{ param.x }}"}),
            "target.headers.X: the placeholder {{ param.x }} is not known; %s; did you mean {{ params.x }}?",
        ),
        (
            webhook(body={"a": ["x", {"b": "{{ job.name }}"}]}),
            "target.body.a[1].b: the placeholder {{ job.name }} is not known; %s; did you mean {{ job }}?",
        ),
        (webhook(body=["{{ 1 + 1 }}"]), "target.body[0]: the placeholder {{ 1 + 1 }} is not known; %s"),
        (webhook(body="{{ }}"), "target.body: the placeholder {{  }} is not known; %s"),
        (
            shell(env={"A": "{{ runid }}"}),
            "target.env.A: the placeholder {{ runid }} is not known; %s; did you mean {{ run_id }}?",
        ),
        (
            publish(routing_key="{{ atempt }}"),
            "target.routing_key: the placeholder {{ atempt }} is not known; %s; did you mean {{ attempt }}?",
        ),
        (publish(exchange="{{ x }}"), "target.exchange: the placeholder {{ x }} is not known; %s"),
        (publish(headers={"a": "{{ x }}"}), "target.headers.a: the placeholder {{ x }} is not known; %s"),
    ],
)
def test_a_placeholder_that_no_run_will_know_is_refused(wrong: Any, sentence: str) -> None:
    assert refusals(wrong) == [sentence.replace("%s", KNOWN)]


@pytest.mark.parametrize(
    "valid",
    [
        webhook(url="https://{{ params.host }}/{{job}}?at={{ slot }}"),
        webhook(body="{{ params }}"),
        webhook(body={"{{ slto }}": "{{ params.any.thing.0 }} {{ \"{{\" }} .Names }} {{ '{{' }} {{ open"}),
        shell(
            command="docker ps --format '{{ .Names }}' '${secret:TOKEN}'",
            env={"A": "${secret:B} {{ epoch }}"},
        ),
        shell(cwd="/srv/{{ x }}"),
        publish(exchange="{{ params.exchange }}", body={"n": 1, "a": ["{{ attempt }}", None]}),
        document(params={"text": "{{ slto }} ${HOME} $secret:A"}, description="{{ slto }} ${secret:A}"),
    ],
)
def test_what_a_run_or_another_tool_may_fill_in_is_accepted(valid: dict[str, Any]) -> None:
    assert JobDocument.parse(valid).to_document()["target"] == valid["target"]


def test_secrets_in_params_are_refused_each_with_its_path() -> None:
    wrong = refusals(document(params={"token": "a ${secret:A}", "deep": [{"x": "${secret:B}"}]}))

    assert [each.split(";")[0] for each in wrong] == [
        "params.token: secrets are not resolved in params, which are stored and shown",
        "params.deep[0].x: secrets are not resolved in params, which are stored and shown",
    ]
    assert "got ${secret:A}; write it where the target needs it" in wrong[0]
