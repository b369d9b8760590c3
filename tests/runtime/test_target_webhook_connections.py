"""How webhooks find their hosts, and use their connections."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from patience import PATIENCE
from target_runs import SLOT, printed, wait_until
from webhook_receiver import SECRETS, Receiver, failure, request_to

from cronexec.adapters.memory_clock import ManualClock
from cronexec.domain.run import RunState
from cronexec.targets import host_names, webhook
from cronexec.targets.secrets import Secrets
from cronexec.targets.webhook import WebhookTarget


@pytest.fixture
async def target() -> AsyncIterator[WebhookTarget]:
    target = WebhookTarget(secrets=Secrets(SECRETS), clock=ManualClock(SLOT))
    yield target
    await target.close()


async def test_a_refused_connection_is_said_to_be_one(target: WebhookTarget) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outcome = await failure(target, request_to(f"http://127.0.0.1:{port}/"))
    assert outcome.error == f"no connection to 127.0.0.1:{port}: Connection refused"


async def test_an_unknown_host_is_named(target: WebhookTarget) -> None:
    outcome = await failure(target, request_to("http://nowhere.invalid/?key=hidden"))
    assert outcome.error == "the host name nowhere.invalid cannot be resolved"


async def test_tls_to_a_server_without_is_said(target: WebhookTarget, receiver: Receiver) -> None:
    outcome = await failure(target, request_to(receiver.url.replace("http", "https")))
    assert outcome.error is not None
    assert outcome.error.startswith("no TLS connection with 127.0.0.1:")


async def test_a_cancelled_request_closes_its_connection(target: WebhookTarget, receiver: Receiver) -> None:
    task = asyncio.create_task(target.execute(request_to(receiver.url + "/hangs")))
    await wait_until(lambda: receiver.requests, lambda: "no request")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(receiver.left.wait(), PATIENCE)
    assert receiver.left.is_set()


async def test_a_connection_is_used_again_soon_and_not_when_its_server_may_be_about_to_close_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connections(pause: float) -> list[str]:
        target = WebhookTarget(secrets=Secrets({}), clock=ManualClock(SLOT))
        executions = [request_to(receiver.url + "/peer") for _ in range(2)]
        for execution in executions:
            await target.execute(execution)
            await asyncio.sleep(pause)
        await target.close()
        return [printed(execution) for execution in executions]

    monkeypatch.setattr(webhook, "KEPT_FOR", 1000.0)
    assert len(set(await connections(0))) == 1
    monkeypatch.setattr(webhook, "KEPT_FOR", 0.05)
    assert len(set(await connections(0.1))) == 2


def test_connections_are_kept_for_less_than_any_server_keeps_them() -> None:
    assert webhook.KEPT_FOR < 2, "gunicorn's keepalive; uvicorn and Node have 5 s"


async def test_names_that_nobody_resolves_hold_up_no_thread_of_the_loops_own(
    target: WebhookTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Semaphore(0), threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: str, *rest: Any, **more: Any) -> Any:
        if not host.endswith(".example"):
            return look_up(host, *rest, **more)
        asked.release()
        answer.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    urls = [f"http://host{number}.example/" for number in range(2 * host_names.THREADS)]
    running = [asyncio.create_task(target.execute(request_to(url))) for url in urls]
    for _ in range(host_names.THREADS):
        await asyncio.to_thread(asked.acquire, timeout=PATIENCE)
    found = await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo("localhost", 80), PATIENCE / 2)
    assert found
    answer.set()
    errors = {outcome.error for outcome in await asyncio.gather(*running)}
    assert "the host name host0.example cannot be resolved" in errors


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_host_is_found_by_its_name_and_by_its_address(
    host: str, target: WebhookTarget, receiver: Receiver
) -> None:
    outcome = await target.execute(request_to(receiver.url.replace("127.0.0.1", host)))
    assert outcome.state is RunState.SUCCEEDED


async def test_an_address_of_ipv6_is_told_apart_from_its_port(target: WebhookTarget) -> None:
    outcome = await failure(target, request_to("http://[::1]:1/"))
    assert str(outcome.error).startswith("no connection to [::1]:1: ")


@pytest.mark.parametrize("password", ["a[b]c", "a[b", "a/b", "a#b", "a@b:c", "a?b", "a%zz", "a b"])
async def test_a_password_that_breaks_the_url_is_not_shown(password: str, receiver: Receiver) -> None:
    target = WebhookTarget(secrets=Secrets({"CRONEXEC_SECRET_PW": password}), clock=ManualClock(SLOT))
    host = receiver.url.removeprefix("http://")
    execution = request_to(f"http://user:${{secret:PW}}@{host}/status/500")
    outcome = await target.execute(execution)
    await target.close()
    assert outcome.state is RunState.FAILED
    assert outcome.error is not None
    assert not [part for part in ("a[b", "[b]", "'b'", "a/b", "zz") if part in outcome.error]
