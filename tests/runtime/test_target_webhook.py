"""What a webhook sends: whose run it is, what the document says, and a signature."""

import base64
import json
import subprocess
from collections.abc import AsyncIterator

import pytest
from target_runs import SLOT, execution_of, printed
from webhook_receiver import KEY, SECRETS, Receiver, failure, request_to, signed_by

from cronexec.adapters.memory_clock import ManualClock
from cronexec.domain.run import RunState
from cronexec.domain.targets import WebhookTarget as Document
from cronexec.targets.secrets import Secrets
from cronexec.targets.webhook import WebhookTarget


@pytest.fixture
async def target() -> AsyncIterator[WebhookTarget]:
    target = WebhookTarget(secrets=Secrets(SECRETS), clock=ManualClock(SLOT))
    yield target
    await target.close()


def signature_by_openssl(signed: bytes, key: bytes) -> str:
    """Compute what the receiver expects with another implementation than ours."""
    command = ["openssl", "dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}"]
    done = subprocess.run(command, input=signed, stdout=subprocess.PIPE, check=True)
    return base64.b64encode(done.stdout).decode()


async def test_the_request_carries_the_runs_identity(target: WebhookTarget, receiver: Receiver) -> None:
    await target.execute(request_to(receiver.url))
    request, body = receiver.requests[0]
    assert request.method == "POST"
    assert request.headers["Idempotency-Key"] == "close-league@2026-11-20T03:00:00Z"
    assert request.headers["X-Cronexec-Job"] == "close-league"
    assert request.headers["X-Cronexec-Slot"] == "2026-11-20T03:00:00Z"
    assert request.headers["X-Cronexec-Attempt"] == "2"
    assert request.headers["X-Cronexec-Epoch"] == "7"
    assert request.content_type == "application/json"
    assert json.loads(body) == {
        "job": "close-league",
        "slot": "2026-11-20T03:00:00Z",
        "run_id": "close-league@2026-11-20T03:00:00Z",
        "attempt": 2,
        "epoch": 7,
        "params": {"league": 7, "name": "a b/c?d"},
    }


async def test_a_run_id_that_no_header_can_carry_is_percent_encoded(
    target: WebhookTarget, receiver: Receiver
) -> None:
    outcome = await target.execute(execution_of(Document(url=receiver.url), run_id="close-league#é\r\nX: y"))
    assert outcome.state is RunState.SUCCEEDED
    assert receiver.requests[0][0].headers["Idempotency-Key"] == "close-league#%C3%A9%0D%0AX: y"


async def test_url_headers_and_body_are_filled_in(target: WebhookTarget, receiver: Receiver) -> None:
    body = {"league": "{{ params.league }}", "text": ["{{ job }} at {{slot}}"]}
    execution = request_to(
        receiver.url + "/p/{{ params.name }}?at={{ slot }}",
        method="PUT",
        headers={"X-League": "{{ params.league }}"},
        body=body,
    )
    await target.execute(execution)
    request, sent = receiver.requests[0]
    assert request.method == "PUT"
    assert request.path == "/p/a b/c?d"
    assert request.query == {"at": "2026-11-20T03:00:00Z"}
    assert request.headers["X-League"] == "7"
    assert json.loads(sent) == {"league": 7, "text": ["close-league at 2026-11-20T03:00:00Z"]}


async def test_a_body_of_text_is_sent_as_text(target: WebhookTarget, receiver: Receiver) -> None:
    await target.execute(request_to(receiver.url, body="league {{ params.league }}"))
    request, body = receiver.requests[0]
    assert (request.content_type, body) == ("text/plain", b"league 7")


async def test_a_get_has_no_body_of_its_own(target: WebhookTarget, receiver: Receiver) -> None:
    await target.execute(request_to(receiver.url, method="GET"))
    request, body = receiver.requests[0]
    assert (request.headers.get("Content-Type"), body) == (None, b"")


async def test_a_request_is_signed_so_that_its_receiver_can_check_it_alone(
    target: WebhookTarget, receiver: Receiver
) -> None:
    await target.execute(request_to(receiver.url, body={"a": "ü"}, **signed_by("SIGNING")))
    request, body = receiver.requests[0]
    assert request.headers["webhook-id"] == "close-league@2026-11-20T03:00:00Z"
    assert request.headers["webhook-timestamp"] == str(int(SLOT.timestamp()))
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
    assert request.headers["webhook-signature"] == "v1," + signature_by_openssl(signed, KEY)


async def test_while_a_secret_is_replaced_there_is_a_signature_with_each(
    target: WebhookTarget, receiver: Receiver
) -> None:
    await target.execute(request_to(receiver.url, method="GET", **signed_by("SIGNING", "NEXT")))
    headers = receiver.requests[0][0].headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode()
    assert headers["webhook-signature"].split() == [
        "v1," + signature_by_openssl(signed, key) for key in (KEY, b"n" * 24)
    ]


async def test_no_full_stop_of_a_run_id_is_taken_for_one_of_the_signed_text(
    target: WebhookTarget, receiver: Receiver
) -> None:
    document = Document(url=receiver.url, **signed_by("SIGNING"))
    await target.execute(execution_of(document, run_id="close.league#a.1700000000.ü b"))
    headers = receiver.requests[0][0].headers
    assert headers["webhook-id"] == "close%2Eleague#a%2E1700000000%2E%C3%BC%20b"
    assert headers["Idempotency-Key"] == "close.league#a.1700000000.%C3%BC b"


@pytest.mark.parametrize("name", ["TOKEN", "SHORT", "LONG"])
async def test_what_is_no_signing_secret_is_said_and_nothing_is_sent(
    name: str, target: WebhookTarget, receiver: Receiver
) -> None:
    outcome = await failure(target, request_to(receiver.url, **signed_by(name)))
    assert outcome.error == f"the secret {name} cannot sign: expected whsec_ and 24 to 64 bytes in base64"
    assert receiver.requests == []


async def test_a_request_without_a_secret_has_no_signature(target: WebhookTarget, receiver: Receiver) -> None:
    await target.execute(request_to(receiver.url))
    assert not [name for name in receiver.requests[0][0].headers if name.lower().startswith("webhook-")]


async def test_an_unknown_placeholder_is_a_failure_and_nothing_is_sent(
    target: WebhookTarget, receiver: Receiver
) -> None:
    outcome = await failure(target, request_to(receiver.url, body={"a": "{{ params.slto }}"}))
    known = "job, slot, run_id, attempt, epoch, params.league, params.name"
    assert outcome.error == f"the placeholder {{{{ params.slto }}}} is not known; known are: {known}"
    assert receiver.requests == []


async def test_secrets_are_sent_and_not_shown(target: WebhookTarget, receiver: Receiver) -> None:
    execution = request_to(receiver.url + "/echo", headers={"Authorization": "Bearer ${secret:TOKEN}"})
    await target.execute(execution)
    assert receiver.requests[0][0].headers["Authorization"] == "Bearer tok/123"
    assert printed(execution) == "got Bearer ***"


async def test_a_param_cannot_name_a_secret(target: WebhookTarget, receiver: Receiver) -> None:
    document = Document(url=receiver.url, body={"a": "{{ params.x }}", "b": "{{ params.x }}!"})
    await target.execute(execution_of(document, params={"x": "${secret:TOKEN}"}))
    assert json.loads(receiver.requests[0][1]) == {"a": "${secret:TOKEN}", "b": "${secret:TOKEN}!"}


async def test_a_param_cannot_add_a_header(target: WebhookTarget, receiver: Receiver) -> None:
    document = Document(url=receiver.url, headers={"X-Name": "{{ params.name }}"})
    outcome = await failure(target, execution_of(document, params={"name": "a\r\nX-Other: b"}))
    assert outcome.error is not None
    assert "failed: ValueError" in outcome.error
    assert receiver.requests == []


async def test_a_user_agent_of_the_document_is_the_only_one(
    target: WebhookTarget, receiver: Receiver
) -> None:
    await target.execute(request_to(receiver.url, headers={"user-agent": "games"}))
    await target.execute(request_to(receiver.url))
    given = [request.headers.getall("User-Agent") for request, _ in receiver.requests]
    assert given == [["games"], ["cronexec"]]
