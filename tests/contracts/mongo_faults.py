"""Faults for the MongoDB store: a proxy that swallows answers, and an instance in a process of its own."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from stores import ANNA, MongoBench, begin, entry, write

from cronexec.errors import CronexecError


class Proxy:
    """Stands before a mongod. The next `times` answers to commands with `swallow` in them are lost."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url.split(",", maxsplit=1)[0])
        self._target = (parts.hostname, parts.port or 27017)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallow = b""
        self.times = 0
        self.swallowed = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"mongodb://{host}:{port}/?directConnection=true"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server, to_server = await asyncio.open_connection(*self._target)
        deaf = asyncio.Event()

        async def up() -> None:
            while data := await client.read(65536):
                if self.swallow and self.times and self.swallow in data:
                    self.times -= 1
                    deaf.set()
                to_server.write(data)
                await to_server.drain()

        async def down() -> None:
            while data := await server.read(65536):
                if deaf.is_set():
                    self.swallowed += 1
                    return
                to_client.write(data)
                await to_client.drain()

        await _until_one_ends(up, down)
        for writer in (to_client, to_server):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _until_one_ends(*directions: Callable[[], Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(direction()) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def freeze_inside_a_transaction(url: str, namespace: str) -> None:
    """Begin a term, stand still just before a commit until a line comes in, then go on; print each step."""
    bench = MongoBench(url, namespace)
    instance = bench.instance()
    term = await begin(instance.store, ANNA)
    current = instance._writer._current
    assert current is not None
    commit = current.session.commit_transaction

    async def commit_later() -> None:
        sys.stdout.write("inside\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await commit()

    current.session.commit_transaction = commit_later  # type: ignore[method-assign]
    try:
        await write(instance.store, term, entries=[entry("frozen")])
        sys.stdout.write("applied\n")
    except CronexecError as error:
        sys.stdout.write(f"{type(error).__name__}\n")
    await bench.close()


if __name__ == "__main__":
    asyncio.run(freeze_inside_a_transaction(sys.argv[1], sys.argv[2]))
