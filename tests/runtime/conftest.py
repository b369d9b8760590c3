"""Made-up time for the tests that ask for it, a namespace in memory, handlers and a receiver of webhooks."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from bench import Bench
from virtual_time import VirtualTimeLoop
from webhook_receiver import Receiver

from cronexec.targets.handler import Handlers, HandlerTarget


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "virtual_time: run on an event loop whose time is made up")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
async def handlers() -> Handlers:
    """The functions that `target` can call: none yet."""
    return Handlers()


@pytest.fixture
async def target(handlers: Handlers) -> AsyncIterator[HandlerTarget]:
    """What calls handlers; modules on another kind of target have their own."""
    target = HandlerTarget(handlers, threads=2)
    yield target
    await target.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """What takes webhooks."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    random.seed(0)  # backoffs have jitter
    made = Bench()
    yield made
    await made.close()
