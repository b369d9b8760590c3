"""The guard: when a term is over, and that it stays so."""

import asyncio
import threading
from datetime import timedelta

import pytest
from bench import pass_time
from virtual_time import freeze

from cronexec.runtime.guard import TermGuard

pytestmark = pytest.mark.virtual_time


def begun() -> TermGuard:
    loop = asyncio.get_running_loop()
    return TermGuard(lease=timedelta(seconds=10), monotonic=loop.time, renewed_at=loop.time())


async def test_the_first_reason_wins_and_the_end_stays() -> None:
    guard = begun()
    guard.end("fenced")
    guard.end("stopping")
    guard.renew(asyncio.get_running_loop().time())
    assert not guard.holds()
    assert await guard.wait_ended() == "fenced"


async def test_the_lease_counts_from_the_start_of_the_last_write() -> None:
    guard = begun()
    await pass_time(6)
    guard.renew(5.0)
    await pass_time(8.9)
    assert guard.holds()
    await pass_time(0.1)
    assert not guard.holds()
    assert guard.reason == "lease_expired"


async def test_a_write_that_was_started_earlier_does_not_shorten_the_lease() -> None:
    guard = begun()
    await pass_time(5)
    guard.renew(5.0)
    guard.renew(1.0)
    assert guard.remaining() == pytest.approx(10)


async def test_a_process_that_stood_still_finds_its_lease_over_before_it_does_anything() -> None:
    guard = begun()
    freeze(10.5)
    assert not guard.holds()


async def test_the_end_of_the_lease_is_noticed_though_nobody_asks() -> None:
    guard = begun()
    waiting = asyncio.create_task(guard.wait_ended())
    await pass_time(4)
    guard.renew(4.0)
    await pass_time(9.9)
    assert not waiting.done()
    await pass_time(0.2)
    assert waiting.done()
    assert await waiting == "lease_expired"


async def test_a_thread_may_end_it() -> None:
    guard = begun()
    thread = threading.Thread(target=guard.end, args=("engine_blocked",))
    thread.start()
    thread.join()
    assert not guard.holds()
    assert await guard.wait_ended() == "engine_blocked"
