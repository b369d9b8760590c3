import asyncio
from collections.abc import AsyncIterator

import pytest
from target_runs import SLOT, execution_of
from test_target_publish import RecordingPublisher

from cronexec.adapters.memory_clock import ManualClock
from cronexec.domain.run import RunState
from cronexec.domain.targets import HandlerTarget, PublishTarget, ShellTarget, WebhookTarget
from cronexec.settings import Settings
from cronexec.targets import Targets
from cronexec.targets.handler import Handlers


async def _asynchronous() -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def targets() -> AsyncIterator[Targets]:
    handlers = Handlers()
    handlers.register("asynchronous", _asynchronous)
    handlers.register("thread", lambda _: None)
    targets = Targets.build(
        Settings(), handlers=handlers, publisher=RecordingPublisher(), clock=ManualClock(SLOT), environ={}
    )
    yield targets
    await targets.close()


async def test_every_kind_has_its_limit(targets: Targets) -> None:
    documents = {
        "webhooks": WebhookTarget(url="http://host/"),
        "shell": ShellTarget(command="true"),
        "publishes": PublishTarget(routing_key="q"),
        "async_handlers": HandlerTarget(name="asynchronous"),
        "handlers": HandlerTarget(name="thread"),
        "processes": HandlerTarget(name="thread", isolation="process"),
    }
    assert {name: targets.pool_of(document) for name, document in documents.items()} == {
        name: name for name in documents
    }


async def test_what_this_instance_cannot_execute_is_said(targets: Targets) -> None:
    shell = "shell targets are not allowed on this instance: set CRONEXEC_ALLOW_SHELL=true"
    assert targets.unavailable(ShellTarget(command="true")) == shell
    assert (
        targets.unavailable(HandlerTarget(name="none"))
        == "no handler named none is registered on this instance"
    )
    assert targets.unavailable(HandlerTarget(name="thread")) is None
    assert targets.handlers() == ("asynchronous", "thread")


@pytest.mark.parametrize("name", ["asynchronous", "thread"])
async def test_an_execution_goes_to_its_kind(name: str, targets: Targets) -> None:
    outcome = await targets.execute(execution_of(HandlerTarget(name=name)))
    assert outcome.state is RunState.SUCCEEDED
