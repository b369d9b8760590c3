"""A receiver of webhooks that leaves evidence: `python chaos_receiver.py FILE`.

Prints its port; ends with its standard input. It reads just as much HTTP as a client of one's own sends.
"""

import asyncio
import os
import sys
import time
from typing import ClassVar

import evidence

HEAD = ("x-cronexec-job", "x-cronexec-slot", "x-cronexec-attempt", "x-cronexec-epoch", "idempotency-key")
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection."""

    file: ClassVar[int]

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            lines = self._received[:end].decode("latin-1").split("\r\n")[1:]
            fields = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            size = end + 4 + int(fields.get("content-length", 0))
            if len(self._received) < size:
                return
            self._received = self._received[size:]
            self._leave(fields)

    def _leave(self, fields: dict[str, str]) -> None:
        now = time.time()
        identity = " ".join([*(fields[name] for name in HEAD), evidence.NOBODY])
        os.write(self.file, evidence.ran(identity, now, now))
        self._transport.write(ANSWER)


async def main(path: str) -> None:
    Receiver.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  the answer
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
