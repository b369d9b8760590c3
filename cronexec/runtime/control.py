"""The listener: does what this instance alone is told (`domain.control`), wherever the baton is.

It may come and go with the broker: nobody relies on a message, only on the state that it changes. It begins
when what competes for the baton has had its turn, so that it costs a start nothing.
"""

import asyncio

from cronexec.domain.control import ControlMessage, ControlType, read_control
from cronexec.errors import UnreachableError
from cronexec.ports.broker import Control
from cronexec.runtime.context import Context
from cronexec.runtime.drain import Drain
from cronexec.runtime.service import Backoff

BEGINS_AFTER = 1.0  # seconds
LONGEST_PAUSE = 5.0


class ControlListener:
    """Belongs to the instance."""

    def __init__(self, context: Context, drain: Drain) -> None:
        self._context = context
        self._drain = drain
        self._said = ""

    async def run(self) -> None:
        """Listen for ever; what cannot be listened to is tried again, and said once for each reason."""
        await asyncio.sleep(BEGINS_AFTER)
        backoff = Backoff(most=LONGEST_PAUSE)
        while True:
            try:
                control = await self._context.broker.open_control()
                backoff.reset()
                await self._listen(control)
            except UnreachableError as error:
                self._say(str(error))
            await asyncio.sleep(backoff.next())

    async def _listen(self, control: Control) -> None:
        try:
            while True:
                body = await control.next()
                message = read_control(body)
                if message is None:
                    self._context.log.warning("control.not_understood", body=repr(body[:200]))
                elif message.instance == self._context.executor.id:
                    await self._obey(message)
        finally:
            await control.close()

    async def _obey(self, message: ControlMessage) -> None:
        match message.type:
            case ControlType.DRAIN:
                await self._drain.begin(message.issued_by)
            case ControlType.UNDRAIN:
                await self._drain.end(message.issued_by)

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            self._context.log.warning("control.interrupted", why=why)
