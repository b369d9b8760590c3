"""Frames between an instance, its supervisor and the keepers: a length (4 bytes, big endian) and JSON."""

import json
import struct
from collections.abc import Iterator
from typing import Any

LENGTH = struct.Struct(">I")

Frame = dict[str, Any]


class Frames:
    """What has been received, cut into frames."""

    def __init__(self) -> None:
        self._received = bytearray()

    def take(self, data: bytes) -> Iterator[Frame]:
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            frame = json.loads(self._received[LENGTH.size : end])
            del self._received[:end]
            yield frame


def packed(frame: Frame) -> bytes:
    """Return a frame as it is sent."""
    body = json.dumps(frame).encode()
    return LENGTH.pack(len(body)) + body
