"""Points at which an instance can be stopped, killed or held up, exactly.

A point is a place in the code that only a holder reaches. It is *armed* with what is to happen the first time
that it is reached (or the n-th): the process freezes itself (SIGSTOP), kills itself (SIGKILL), waits until it
is told to go on, loses the answer of the commit that it is about to send, or decides nothing any more in this
term, though it says that it lives. What happens is logged as `fault.reached`, just before.

Imported by the member's process only: it puts itself around the methods of the runtime and of the adapters.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from pymongo.asynchronous.pool import AsyncConnection

from cronexec.adapters import mongo_fence
from cronexec.log import get_logger
from cronexec.ports import Batch
from cronexec.runtime.baton import BatonKeeper
from cronexec.runtime.committer import Committer
from cronexec.runtime.dispatcher import Dispatcher
from cronexec.runtime.inbox import Inbox
from cronexec.runtime.scheduler import Scheduler

BEFORE_CLAIM = "before_claim"
IN_TRANSACTION = "in_transaction"
BEFORE_START = "before_start"
IN_RENEWAL = "in_renewal"
COMMAND_ARRIVES = "command_arrives"
COMMANDS_COMMITTED = "commands_committed"
DECIDES = "decides"
SAID = {
    BEFORE_CLAIM: "between deciding and claiming",
    IN_TRANSACTION: "inside the claim transaction",
    BEFORE_START: "between claiming and starting",
    IN_RENEWAL: "in the middle of a renewal",
}

FREEZE, KILL, WAIT, LOSE_ANSWER, NOTHING = "freeze", "kill", "wait", "lose_answer", "nothing"
IDLE_INTERVAL = 0.5  # seconds
SIGNALS = {FREEZE: signal.SIGSTOP, KILL: signal.SIGKILL}

_loses_answer: ContextVar[bool] = ContextVar("loses_answer", default=False)


class Points:
    """What is armed in this process; `arm` and `go` may be called from any thread."""

    def __init__(self) -> None:
        self._armed: dict[str, tuple[str, int]] = {}
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._idle_epoch: int | None = None

    def arm(self, point: str, then: str, times: int = 1) -> None:
        self._armed[point] = (then, times)

    def go(self) -> None:
        """Let go of what waits at a point."""
        if self._waiting is not None:
            loop, event = self._waiting
            loop.call_soon_threadsafe(event.set)

    def reach(self, point: str) -> str | None:
        """Do what the point is armed with; returns what it is, if that is left to the caller."""
        if point not in self._armed:
            return None
        then, times = self._armed.pop(point)
        if times > 1:
            self._armed[point] = (then, times - 1)
            return None
        get_logger().warning("fault.reached", point=point, then=then)
        if then in SIGNALS:
            signal.pthread_kill(threading.get_ident(), SIGNALS[then])
            return None
        return then

    async def reach_in_commit(self) -> None:
        match self.reach(IN_TRANSACTION):
            case "wait":
                event = asyncio.Event()
                self._waiting = (asyncio.get_running_loop(), event)
                await event.wait()
            case "lose_answer":
                _loses_answer.set(True)

    def install(self) -> None:
        """Put all points into the code."""
        self._before(Committer, "commit", BEFORE_CLAIM, lambda batch: bool(batch.entries))
        self._before(Dispatcher, "begin_reserved", BEFORE_START, lambda _: True)
        self._before(Inbox, "arrive", COMMAND_ARRIVES, lambda _: True)
        self._before(Inbox, "answer", COMMANDS_COMMITTED, bool)
        self._in_renewal()
        self._in_commit()
        self._in_decisions()
        _lose_answers()

    def _before(self, owner: type, method: str, point: str, applies: Callable[[Any], bool]) -> None:
        original = getattr(owner, method)

        @wraps(original)
        def reached(part: Any, given: Any) -> Any:
            if applies(given):
                self.reach(point)
            return original(part, given)

        setattr(owner, method, reached)

    def _in_renewal(self) -> None:
        """The fresh baton is delivered and the old one is not acked: both are in hand."""
        original = BatonKeeper.arrived

        @wraps(original)
        def arrived(keeper: BatonKeeper, baton: Any) -> None:
            if baton.message_id in keeper._expected:
                self.reach(IN_RENEWAL)
            original(keeper, baton)

        BatonKeeper.arrived = arrived  # type: ignore[method-assign]

    def _in_commit(self) -> None:
        """All is written, the term document too, and locked; the commit is not sent."""
        original = mongo_fence._Write._commit

        @wraps(original)
        async def commit(write: Any) -> None:
            if write._batch.entries:
                await self.reach_in_commit()
            await original(write)

        mongo_fence._Write._commit = commit  # type: ignore[method-assign]

    def _in_decisions(self) -> None:
        """The holder writes nothing, twice a second, instead of what is due."""
        original = Scheduler.tick

        @wraps(original)
        async def tick(scheduler: Scheduler) -> None:
            term = scheduler._committer.term
            if self.reach(DECIDES) == NOTHING:
                self._idle_epoch = term.epoch
            if self._idle_epoch != term.epoch:
                return await original(scheduler)
            await scheduler._committer.commit(Batch(until=term.watermark, revision=term.revision))
            return await asyncio.sleep(IDLE_INTERVAL)

        Scheduler.tick = tick  # type: ignore[method-assign]


def _lose_answers() -> None:
    """Have the connection break when an answer has come that is to be lost: once."""
    original = AsyncConnection.receive_message

    @wraps(original)
    async def receive(connection: AsyncConnection, request_id: int | None) -> Any:
        answer = await original(connection, request_id)
        if _loses_answer.get():
            _loses_answer.set(False)
            await connection._raise_connection_failure(ConnectionResetError("the answer is lost"))
        return answer

    AsyncConnection.receive_message = receive  # type: ignore[method-assign]
