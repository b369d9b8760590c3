import asyncio
import base64
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web
from target_runs import SLOT, execution_of, printed, wait_until

from cronexec.adapters.memory_clock import ManualClock
from cronexec.domain.run import Outcome, RunState
from cronexec.domain.targets import WebhookTarget as Document
from cronexec.ports import Execution
from cronexec.targets import webhook
from cronexec.targets.retry_after import retry_after
from cronexec.targets.secrets import Secrets
from cronexec.targets.webhook import WebhookTarget

KEY = bytes(range(32))
SECRETS = {
    "CRONEXEC_SECRET_TOKEN": "tok/123",
    "CRONEXEC_SECRET_SIGNING": "whsec_" + base64.b64encode(KEY).decode(),
    "CRONEXEC_SECRET_NEXT": base64.b64encode(b"n" * 24).decode(),
    "CRONEXEC_SECRET_SHORT": "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "CRONEXEC_SECRET_LONG": "whsec_" + base64.b64encode(b"x" * 65).decode(),
}


def signature_by_openssl(signed: bytes, key: bytes) -> str:
    """Compute what the receiver expects with another implementation than ours."""
    command = ["openssl", "dgst", "-sha256", "-binary", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}"]
    done = subprocess.run(command, input=signed, stdout=subprocess.PIPE, check=True)
    return base64.b64encode(done.stdout).decode()


def signed_by(*names: str) -> dict[str, Any]:
    return {"secret": [f"${{secret:{name}}}" for name in names]}


class Receiver:
    """An HTTP server on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self.left = asyncio.Event()
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911  a table of answers
        self.requests.append((request, await request.read()))
        match request.path.split("/")[1]:
            case "status":
                return web.Response(status=int(request.path.split("/")[2]), text="as you like")
            case "later":
                return web.Response(status=int(request.path.split("/")[2]), headers=request.query)
            case "echo":
                return web.Response(text=f"got {request.headers.get('Authorization')}")
            case "elsewhere":
                return web.Response(status=302, headers={"Location": "/status/200"})
            case "hangs":
                return await self._hang()
            case "large":
                return await self._pour(request)
            case "breaks":
                return await self._break_off(request)
        return web.Response(text="done")

    async def _hang(self) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError

    async def _pour(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            self.left.set()

    async def _break_off(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def target() -> AsyncIterator[WebhookTarget]:
    target = WebhookTarget(secrets=Secrets(SECRETS), clock=ManualClock(SLOT), connect_timeout=2)
    yield target
    await target.close()


def request_to(url: str, **fields: Any) -> Execution:
    return execution_of(Document(url=url, **fields), params={"league": 7, "name": "a b/c?d"})


async def failure(target: WebhookTarget, execution: Execution) -> Outcome:
    outcome = await target.execute(execution)
    assert outcome.state is RunState.FAILED
    return outcome


async def test_an_expected_status_is_a_success_and_the_answer_is_kept(
    target: WebhookTarget, receiver: Receiver
) -> None:
    execution = request_to(receiver.url)
    outcome = await target.execute(execution)
    assert (outcome.state, outcome.status) == (RunState.SUCCEEDED, 200)
    assert printed(execution) == "done"


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


async def test_another_status_is_a_failure_that_names_it(target: WebhookTarget, receiver: Receiver) -> None:
    execution = request_to(receiver.url + "/status/503", expect=(200, "3xx"))
    outcome = await failure(target, execution)
    assert outcome.status == 503
    assert outcome.error is not None
    assert outcome.error.endswith("answered 503 Service Unavailable; expected 200, 3xx")
    assert printed(execution) == "as you like"


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        (429, {"Retry-After": "120"}, timedelta(seconds=120)),
        (503, {"Retry-After": " 0 "}, timedelta(0)),
        (500, {"Retry-After": "120"}, None),
        (503, {}, None),
        (503, {"Retry-After": "-5"}, None),
        (503, {"Retry-After": "1.5"}, None),
        (503, {"Retry-After": "soon"}, None),
        (
            503,
            {"Retry-After": "Wed, 21 Oct 2015 07:29:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
            timedelta(seconds=90),
        ),
        (
            503,
            {"Retry-After": "Wed, 21 Oct 2015 07:27:00 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"},
            timedelta(0),
        ),
    ],
)
async def test_the_receiver_says_when_to_come_back(
    status: int,
    headers: dict[str, str],
    hint: timedelta | None,
    target: WebhookTarget,
    receiver: Receiver,
) -> None:
    outcome = await failure(target, request_to(f"{receiver.url}/later/{status}?{urlencode(headers)}"))
    assert (outcome.status, outcome.retry_after) == (status, hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Fri, 20 Nov 2026 03:00:30 GMT", timedelta(seconds=30)),
        ("Friday, 20-Nov-26 03:00:30 GMT", timedelta(seconds=30)),
        ("Fri Nov 20 03:00:30 2026", timedelta(seconds=30)),
        ("9" * 40, timedelta(seconds=999_999_999)),
        ("Fri, 99 Nov 2026 03:00:30 GMT", None),
    ],
)
def test_an_instant_without_a_date_beside_it_is_by_our_clock(text: str, hint: timedelta | None) -> None:
    assert retry_after(503, {"Retry-After": text}, SLOT) == hint


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


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("POST", {}, 302),
        ("GET", {"X-Key": "${secret:TOKEN}"}, 302),
    ],
)
async def test_redirects_are_followed_only_where_nothing_can_go_wrong(
    method: str, headers: dict[str, str], status: int, target: WebhookTarget, receiver: Receiver
) -> None:
    outcome = await target.execute(request_to(receiver.url + "/elsewhere", method=method, headers=headers))
    assert outcome.status == status
    assert (outcome.error is None) == (status == 200)
    if outcome.error:
        assert "302 Found to /status/200, which is not followed" in outcome.error


async def test_a_refused_connection_is_said_to_be_one(target: WebhookTarget) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outcome = await failure(target, request_to(f"http://127.0.0.1:{port}/"))
    assert outcome.error == f"no connection to 127.0.0.1:{port}: Connection refused"


async def test_a_param_cannot_add_a_header(target: WebhookTarget, receiver: Receiver) -> None:
    document = Document(url=receiver.url, headers={"X-Name": "{{ params.name }}"})
    outcome = await failure(target, execution_of(document, params={"name": "a\r\nX-Other: b"}))
    assert outcome.error is not None
    assert "failed: ValueError" in outcome.error
    assert receiver.requests == []


async def test_an_unknown_host_is_named(target: WebhookTarget) -> None:
    outcome = await failure(target, request_to("http://nowhere.invalid/?key=hidden"))
    assert outcome.error == "the host name nowhere.invalid cannot be resolved"


async def test_tls_to_a_server_without_is_said(target: WebhookTarget, receiver: Receiver) -> None:
    outcome = await failure(target, request_to(receiver.url.replace("http", "https")))
    assert outcome.error is not None
    assert outcome.error.startswith("no TLS connection with 127.0.0.1:")


async def test_an_answer_that_breaks_off_is_a_failure(target: WebhookTarget, receiver: Receiver) -> None:
    execution = request_to(receiver.url + "/breaks")
    outcome = await failure(target, execution)
    assert outcome.error is not None
    assert outcome.error.endswith(" broke off")


async def test_an_answer_without_end_is_read_in_part(target: WebhookTarget, receiver: Receiver) -> None:
    execution = request_to(receiver.url + "/large")
    outcome = await target.execute(execution)
    assert outcome.state is RunState.SUCCEEDED
    assert execution.output.written == webhook.MOST_BYTES  # type: ignore[attr-defined]
    await asyncio.wait_for(receiver.left.wait(), 10)


async def test_a_cancelled_request_closes_its_connection(target: WebhookTarget, receiver: Receiver) -> None:
    task = asyncio.create_task(target.execute(request_to(receiver.url + "/hangs")))
    await wait_until(lambda: receiver.requests, lambda: "no request")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(receiver.left.wait(), 10)
    assert receiver.left.is_set()
