"""A handler that blocks its event loop is told of, once, with the line; nothing else is."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import pytest
from patience import PATIENCE
from structlog.testing import capture_logs
from target_runs import execution_of, wait_until

from cronexec.domain.targets import HandlerTarget as Document
from cronexec.targets import handler_stalls
from cronexec.targets.handler import Handlers, HandlerTarget

Events = list[MutableMapping[str, Any]]


@pytest.fixture
def events() -> Any:
    """Return what is logged; the logger is got when the target is made, so this comes first."""
    with capture_logs() as logged:
        yield logged


@pytest.fixture
async def call(events: Events) -> AsyncIterator[Callable[..., Any]]:
    """Return what calls a function as a handler."""
    assert events == []
    handlers = Handlers()
    target = HandlerTarget(handlers)

    async def called(function: Callable[..., Any]) -> Any:
        handlers.register(function.__name__, function)
        execution = execution_of(Document(name=function.__name__))
        return await asyncio.wait_for(target.execute(execution), PATIENCE)

    yield called
    await target.close()


def named(events: Events, name: str) -> Events:
    return [each for each in events if each["event"] == name]


async def test_a_blocked_handler_loop_is_told_of_once_with_the_line_that_it_stands_at(
    call: Callable[..., Any], events: Events
) -> None:
    go = threading.Event()

    async def blocking() -> None:
        stand_still(go)

    running = asyncio.ensure_future(call(blocking))
    await wait_until(lambda: bool(named(events, "handlers.stalled")), lambda: events)
    await asyncio.sleep(2 * handler_stalls.ASK_INTERVAL)
    go.set()
    await running
    await wait_until(lambda: bool(named(events, "handlers.resumed")), lambda: events)

    (stalled,) = named(events, "handlers.stalled")
    assert stalled["log_level"] == "warning"
    assert stalled["seconds"] >= handler_stalls.STALL
    assert "threading.py" in stalled["at"] or "stand_still" in stalled["at"]
    (resumed,) = named(events, "handlers.resumed")
    assert resumed["seconds"] >= stalled["seconds"] + handler_stalls.ASK_INTERVAL


def stand_still(until: threading.Event) -> None:
    assert until.wait(PATIENCE)


async def test_a_handler_that_waits_as_it_should_is_not_told_of(
    call: Callable[..., Any], events: Events
) -> None:
    async def waiting() -> None:
        await asyncio.sleep(handler_stalls.STALL + 2 * handler_stalls.ASK_INTERVAL)

    await call(waiting)

    assert named(events, "handlers.stalled") == []


async def test_nobody_is_asked_while_there_is_no_handler(
    call: Callable[..., Any], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_stalls, "ASK_INTERVAL", 3.0)  # by then the handler has long ended

    async def quick() -> None:
        return

    await call(quick)
    assert _timers() == 1, "the watch looks once more"
    await wait_until(lambda: _timers() == 0, _timers)
    assert events == []


def _timers() -> int:
    """Return how many timers of the watch there are on this loop."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return sum("StallWatch" in repr(each) and not each.cancelled() for each in scheduled)
