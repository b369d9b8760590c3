"""pymongo's locks outlive whoever is cancelled while he waits for a server."""

import asyncio

from patience import PATIENCE
from pymongo.lock import _async_cond_wait, _async_create_condition, _async_create_lock

from cronexec.adapters.mongo_waits import mend_waits

TIMEOUT = 0.05


async def test_a_cancelled_wait_for_a_server_leaves_the_lock_to_others() -> None:
    """It is cancelled when its time is up, and it waits for the lock that another holds."""
    mend_waits()
    lock = _async_create_lock()
    condition = _async_create_condition(lock)
    taken, given_up = asyncio.Event(), asyncio.Event()

    async def wait() -> bool:
        async with lock:
            return await _async_cond_wait(condition, TIMEOUT)

    async def hold() -> None:
        async with lock:
            taken.set()
            await given_up.wait()

    waiting = asyncio.create_task(wait())
    holding = asyncio.create_task(hold())
    await taken.wait()
    await asyncio.sleep(3 * TIMEOUT)
    waiting.cancel()
    given_up.set()
    async with asyncio.timeout(PATIENCE):
        ends = await asyncio.gather(waiting, holding, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert ends[1] is None, "nobody has released its lock"
    assert not lock.locked(), "nobody has kept the lock"


async def test_a_wait_for_a_server_still_ends_in_time() -> None:
    mend_waits()
    lock = _async_create_lock()
    async with lock:
        assert not await _async_cond_wait(_async_create_condition(lock), TIMEOUT)
        assert lock.locked()
