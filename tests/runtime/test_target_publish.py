import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from patience import PATIENCE
from target_runs import execution_of

from cronexec.domain.run import RunState
from cronexec.domain.targets import PublishTarget as Document
from cronexec.errors import RefusedError, UnreachableError
from cronexec.ports import CommandArrived
from cronexec.targets.publish import PublishTarget
from cronexec.targets.secrets import Secrets


class RecordingPublisher:
    """Keeps what is published, or fails as it is told."""

    def __init__(self, failure: Exception | None = None, *, hangs: bool = False) -> None:
        self.published: list[tuple[str, str, bytes, dict[str, Any], str]] = []
        self.begun = asyncio.Event()
        self._failure = failure
        self._hangs = hangs

    async def publish(
        self, exchange: str, routing_key: str, body: bytes, headers: Mapping[str, Any], *, content_type: str
    ) -> None:
        self.begun.set()
        if self._failure:
            raise self._failure
        if self._hangs:
            await asyncio.Event().wait()
        self.published.append((exchange, routing_key, body, dict(headers), content_type))

    async def publish_baton(self, message_id: str, body: bytes, timeout: float) -> bool:
        raise NotImplementedError

    async def publish_command(
        self, body: bytes, *, command_id: str, reply_to: str | None, expires: float | None = None
    ) -> None:
        raise NotImplementedError

    async def reply(self, reply_to: str, correlation_id: str | None, body: bytes) -> None:
        raise NotImplementedError

    async def reject(self, command: CommandArrived, *, code: str, message: str, field: str | None) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def target_of(publisher: RecordingPublisher) -> PublishTarget:
    return PublishTarget(publisher=publisher, secrets=Secrets({"CRONEXEC_SECRET_KEY": "k-1234"}))


async def test_a_message_is_filled_in_and_carries_the_identity() -> None:
    publisher = RecordingPublisher()
    document = Document(
        exchange="games",
        routing_key="close.{{ params.league }}",
        body={"n": "{{ params.league }}"},
        headers={"n": 1},
    )
    outcome = await target_of(publisher).execute(execution_of(document, params={"league": 7}))
    assert outcome.state is RunState.SUCCEEDED
    exchange, routing_key, body, headers, content_type = publisher.published[0]
    assert (exchange, routing_key, content_type) == ("games", "close.7", "application/json")
    assert json.loads(body) == {"n": 7}
    assert headers["n"] == 1
    assert headers["Idempotency-Key"] == "close-league@2026-11-20T03:00:00Z"


async def test_a_message_without_a_body_says_who_the_run_is() -> None:
    publisher = RecordingPublisher()
    await target_of(publisher).execute(execution_of(Document(routing_key="q"), params={"league": 7}))
    assert json.loads(publisher.published[0][2])["params"] == {"league": 7}


async def test_a_body_of_text_stays_text() -> None:
    publisher = RecordingPublisher()
    await target_of(publisher).execute(execution_of(Document(routing_key="q", body="{{ job }}!")))
    assert publisher.published[0][2] == b"close-league!"
    assert publisher.published[0][4] == "text/plain"


@pytest.mark.parametrize(
    "failure",
    [
        RefusedError("unroutable", "no queue takes messages for 'q'"),
        UnreachableError("broker", "the broker is away", ""),
    ],
)
async def test_what_cannot_be_published_is_a_failure_with_the_sentence(failure: Exception) -> None:
    outcome = await target_of(RecordingPublisher(failure)).execute(execution_of(Document(routing_key="q")))
    assert (outcome.state, outcome.error) == (RunState.FAILED, str(failure))


async def test_secrets_are_not_in_errors() -> None:
    publisher = RecordingPublisher(RefusedError("unroutable", "no queue takes messages for 'k-1234'"))
    outcome = await target_of(publisher).execute(execution_of(Document(routing_key="${secret:KEY}")))
    assert outcome.error == "no queue takes messages for '***'"


async def test_a_cancelled_publish_is_left() -> None:
    publisher = RecordingPublisher(hangs=True)
    task = asyncio.create_task(target_of(publisher).execute(execution_of(Document(routing_key="q"))))
    await asyncio.wait_for(publisher.begun.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert publisher.published == []


async def test_a_routing_key_that_a_param_makes_too_long_is_said_to_be_and_nothing_is_published() -> None:
    publisher = RecordingPublisher()
    execution = execution_of(Document(routing_key="games.{{ params.x }}"), params={"x": "ü" * 125})
    outcome = await target_of(publisher).execute(execution)
    assert outcome.error == "the routing key is longer than 255 bytes"
    assert publisher.published == []
