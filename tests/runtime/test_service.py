"""Services, wake-ups, backoffs and breathers: the shapes that all loops share."""

import asyncio
from typing import Any

import pytest
from bench import pass_time, recording_log

from cronexec.runtime.service import Backoff, Breather, Service, Wake

pytestmark = pytest.mark.virtual_time


async def test_a_crash_is_logged_and_told_once() -> None:
    events: list[dict[str, Any]] = []
    told: list[str] = []

    async def crash() -> None:
        raise ZeroDivisionError("a bug")

    service = Service("scheduler", crash, recording_log(events))
    service.start(told.append)
    await service.wait()
    assert told == ["scheduler: ZeroDivisionError: a bug"]
    assert [(event["event"], event["service"]) for event in events] == [("service.crashed", "scheduler")]


async def test_what_ends_because_something_it_waits_for_was_cancelled_has_crashed() -> None:
    told: list[str] = []
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def ask() -> None:
        await answer

    service = Service("heart", ask, recording_log([]))
    service.start(told.append)
    await pass_time(1)
    answer.cancel()
    await service.wait()
    assert told == ["heart: CancelledError: "]


async def test_stopping_waits_for_the_end_and_is_idempotent() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await pass_time(3)
            steps.append("ended")

    service = Service("reaper", work, recording_log([]))
    await service.stop()  # before it was started
    service.start()
    await pass_time(1)
    await service.stop()
    assert steps == ["ended"]
    await service.stop()
    await service.wait()


async def test_a_service_starts_once() -> None:
    service = Service("reaper", asyncio.Event().wait, recording_log([]))  # type: ignore[arg-type]
    service.start()
    with pytest.raises(RuntimeError, match="reaper was started twice"):
        service.start()
    await service.stop()


async def test_a_stop_is_no_crash() -> None:
    told: list[str] = []
    service = Service("reaper", asyncio.Event().wait, recording_log([]))  # type: ignore[arg-type]
    service.start(told.append)
    await pass_time(1)
    await service.stop()
    assert told == []


async def test_a_wake_up_before_the_wait_ends_it_at_once_and_only_once() -> None:
    wake = Wake()
    wake.set()
    assert await wake.wait(0)
    assert not await wake.wait(0)
    wake.set()
    wake.clear()
    assert not await wake.wait(1)


async def test_a_wake_up_ends_a_wait_that_has_begun() -> None:
    wake = Wake()
    asyncio.get_running_loop().call_later(2, wake.set)
    assert await wake.wait(5)
    assert asyncio.get_running_loop().time() == pytest.approx(2)


def test_waits_grow_with_jitter_up_to_the_most() -> None:
    backoff = Backoff(first=1.0, most=8.0)
    waits = [backoff.next() for _ in range(200)]
    assert 0.5 <= waits[0] <= 1.0
    assert 0.5 <= waits[1] <= 2.0
    assert all(0.5 <= wait <= 8.0 for wait in waits)
    assert max(waits) > 6.0
    assert len(set(waits)) == 200
    backoff.reset()
    assert backoff.next() <= 1.0


async def test_a_breather_gives_others_a_turn_when_the_slice_is_used_up() -> None:
    now = 0.0
    turns: list[float] = []
    breather = Breather(lambda: now, slice_s=0.004)
    asyncio.get_running_loop().call_soon(lambda: turns.append(now))
    await breather.breathe()
    assert turns == []
    now = 0.005
    await breather.breathe()
    assert turns == [0.005]
