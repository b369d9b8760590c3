"""A TCP proxy between an instance and a server, whose network can be made to fail.

```python
with Proxy() as proxy:                        # one process, any number of routes
    route = proxy.route("127.0.0.1", 5672)    # connect to 127.0.0.1:{route.port} instead
    route.cut()                               # connections are reset, new ones too, until `heal`
    route.drop()                              # connections are reset, once
    route.hold()                              # nothing arrives, in either direction, until `heal`
    route.hold("to_server")                   # one way: what the server says still arrives
    route.delay(0.5)                          # every byte arrives half a second later, both ways
    route.heal()
```

The proxy is a process of its own (`python proxy.py`, orders on its standard input, answers on its standard
output), so it costs its user nothing and goes on while that one is busy; it ends with its standard input. The
calls above take less than a millisecond and may come from any thread or loop.

What a held direction holds is not lost: after `heal` it arrives, in order, as after a partition in which TCP
went on trying. The end of a connection is held like its bytes, so the server does not notice that a client
behind a held route was killed. Only a new connection differs from a real partition: it is opened towards the
proxy at once, and nothing answers on it.

A MongoDB client asks the server for the addresses of the replica set and connects to those, past any proxy,
unless its URL says `directConnection=true` (one member is enough for that) or it translates addresses itself
(`detour.take_detours`). From other folders of tests: `from chaos.proxy import Proxy`.
"""

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from types import TracebackType
from typing import Any, Literal, Self

Direction = Literal["to_server", "to_client"]
DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")
RESET = struct.pack("ii", 1, 0)  # closing with unsent data thrown away: the other side sees a reset


class Proxy:
    """The process, from outside. Raises RuntimeError when it has ended."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._routes = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def route(self, host: str, port: int) -> "Route":
        """Return a new way to `host:port`, with a port of its own on the loopback interface."""
        with self._turn:
            self._routes += 1
            number = self._routes
        return Route(self, number, self.order(number, "open", host, port))

    def order(self, number: int, do: str, *values: Any) -> Any:
        """Have one order carried out, and return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with self._turn:
            stdin.write(json.dumps([number, do, *values]) + "\n")
            stdin.flush()
            if not (answer := stdout.readline()):
                raise RuntimeError(f"the proxy ended with {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Route:
    """One way through the proxy."""

    def __init__(self, proxy: Proxy, number: int, port: int) -> None:
        self.port = port
        self._proxy = proxy
        self._number = number

    def cut(self) -> None:
        """Reset what is connected and whoever connects."""
        self._proxy.order(self._number, "cut")

    def drop(self) -> None:
        """Reset what is connected; new connections are made as before."""
        self._proxy.order(self._number, "drop")

    def hold(self, *directions: Direction) -> None:
        """Let nothing arrive in these directions (both if none is given)."""
        self._proxy.order(self._number, "hold", *(directions or DIRECTIONS))

    def delay(self, seconds: float) -> None:
        """Let everything arrive so much later, in both directions."""
        self._proxy.order(self._number, "delay", seconds)

    def heal(self) -> None:
        """Carry everything at once again, what was held first."""
        self._proxy.order(self._number, "heal")

    def connections(self) -> int:
        """Return how many clients are connected."""
        count: int = self._proxy.order(self._number, "connections")
        return count


class _Way:
    """One route, in the proxy's process."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.refusing = False
        self.held: set[str] = set()
        self.lag = 0.0
        self.clients: set[_Side] = set()
        self.healed = asyncio.Event()
        self.healed.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Side(self, "to_server"), "127.0.0.1", 0, backlog=512)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        self.refusing = True
        self.drop()

    def drop(self) -> None:
        for side in list(self.clients):
            side.reset()

    def hold(self, *directions: str) -> None:
        self.held |= set(directions)
        self.healed.clear()
        self._update()

    def delay(self, seconds: float) -> None:
        self.lag = seconds

    def heal(self) -> None:
        self.refusing, self.lag = False, 0.0
        self.held.clear()
        self.healed.set()
        self._update()

    def connections(self) -> int:
        return len(self.clients)

    def _update(self) -> None:
        for side in self.clients:
            side.update()
            if side.peer is not None:
                side.peer.update()

    def connect(self, client: "_Side") -> None:
        """Take a client, and find the way on for it."""
        self.clients.add(client)
        task = asyncio.get_running_loop().create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: "_Side") -> None:
        await self.healed.wait()
        if self.lag:
            await asyncio.sleep(2 * self.lag)
        server = _Side(self, "to_client")
        try:
            await asyncio.get_running_loop().create_connection(lambda: server, self.host, self.port)
        except OSError:
            client.reset()
            return
        if client.lost:
            server.reset()
            return
        client.peer, server.peer = server, client
        client.update()
        server.update()


class _Side(asyncio.Protocol):
    """One end of a connection; `direction` is that of what is read from it."""

    transport: asyncio.Transport

    def __init__(self, way: _Way, direction: str) -> None:
        self.peer: _Side | None = None
        self.lost = False
        self._way = way
        self._direction = direction
        self._choked = False  # the other end does not take what it gets
        self._late: deque[tuple[float, bytes | None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.pause_reading()
        if self._direction == "to_client":
            return
        if self._way.refusing:
            self.reset()
        else:
            self._way.connect(self)

    def data_received(self, data: bytes) -> None:
        if self._way.lag or self._late:
            self._postpone(data)
        elif self.peer is not None:
            self.peer.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._way.clients.discard(self)
        if self.peer is None or self.peer.lost:
            return
        if error is not None:
            self.peer.reset()
        elif self._late:
            self._postpone(None)
        else:
            self.peer.transport.close()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.choke(choked=True)

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.choke(choked=False)

    def choke(self, *, choked: bool) -> None:
        self._choked = choked
        self.update()

    def update(self) -> None:
        """Read, or stop reading, as things are now."""
        if self.peer is None or self.lost:
            return
        if self._choked or self._direction in self._way.held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def reset(self) -> None:
        """Reset both ends."""
        self._way.clients.discard(self)
        for side in (self, self.peer):
            if side is not None and not side.lost:
                with contextlib.suppress(OSError):
                    side.transport.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, RESET
                    )
                side.transport.abort()

    def _postpone(self, data: bytes | None) -> None:
        """Deliver later, behind what is late already; None is the end."""
        loop = asyncio.get_running_loop()
        at = loop.time() + self._way.lag
        if self._late:
            at = max(at, self._late[-1][0])
        self._late.append((at, data))
        loop.call_at(at, self._deliver)

    def _deliver(self) -> None:
        _, data = self._late.popleft()
        if self.peer is None or self.peer.lost:
            return
        if data is None:
            self.peer.transport.close()
        else:
            self.peer.transport.write(data)


async def obey() -> None:
    """Carry out the orders of standard input until it ends."""
    ways: dict[int, _Way] = {}
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        number, do, *values = json.loads(order)
        if do == "open":
            ways[number] = _Way(*values)
            answer: Any = await ways[number].open()
        else:
            answer = getattr(ways[number], do)(*values)
        print(json.dumps(answer), flush=True)  # noqa: T201  the answer


if __name__ == "__main__":
    asyncio.run(obey())
