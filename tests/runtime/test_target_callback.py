"""Webhooks that answer 202 and finish later: reports with the token of the attempt, and of nobody else."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from bench import recording_log
from target_runs import SLOT, Reports, execution_of, printed, wait_until

from cronexec.adapters.memory_clock import ManualClock
from cronexec.domain.run import Outcome, RunState
from cronexec.domain.targets import WebhookTarget as Document
from cronexec.log import get_logger
from cronexec.ports import Execution
from cronexec.targets import callback_server
from cronexec.targets.callback_server import CallbackServer
from cronexec.targets.callbacks import Callbacks
from cronexec.targets.secrets import Secrets
from cronexec.targets.webhook import WebhookTarget

WRONG = "not a token"
FINISH = {"finish": {"state": "succeeded"}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Stage:
    """A receiver of webhooks, the target that calls it, and a client that calls back."""

    target: WebhookTarget
    callbacks: Callbacks
    client: aiohttp.ClientSession
    port: int
    url: str = ""
    status: int = 202
    requests: list[Mapping[str, str]] = field(default_factory=list)
    before_answer: Mapping[str, Any] | None = None

    async def receive(self, request: web.Request) -> web.Response:
        self.requests.append(request.headers)
        if self.before_answer is not None:
            await self.call(self.before_answer)
        return web.Response(status=self.status, text=f"got {request.headers['X-Cronexec-Callback-Token']}\n")

    def begin(
        self, run_id: str = "close-league@2026-11-20T03:00:00Z"
    ) -> tuple[Execution, asyncio.Task[Outcome]]:
        document = Document.model_validate({"url": self.url, "wait": "callback"})
        execution = execution_of(document, run_id=run_id)
        return execution, asyncio.create_task(self.target.execute(execution))

    async def asked(self, times: int = 1) -> Mapping[str, str]:
        await wait_until(lambda: len(self.requests) == times, lambda: self.requests)
        return self.requests[-1]

    async def call(self, body: Any, *, token: str | None = None, path: str | None = None) -> tuple[int, Any]:
        asked = self.requests[-1]
        url = asked["X-Cronexec-Callback"] if path is None else f"http://127.0.0.1:{self.port}{path}"
        bearer = asked["X-Cronexec-Callback-Token"] if token is None else token
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {bearer}"}
        async with self.client.post(_as_it_is(url), data=data, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text


def _as_it_is(url: str) -> Any:
    return aiohttp.client.URL(url, encoded=True)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    port = free_port()
    callbacks = Callbacks(f"http://127.0.0.1:{port}/")
    server = CallbackServer(callbacks, f"127.0.0.1:{port}", get_logger())
    server.start()
    target = WebhookTarget(
        secrets=Secrets({}), clock=ManualClock(SLOT), callbacks=callbacks, server=server
    )  # closes the server
    async with aiohttp.ClientSession() as client:
        made = Stage(target, callbacks, client, port)
        app = web.Application()
        app.router.add_post("/work", made.receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/work"
        await wait_until(lambda: callbacks.problem is None, lambda: callbacks.problem)
        yield made
        await target.close()
        await runner.cleanup()


async def test_a_run_lasts_until_its_receiver_says_how_it_ended(stage: Stage) -> None:
    execution, running = stage.begin()
    await stage.asked()
    progress = {"done": 2, "total": 5, "message": "matches"}

    assert await stage.call({"progress": progress, "log": "half"}) == (200, {"state": "running"})
    assert await stage.call({"log": "whole\n"}) == (200, {"state": "running"})
    assert not running.done()
    assert await stage.call(FINISH) == (200, {"state": "succeeded"})

    assert await running == Outcome(state=RunState.SUCCEEDED, status=202)
    assert isinstance(execution.report, Reports)
    assert execution.report.seen == [(2, 5, "matches")]
    assert printed(execution).endswith("half\nwhole\n")


async def test_a_receiver_may_say_that_it_failed_and_why(stage: Stage) -> None:
    _, running = stage.begin()
    await stage.asked()
    await stage.call({"finish": {"state": "failed", "error": "no such league"}})
    outcome = await running
    assert (outcome.state, outcome.error, outcome.status) == (RunState.FAILED, "no such league", 202)


@pytest.mark.parametrize(("status", "state"), [(200, RunState.SUCCEEDED), (500, RunState.FAILED)])
async def test_another_answer_than_202_ends_the_run_as_ever(
    stage: Stage, status: int, state: RunState
) -> None:
    stage.status = status
    _, running = stage.begin()
    outcome = await running
    assert (outcome.state, outcome.status) == (state, status)
    assert await stage.call(FINISH) == (409, {"error": "the run is over"})


async def test_what_is_said_before_the_answer_counts(stage: Stage) -> None:
    stage.before_answer = FINISH
    _, running = stage.begin()
    assert (await running).state is RunState.SUCCEEDED


async def test_a_receiver_whose_run_is_over_is_told_so(stage: Stage) -> None:
    _, running = stage.begin()
    await stage.asked()
    running.cancel()
    await asyncio.wait({running})
    assert await stage.call({"log": "late"}) == (409, {"error": "the run is over"})


async def test_a_token_is_for_its_own_attempt_and_what_else_it_could_be_is_not_told(stage: Stage) -> None:
    _, first = stage.begin("a@2026-11-20T03:00:00Z")
    token = (await stage.asked())["X-Cronexec-Callback-Token"]
    _, second = stage.begin("b@2026-11-20T03:00:00Z")
    await stage.asked(2)

    answers = [
        await stage.call(FINISH, token=token),
        await stage.call(FINISH, token=WRONG),
        await stage.call(FINISH, path="/runs/nosuch", token=WRONG),
        await stage.call(FINISH, path="/runs/nosuch"),
        await stage.call(FINISH, path="/"),
        await stage.call(FINISH, path="/elsewhere/runs/b%402026-11-20T03:00:00Z"),
    ]
    without = await stage.call(FINISH, token="")

    assert answers == [(404, {"error": "not found"})] * 6
    assert without == (401, {"error": "expected a bearer token in Authorization"})
    assert not first.done()
    assert not second.done()
    first.cancel()
    second.cancel()
    await asyncio.wait({first, second})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "the body is no JSON"),
        (b"\xff", "the body is no JSON"),
        (b"[" * 60_000, "the body is no JSON"),
        ({}, "expected progress, log or finish; got none of them"),
        ({"lgo": "x"}, "log"),
        ({"finish": {"state": "done"}}, "finish.state"),
        ({"progress": {"done": "2"}}, "progress.done: expected a number; got '2'"),
        ({"progress": {"done": 10**30}}, "progress.done"),
        (b'{"progress": {"done": NaN}}', "progress.done"),
        ({"progress": {"done": 1, "message": "x" * 1001}}, "progress.message"),
        ([], "expected"),
    ],
)
async def test_a_report_that_cannot_be_understood_is_refused_with_a_sentence(
    stage: Stage, body: Any, said: str
) -> None:
    _, running = stage.begin()
    await stage.asked()
    status, answer = await stage.call(body)
    assert status == 400
    assert said in answer["error"]
    await stage.call(FINISH)
    await running


async def test_a_body_that_is_too_large_and_another_method_are_refused(stage: Stage) -> None:
    _, running = stage.begin()
    asked = await stage.asked()
    status, _ = await stage.call({"log": "x" * 70_000})
    assert status == 413
    async with stage.client.get(asked["X-Cronexec-Callback"]) as answer:
        assert answer.status == 405
    await stage.call(FINISH)
    await running


async def test_half_of_a_surrogate_pair_is_replaced(stage: Stage) -> None:
    execution, running = stage.begin()
    await stage.asked()
    await stage.call({"progress": {"done": 1, "message": "\ud800!"}, **FINISH})
    await running
    assert isinstance(execution.report, Reports)
    assert execution.report.seen == [(1, None, "?!")]


async def test_a_run_is_found_whatever_characters_its_key_has(stage: Stage) -> None:
    run_id = "close-league#a/b?c%2F#d runs/"
    _, running = stage.begin(run_id)
    asked = await stage.asked()
    assert asked["X-Cronexec-Callback"].endswith("/runs/" + quote(run_id, safe=""))
    assert await stage.call(FINISH) == (200, {"state": "succeeded"})
    assert (await running).state is RunState.SUCCEEDED


async def test_the_token_shows_in_no_output(stage: Stage) -> None:
    execution, running = stage.begin()
    token = (await stage.asked())["X-Cronexec-Callback-Token"]
    await stage.call({"log": f"I am {token}", **FINISH})
    await running
    assert printed(execution) == "got ***\nI am ***\n"


def test_a_url_with_a_path_of_its_own_is_understood_with_it_and_without() -> None:
    callbacks = Callbacks("https://games.example/cron/")
    assert callbacks._run_of("/cron/runs/a%402026") == "a@2026"
    assert callbacks._run_of("/runs/a%402026") == "a@2026"
    assert callbacks._run_of("/other/runs/a") is None


async def test_without_a_callback_url_such_a_target_is_not_available() -> None:
    target = WebhookTarget(secrets=Secrets({}), clock=ManualClock(SLOT))
    document = Document.model_validate({"url": "http://127.0.0.1:1/", "wait": "callback"})
    assert "CRONEXEC_CALLBACK_URL" in str(target.unavailable(document))
    assert (await target.execute(execution_of(document))).state is RunState.FAILED


async def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cronexec.targets.callback_server.RETRY_INTERVAL", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        callbacks = Callbacks(f"http://127.0.0.1:{port}")
        server = CallbackServer(callbacks, f"127.0.0.1:{port}", get_logger())
        server.start()
        await wait_until(lambda: "cannot listen" in str(callbacks.problem), lambda: callbacks.problem)
        monkeypatch.setattr("cronexec.targets.callbacks.LISTEN_TIMEOUT", 0.05)
        target = WebhookTarget(secrets=Secrets({}), clock=ManualClock(SLOT), callbacks=callbacks)
        document = Document.model_validate({"url": "http://127.0.0.1:1/", "wait": "callback"})
        assert target.unavailable(document) is None
        outcome = await target.execute(execution_of(document))
        assert "cannot listen for callbacks" in str(outcome.error)
    await wait_until(lambda: callbacks.problem is None, lambda: callbacks.problem)
    await server.close()


async def test_a_port_that_cannot_be_had_is_told_of_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callback_server, "RETRY_INTERVAL", 0.01)
    events: list[dict[str, Any]] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        callbacks = Callbacks(f"http://{address}")
        server = CallbackServer(callbacks, address, recording_log(events))
        server.start()
        await wait_until(lambda: events, lambda: callbacks.problem)
        await asyncio.sleep(0.1)  # tried several times
    try:
        await wait_until(lambda: callbacks.problem is None, lambda: callbacks.problem)
    finally:
        await server.close()
    assert [event["event"] for event in events] == ["callbacks.not_listening", "callbacks.listening"]
