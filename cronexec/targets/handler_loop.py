"""Where asynchronous handlers run: not the engine's loop, so that one which blocks holds up nothing else.

It is the application's loop where there is one (`AsyncCronexec`), otherwise one of our own in a thread of its
own, started with the first handler. Loops wake each other by writing to a socket, which costs more than an
empty handler: therefore all that happened in one turn of a loop travels in one batch, and a batch is unpacked
in portions, between which the loop can do other things.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cronexec.log import get_logger
from cronexec.targets.handler_call import Call
from cronexec.targets.handler_stalls import StallWatch

PORTION = 200
END_TIMEOUT = 1.0  # seconds that tasks left on our own loop have to end

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Carries items from one loop to another, where `receive` is called with each.

    `put` is for the first loop.
    """

    def __init__(
        self,
        sender: asyncio.AbstractEventLoop,
        receiver: asyncio.AbstractEventLoop,
        receive: Callable[[T], None],
    ) -> None:
        self._sender = sender
        self._receiver = receiver
        self._receive = receive
        self._items: list[T] = []

    def put(self, item: T) -> None:
        self._items.append(item)
        if len(self._items) == 1:
            self._sender.call_soon(self._send)

    def _send(self) -> None:
        items, self._items = self._items, []
        try:
            self._receiver.call_soon_threadsafe(self._unpack, items, 0)
        except RuntimeError:
            get_logger().warning("handler.loop_closed", undelivered=len(items))

    def _unpack(self, items: list[T], start: int) -> None:
        for item in items[start : start + PORTION]:
            self._receive(item)
        if start + PORTION < len(items):
            self._receiver.call_soon(self._unpack, items, start + PORTION)


class HandlerLoop:
    """Performs calls of asynchronous handlers.

    Made on the engine's loop; `given`: the application's, which is not ours to end.
    """

    def __init__(self, given: asyncio.AbstractEventLoop | None = None) -> None:
        self._engine = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._loop = given or asyncio.new_event_loop()
        self._is_ours = given is None
        self._stopping = False
        self._served = asyncio.Event()
        self._running: set[Call] = set()  # a loop holds tasks by weak references only
        self._calls = Mailbox(self._engine, self._loop, self._take)
        self._ended = Mailbox(self._loop, self._engine, Call.finish)
        self._stalls = StallWatch(self._engine, self._loop, lambda: bool(self._running))

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def start(self, call: Call) -> None:
        """Perform a call."""
        if self._is_ours and self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="cronexec-handlers", daemon=True)
            self._thread.start()
        self._calls.put(call)
        self._stalls.wake()

    def cancel(self, call: Call) -> None:
        """Cancel a call that is marked so."""
        self._calls.put(call)

    async def close(self) -> None:
        """End our own loop, and with it the tasks that are left on it; one that blocks is left alone."""
        self._stalls.stop()
        if not self._is_ours or self._stopping:
            return
        self._stopping = True
        if self._thread is None:
            self._loop.close()
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * END_TIMEOUT):
                await self._served.wait()  # joining takes a thread, and an interpreter that exits gives none

    def _take(self, call: Call) -> None:
        if not call.cancelled:
            self._running.add(call)
            call.task = self._loop.create_task(self._perform(call), context=call.context)
        elif call.task is None:  # it was cancelled before it began
            self._ended.put(call)
        else:
            call.task.add_done_callback(lambda _: self._end(call))
            call.task.cancel()

    async def _perform(self, call: Call) -> None:
        try:
            call.returned(await call.function(call.run))
        except asyncio.CancelledError:
            pass
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  asyncio would end the loop for the latter
            call.raised(error)
        self._end(call)

    def _end(self, call: Call) -> None:
        """Report the end; again for one that is cancelled, whose task may never have had its first step."""
        self._running.discard(call)
        self._ended.put(call)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._stopping:
            try:
                self._loop.run_forever()
            except BaseException:  # noqa: BLE001  SystemExit, out of something that a handler left behind
                get_logger().exception("handler.loop_interrupted")
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=END_TIMEOUT))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        with contextlib.suppress(RuntimeError):  # the engine's loop is closed: nobody waits any more
            self._engine.call_soon_threadsafe(self._served.set)
