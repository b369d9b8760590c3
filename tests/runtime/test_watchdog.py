"""The watchdog: a blocked event loop loses the term. In real time, because a thread watches."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from bench import recording_log

from cronexec.adapters.memory_broker import MemoryBroker
from cronexec.ports import LinkLost
from cronexec.runtime import watchdog
from cronexec.runtime.guard import TermGuard
from cronexec.runtime.watchdog import Watchdog

LIMIT = timedelta(seconds=0.2)


class Holding:
    """What the watchdog ends: a term, and the link that it came by."""

    def __init__(self, guard: TermGuard, broker_link: Any) -> None:
        self.guard = guard
        self.link = broker_link
        self.ended_in: threading.Thread | None = None
        self.ended = threading.Event()

    def end_term(self, reason: str) -> None:
        self.ended_in = threading.current_thread()
        self.guard.end(reason)
        self.link.sever()
        self.ended.set()


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_INTERVAL", 0.05)


async def test_a_blocked_loop_loses_the_term_while_it_is_blocked() -> None:
    link = await MemoryBroker().open_link()
    guard = TermGuard(lease=timedelta(seconds=60), monotonic=time.monotonic, renewed_at=time.monotonic())
    holding = Holding(guard, link)
    events: list[dict[str, Any]] = []
    dog = Watchdog(holding, limit=LIMIT, monotonic=time.monotonic, log=recording_log(events))
    dog.start()
    try:
        time.sleep(1.0)  # noqa: ASYNC251  blocks the loop on purpose
        assert holding.ended.is_set()
        assert not guard.holds()
        assert guard.reason == "engine_blocked"
        assert holding.ended_in is not threading.current_thread()
        assert isinstance(await asyncio.wait_for(link.events(), 5), LinkLost)
        assert await asyncio.wait_for(guard.wait_ended(), 5) == "engine_blocked"
        assert [event["event"] for event in events] == ["engine.blocked"]
    finally:
        dog.stop()


async def test_it_barks_once_for_each_blockage() -> None:
    ended: list[str] = []
    barked = threading.Semaphore(0)

    class Watched:
        def end_term(self, reason: str) -> None:
            ended.append(reason)
            barked.release()

    now = 0.0
    dog = Watchdog(Watched(), limit=LIMIT, monotonic=lambda: now, log=recording_log([]))
    dog.start()
    try:
        now = 1.0
        assert await asyncio.to_thread(barked.acquire, timeout=5)
        assert not await asyncio.to_thread(barked.acquire, timeout=0.3)
        dog.beat()
        assert not await asyncio.to_thread(barked.acquire, timeout=0.3)  # it has seen the loop turn
        now = 2.0
        assert await asyncio.to_thread(barked.acquire, timeout=5)
        assert ended == ["engine_blocked"] * 2
    finally:
        dog.stop()


async def test_a_loop_that_turns_keeps_its_term() -> None:
    ended: list[str] = []

    class Watched:
        def end_term(self, reason: str) -> None:
            ended.append(reason)

    dog = Watchdog(Watched(), limit=LIMIT, monotonic=time.monotonic, log=recording_log([]))
    dog.start()
    for _ in range(20):
        dog.beat()
        await asyncio.sleep(0.03)
    dog.stop()
    assert ended == []


def test_stopping_is_idempotent_and_ends_the_thread() -> None:
    class Watched:
        def end_term(self, reason: str) -> None:
            raise AssertionError(reason)

    dog = Watchdog(Watched(), limit=LIMIT, monotonic=time.monotonic, log=recording_log([]))
    dog.stop()
    dog = Watchdog(Watched(), limit=LIMIT, monotonic=time.monotonic, log=recording_log([]))
    dog.start()
    dog.stop()
    dog.stop()
    assert "cronexec-watchdog" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}


async def test_a_stall_that_costs_no_term_is_measured_and_told() -> None:
    now = 0.0
    events: list[dict[str, Any]] = []

    class Watched:
        def end_term(self, reason: str) -> None:
            raise AssertionError(reason)

    dog = Watchdog(Watched(), limit=timedelta(seconds=10), monotonic=lambda: now, log=recording_log(events))
    for now in (0.5, 1.0, 1.6, 4.1, 4.6):  # noqa: B007  what the clock shows
        dog.beat()
    assert [(event["event"], event["seconds"]) for event in events] == [("engine.stalled", 2.0)]
