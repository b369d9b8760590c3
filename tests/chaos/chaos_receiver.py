"""A receiver of webhooks that leaves evidence: `python chaos_receiver.py FILE`.

Prints its port; ends with its standard input. It reads just as much HTTP as a client of one's own sends.

What comes with a callback is answered at once, and finished a moment later: its end is evidence too, left
before the instance is told. It is told until it answers, whatever it answers. Where nobody listens the
instance is dead, and nobody else is told; whoever has taken its place knows nothing of the run.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from typing import ClassVar
from urllib.parse import urlsplit

import evidence

HEAD = ("x-cronexec-job", "x-cronexec-slot", "x-cronexec-attempt", "x-cronexec-epoch", "idempotency-key")
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
URL, TOKEN = "x-cronexec-callback", "x-cronexec-callback-token"
FINISH = b'{"log": "done", "progress": {"done": 1, "total": 1}, "finish": {"state": "succeeded"}}'
LONGEST = 2.0  # seconds that what is finished later takes
PATIENCE, AGAIN_AFTER, TOLD_WITHIN = 5.0, 0.5, 120.0


class Receiver(asyncio.Protocol):
    """One connection."""

    file: ClassVar[int]
    finishing: ClassVar[set[asyncio.Task[None]]] = set()

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

    def _leave(self, fields: Mapping[str, str]) -> None:
        now = time.time()
        identity = " ".join([*(fields[name] for name in HEAD), evidence.NOBODY])
        if URL not in fields:
            os.write(self.file, evidence.ran(identity, now, now))
            self._transport.write(ANSWER)
            return
        os.write(self.file, evidence.mark("began", identity, now))
        self._transport.write(ACCEPTED)
        task = asyncio.create_task(self._finish(identity, fields[URL], fields[TOKEN]))
        self.finishing.add(task)
        task.add_done_callback(self.finishing.discard)

    async def _finish(self, identity: str, url: str, token: str) -> None:
        await asyncio.sleep(random.uniform(0, LONGEST))  # noqa: S311  no secret
        os.write(self.file, evidence.mark("ended", identity, time.time()))
        until = time.monotonic() + TOLD_WITHIN
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await tell(url, token)
            except ConnectionRefusedError:
                return None
            except (OSError, TimeoutError, asyncio.IncompleteReadError):  # frozen, or ending
                await asyncio.sleep(AGAIN_AFTER)
        return None


async def tell(url: str, token: str) -> None:
    """Say that the work is done. Raises what a connection may, and IncompleteReadError without an answer."""
    to = urlsplit(url)
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    with closing(writer):
        head = f"POST {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nAuthorization: Bearer {token}\r\n"
        head += f"Connection: close\r\nContent-Length: {len(FINISH)}\r\n\r\n"
        writer.write(head.encode() + FINISH)
        await reader.readuntil(b"\r\n")


async def main(path: str) -> None:
    Receiver.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  the answer
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
