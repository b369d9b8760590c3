"""How long the event loop is held, as CPU time of its own thread: the load of others is not in it."""

import asyncio
import gc
import time
from typing import Any

PAUSE = 0.001  # seconds


async def longest_hold(task: "asyncio.Future[Any]") -> float:
    """Wait for `task`; returns the most CPU seconds that this thread used between two of our wake-ups.

    A millisecond of that is other callbacks' while we sleep. Garbage collection waits: it is nobody's fault.
    """
    longest = 0.0
    gc.disable()
    try:
        while not task.done():
            before = time.thread_time()
            await asyncio.sleep(PAUSE)
            longest = max(longest, time.thread_time() - before)
    finally:
        gc.enable()
    return longest
