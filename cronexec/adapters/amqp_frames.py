"""Messages with headers that pika cannot decode: they arrive all the same, with the headers as bytes.

Anybody may send a command, and put anything into its headers: an instant in milliseconds where AMQP has
seconds, say, which is one of the year 59010. pika raises where it meets such a value, in the middle of
reading: the connection would end, the message would come back to the next one who consumes, and end that
connection too, for ever. So a header frame that cannot be decoded is read once more without its table, which
is handed on undecoded under `UNDECODED`.
"""

import struct
from typing import Any

from pika import BasicProperties, frame, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import InvalidFieldTypeException

UNDECODED = "x-cronexec-undecoded-headers"
# An instant beyond the year 9999, or beyond what the platform knows; no number; an unknown type.
UNDECODABLE = (ValueError, OverflowError, OSError, InvalidFieldTypeException)
FRAME_START = struct.Struct(">BHL")  # type, channel, size
CONTENT_START = struct.Struct(">HHQ")  # class, weight, size of the body
FLAGS, LENGTH = struct.Struct(">H"), struct.Struct(">I")


class ForgivingConnection(AsyncioConnection):  # type: ignore[misc]  # pika is Any to mypy
    """pika's connection, which survives what it cannot decode in the headers of a message."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            return super()._read_frame()  # type: ignore[no-any-return]  # pika is Any to mypy
        except UNDECODABLE:
            if (read := read_without_headers(self._frame_buffer)) is None:
                raise
            return read


def read_without_headers(buffer: bytes) -> tuple[int, frame.Header] | None:
    """Read the whole frame at the start of `buffer`, which has its length and the frame; None if it has none.

    None is returned for all but the header frame of a message with headers.
    """
    kind, channel, size = FRAME_START.unpack_from(buffer)
    if kind != spec.FRAME_HEADER:
        return None
    content = buffer[FRAME_START.size : FRAME_START.size + size]
    _, _, body_size = CONTENT_START.unpack_from(content)
    properties = _properties(content[CONTENT_START.size :])
    if properties is None:
        return None
    return FRAME_START.size + size + spec.FRAME_END_SIZE, frame.Header(channel, body_size, properties)


def _properties(encoded: bytes) -> BasicProperties | None:
    """Decode all properties but the headers, which stand after the content's type and encoding."""
    (flags,) = FLAGS.unpack_from(encoded)
    if not flags & BasicProperties.FLAG_HEADERS:
        return None
    table = FLAGS.size
    for flag in (BasicProperties.FLAG_CONTENT_TYPE, BasicProperties.FLAG_CONTENT_ENCODING):
        table += 1 + encoded[table] if flags & flag else 0
    (length,) = LENGTH.unpack_from(encoded, table)
    end = table + LENGTH.size + length
    others = FLAGS.pack(flags & ~BasicProperties.FLAG_HEADERS) + encoded[FLAGS.size : table] + encoded[end:]
    properties = BasicProperties().decode(others)
    properties.headers = {UNDECODED: encoded[table + LENGTH.size : end]}
    return properties
