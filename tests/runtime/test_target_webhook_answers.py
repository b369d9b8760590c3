"""What becomes of a webhook's answer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from patience import PATIENCE
from target_runs import SLOT, printed
from webhook_receiver import SECRETS, Receiver, failure, request_to, signed_by

from cronexec.adapters.memory_clock import ManualClock
from cronexec.domain.run import RunState
from cronexec.targets import webhook
from cronexec.targets.retry_after import retry_after
from cronexec.targets.secrets import Secrets
from cronexec.targets.webhook import WebhookTarget


@pytest.fixture
async def target() -> AsyncIterator[WebhookTarget]:
    target = WebhookTarget(secrets=Secrets(SECRETS), clock=ManualClock(SLOT))
    yield target
    await target.close()


async def test_an_expected_status_is_a_success_and_the_answer_is_kept(
    target: WebhookTarget, receiver: Receiver
) -> None:
    execution = request_to(receiver.url)
    outcome = await target.execute(execution)
    assert (outcome.state, outcome.status) == (RunState.SUCCEEDED, 200)
    assert printed(execution) == "done"


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


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", {}, 200),
        ("POST", {}, 302),
        ("GET", {"headers": {"X-Key": "${secret:TOKEN}"}}, 302),
        ("GET", signed_by("SIGNING"), 302),
    ],
)
async def test_redirects_are_followed_only_where_nothing_can_go_wrong(
    method: str, fields: dict[str, Any], status: int, target: WebhookTarget, receiver: Receiver
) -> None:
    outcome = await target.execute(request_to(receiver.url + "/elsewhere", method=method, **fields))
    assert outcome.status == status
    assert (outcome.error is None) == (status == 200)
    if outcome.error:
        assert "302 Found to /status/200, which is not followed" in outcome.error


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
    await asyncio.wait_for(receiver.left.wait(), PATIENCE)


@pytest.mark.parametrize("line", [b"500 caf\xe9\r\n", b"302 Found\r\nLocation: /caf\xe9\r\n"])
async def test_an_answer_whose_words_are_no_text_can_be_stored(line: bytes, target: WebhookTarget) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + line + b"Content-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await failure(target, request_to(f"http://127.0.0.1:{port}/"))
    assert "caf?" in str(outcome.error)


async def test_an_answer_that_is_cut_within_a_secret_shows_nothing_of_it(
    target: WebhookTarget, receiver: Receiver
) -> None:
    execution = request_to(receiver.url + "/filled", headers={"Authorization": "Bearer ${secret:TOKEN}"})
    await target.execute(execution)
    assert execution.output.transcript().pieces[-1].data.endswith(b"x***")
