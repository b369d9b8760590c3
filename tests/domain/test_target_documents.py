import time
from typing import Any

import pytest

from cronexec.domain.job import JobDocument
from cronexec.domain.targets import HandlerTarget, WebhookTarget
from cronexec.errors import InvalidDocumentError


def document(**fields: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "schedule": {"every": "1m"},
        "target": {"type": "shell", "command": "true"},
        **fields,
    }


def webhook(**fields: Any) -> dict[str, Any]:
    return document(target={"type": "webhook", "url": "http://host/", **fields})


def refusals(wrong: Any) -> list[str]:
    with pytest.raises(InvalidDocumentError) as caught:
        JobDocument.parse(wrong)
    return [f"{each.field}: {each.message}" for each in caught.value.problems]


@pytest.mark.parametrize(
    "fields",
    [
        {"target": {"type": "webhook", "url": "http://host/", "body": "{{" * 30_000}},
        {"target": {"type": "webhook", "url": f"http://host/{'{{' * 30_000}"}},
        {"target": {"type": "webhook", "url": f"http://host/{'${' * 30_000}"}},
        {"params": {"a": "${secret:" * 6_500}},
    ],
    ids=("body", "url", "references", "params"),
)
def test_no_document_takes_long_to_be_read(fields: dict[str, Any]) -> None:
    began_at = time.thread_time()
    JobDocument.parse(document(**fields))
    assert time.thread_time() - began_at < 0.5  # where each brace looks for its end: a quarter of a minute


ONLY_REFERENCES = (
    'expected a reference such as "${secret:NAME}"; the secret itself does not belong in a document, '
    "and is not shown here"
)


@pytest.mark.parametrize(
    ("secret", "names", "written"),
    [
        ("${secret:A}", ("A",), "${secret:A}"),
        (["${secret:A}"], ("A",), "${secret:A}"),
        (["${secret:NEW}", "${secret:OLD}"], ("NEW", "OLD"), ["${secret:NEW}", "${secret:OLD}"]),
    ],
)
def test_the_secrets_that_sign_are_references_one_or_several(
    secret: Any, names: tuple[str, ...], written: Any
) -> None:
    job = JobDocument.parse(webhook(secret=secret))
    assert isinstance(job.target, WebhookTarget)
    assert job.target.secret_names == names
    assert job.to_document()["target"]["secret"] == written
    assert JobDocument.parse(job.to_document()) == job


@pytest.mark.parametrize(
    ("secret", "sentences"),
    [
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", [f"target.secret: {ONLY_REFERENCES}"]),
        ("x${secret:A}", [f"target.secret: {ONLY_REFERENCES}"]),
        ("${secret:a-b}", [f"target.secret: {ONLY_REFERENCES}"]),
        (
            ["${secret:A}", "plain-text", 5],
            [f"target.secret[1]: {ONLY_REFERENCES}", f"target.secret[2]: {ONLY_REFERENCES}"],
        ),
        (
            [],
            [
                (
                    'target.secret: expected "${secret:NAME}", or a list of such references while one '
                    "replaces another"
                )
            ],
        ),
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_shown(secret: Any, sentences: list[str]) -> None:
    assert refusals(webhook(secret=secret)) == sentences


def test_the_headers_of_a_signature_are_ours_where_there_is_a_secret() -> None:
    headers = {"Webhook-ID": "x", "X-A": "y"}
    assert JobDocument.parse(webhook(headers=headers)).name == "a"
    assert refusals(webhook(headers=headers, secret=["${secret:A}"])) == [
        "target.headers.Webhook-ID: set by cronexec to sign the request; leave it out"
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"expected": "20m", "timeout": "10m"},
            "expected: has to be below timeout: expected is 20m, timeout 10m",
        ),
        ({"expected": "1m", "timeout": 60}, "expected: has to be below timeout: expected is 1m, timeout 1m"),
        (
            {"expected": "2m", "target": {"type": "webhook", "url": "http://host/"}},
            "expected: has to be below timeout: expected is 2m, timeout 1m",
        ),
        (
            {"expected": 0},
            'expected: expected a length of time above zero, such as "90s" or "1h30m"; got 0',
        ),
    ],
)
def test_a_run_is_expected_to_end_before_it_is_ended(fields: dict[str, Any], sentence: str) -> None:
    assert refusals(document(**fields)) == [sentence]


@pytest.mark.parametrize("timeout", [None, "30m"])
def test_what_is_expected_is_kept(timeout: str | None) -> None:
    job = JobDocument.parse(document(expected="1200s", timeout=timeout))
    assert job.to_document()["expected"] == "20m"
    assert JobDocument.parse(job.to_document()) == job


def test_a_handler_may_want_a_process_of_its_own() -> None:
    target = {"type": "handler", "name": "h", "isolation": "process", "kill_after": "30s"}
    job = JobDocument.parse(document(target=target))
    assert isinstance(job.target, HandlerTarget)
    assert job.target.isolation == "process"
    assert job.to_document()["target"] == target
    assert JobDocument.parse(job.to_document()) == job
    plain = JobDocument.parse(document(target={"type": "handler", "name": "h"}))
    assert plain.to_document()["target"] == {"type": "handler", "name": "h"}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            document(target={"type": "handler", "name": "h", "isolation": "proces"}),
            "target.isolation: expected process; got 'proces'; did you mean 'process'?",
        ),
        (
            document(target={"type": "handler", "name": "h", "kill_after": "1s"}),
            "target.kill_after: only a process can be killed: it goes with isolation: process",
        ),
        (
            document(target={"type": "shell", "command": "true", "isolation": "process"}),
            "target.isolation: unknown field 'isolation'; known: type, command, env, cwd, kill_after",
        ),
        (document(isolation="process"), "isolation: unknown field 'isolation'; it belongs in 'target'"),
        (document(secret="${secret:A}"), "secret: unknown field 'secret'; it belongs in 'target'"),  # noqa: S106  a reference
    ],
)
def test_isolation_is_said_where_it_belongs(wrong: Any, sentence: str) -> None:
    assert refusals(wrong) == [sentence]
