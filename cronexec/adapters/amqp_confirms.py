"""Which publishes of a channel the broker has answered: pure bookkeeping, by delivery tag.

The broker counts what is published on a channel and confirms by that number, one or all up to it, in any
order. What it cannot route it sends back first, without the number: it is found again by its message id, so
every publish needs one.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from pika import BasicProperties, spec

from cronexec.adapters.amqp_problems import NackedError, ReturnedError


@dataclass(slots=True)
class _Unconfirmed:
    answer: "asyncio.Future[None]"
    message_id: str | None
    returned: str | None = None


class Confirms:
    """The publishes of one channel that are not confirmed yet."""

    def __init__(self) -> None:
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._published = 0

    def expect(self, message_id: str | None) -> "asyncio.Future[None]":
        """Return the future of what was just published; it fails with ReturnedError or NackedError."""
        self._published += 1
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unconfirmed[self._published] = _Unconfirmed(answer, message_id)
        return answer

    def clear(self) -> None:
        """Forget all: the channel is gone, and with it the numbers."""
        self._unconfirmed.clear()

    def on_return(self, _: Any, method: spec.Basic.Return, properties: BasicProperties, __: bytes) -> None:
        """Note which one came back; its confirmation follows."""
        for entry in self._unconfirmed.values():
            if entry.message_id == properties.message_id and entry.returned is None:
                where = f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
                entry.returned = f"{method.reply_text} ({where})"
                return

    def on_confirm(self, frame: Any) -> None:
        positive = isinstance(frame.method, spec.Basic.Ack)
        for tag in self._tags(frame.method.delivery_tag, multiple=frame.method.multiple):
            entry = self._unconfirmed.pop(tag)
            if entry.answer.done():  # who waited has given up
                continue
            if entry.returned is not None:
                entry.answer.set_exception(ReturnedError(entry.returned))
            elif positive:
                entry.answer.set_result(None)
            else:
                entry.answer.set_exception(NackedError("the broker refused the message (nack)"))

    def _tags(self, last: int, *, multiple: bool) -> list[int]:
        if not multiple:
            return [last] if last in self._unconfirmed else []
        tags: list[int] = []
        for tag in self._unconfirmed:  # in the order of publishing
            if tag > last:
                break
            tags.append(tag)
        return tags
