"""What a broker tells, as values: a message as it arrives, and what one may not have to be sent.

pika tells of what it cannot encode by errors of several kinds, some of them its general one; and it sends
headers of any length, upon which the broker closes the connection, with all that is under way on it.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pika import BasicProperties
from pika.exceptions import ShortStringTooLong, UnsupportedAMQPFieldException

UNENCODABLE = (
    ShortStringTooLong,  # a name or an id of more than 255 bytes
    UnsupportedAMQPFieldException,  # in the headers: AMQP has no such type, or pika does not send it (float)
    struct.error,  # a number of more than 64 bits
    UnicodeError,
)
LONGEST_REPLACED = 255 // 3  # characters: what stands for a byte takes three, and 255 is the most


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A delivery."""

    tag: int
    body: bytes
    redelivered: bool
    message_id: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)


def message_from(method: Any, properties: BasicProperties, body: bytes) -> Message:
    """Return what pika delivers, or got."""
    return Message(
        tag=method.delivery_tag,
        body=body,
        redelivered=bool(method.redelivered),
        message_id=_text(properties.message_id),
        reply_to=_text(properties.reply_to),
        correlation_id=_text(properties.correlation_id),
        user_id=_text(properties.user_id),
        headers=properties.headers or {},
    )


def headers_size(properties: BasicProperties) -> int:
    """Return the bytes of properties that have headers; 0 without, which always fit. Raises UNENCODABLE."""
    return sum(map(len, properties.encode())) if properties.headers else 0


def server_version(properties: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the server's version as numbers, from its properties; () when it does not say."""
    text = properties.get("version", "")
    text = text.decode() if isinstance(text, bytes) else str(text)
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _text(value: str | bytes | None) -> str | None:
    """Return a short string; pika leaves one that is not UTF-8 as bytes, and takes no such address itself."""
    return value.decode(errors="replace")[:LONGEST_REPLACED] if isinstance(value, bytes) else value
