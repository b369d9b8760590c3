"""asyncio's own transports under pika.

pika lets its caller bring the sockets (`AbstractIOServices`). Ours are asyncio's, for three reasons: TLS and
shutdown are asyncio's tested code; everything written in one turn of the loop leaves in one system call (pika
writes three frames for a message, each with a call of its own), which is what makes pipelined publishing
cheap; and the socket is at hand without touching pika's insides, so that a watchdog's thread can shut it
down.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from pika.adapters.utils import nbio_interface

from cronexec.adapters.amqp_logging import OWN_CLOSE

READ_SLICE = 4096  # pika cuts each frame off the front of its buffer by copying the rest: keep the rest short


class AsyncioStreams(nbio_interface.AbstractIOServices):  # type: ignore[misc]  # pika is Any to mypy
    """What pika asks of an event loop, for one connection. `stream` is there once it is connected."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stream: Stream | None = None

    def get_native_ioloop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_callback_threadsafe(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, delay: float, callback: Callable[[], object]) -> "_Timer":
        return _Timer(self._loop.call_later(delay, callback))

    def getaddrinfo(  # noqa: PLR0917  pika's signature
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], object],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> "_Step":
        lookup = self._loop.getaddrinfo(host, port, family=family, type=socktype, proto=proto, flags=flags)
        return _Step(lookup, on_done)

    def connect_socket(
        self, sock: socket.socket, resolved_addr: Any, on_done: Callable[[Any], object]
    ) -> "_Step":
        return _Step(self._loop.sock_connect(sock, resolved_addr), on_done)

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        on_done: Callable[[Any], object],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> "_Step":
        linking = self._link_up(protocol_factory, sock, ssl_context, server_hostname)
        return _Step(linking, on_done, on_cancel=lambda: self._drop(sock))

    def _drop(self, sock: socket.socket) -> None:
        """Close the socket of a step that pika gave up: it may not have begun, or have ended just now."""
        if self.stream is not None:
            self.stream.break_off()
        else:
            sock.close()

    async def _link_up(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> tuple["Stream", Any]:
        stream = Stream(self._loop)
        name = server_hostname if tls else None
        try:
            await self._loop.create_connection(lambda: stream, sock=sock, ssl=tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        protocol = protocol_factory()
        stream.attach(protocol)
        self.stream = stream
        return stream, protocol

    def run(self) -> NoReturn:
        raise NotImplementedError  # the loop is its owner's; only pika's own tests run or stop one

    stop = close = run


class Stream(asyncio.Protocol, nbio_interface.AbstractStreamTransport):  # type: ignore[misc]  # pika is Any to mypy
    """One connection: to asyncio it is the protocol, to pika the transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._upper: Any = None
        self._out: list[bytes] = []
        self._error: Exception | None = None
        self._aborted = False
        self._lost = False

    def attach(self, upper: Any) -> None:
        """Introduce pika's side. Raises ConnectionResetError when the connection is gone already."""
        if self._lost:
            raise ConnectionResetError("the connection was closed before the first frame")
        self._upper = upper
        upper.connection_made(self)

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), READ_SLICE):
            if self._aborted:
                return
            try:
                self._upper.data_received(data[start : start + READ_SLICE])
            except Exception as error:  # noqa: BLE001  whatever a broken frame does to pika: it is the connection's end, not the loop's
                self._error = error
                self.abort()

    def eof_received(self) -> bool:
        return bool(self._upper and self._upper.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._out.clear()
        if self._upper is not None:
            self._upper.connection_lost(self._error or exc)

    # --- what pika calls

    def write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def abort(self) -> None:
        self._flush()  # a close-ok is worth trying to send
        self._aborted = True
        self._transport.abort()

    def get_protocol(self) -> Any:
        return self._upper

    def get_write_buffer_size(self) -> int:
        return int(self._transport.get_write_buffer_size()) + sum(map(len, self._out))

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    # --- what we call ourselves

    def break_off(self) -> None:
        """Close the connection now, without a word to the other side."""
        self._error = self._error or ConnectionAbortedError(OWN_CLOSE)
        self.abort()

    def shut_down(self) -> None:
        """Shut the socket down, from any thread: the other side sees the end even if the loop is stuck."""
        with contextlib.suppress(OSError):
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _Timer(nbio_interface.AbstractTimerReference):  # type: ignore[misc]  # pika is Any to mypy
    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


class _Step(nbio_interface.AbstractIOReference):  # type: ignore[misc]  # pika is Any to mypy
    """A step of connecting, as a task: its result or error goes to `on_done`, unless it was cancelled."""

    def __init__(
        self,
        step: Awaitable[Any],
        on_done: Callable[[Any], object],
        on_cancel: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_done = on_done
        self._on_cancel = on_cancel
        self._task = asyncio.ensure_future(step)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> bool:
        return self._task.cancel()

    def _finish(self, task: "asyncio.Future[Any]") -> None:
        if task.cancelled():
            self._on_cancel()
        else:
            self._on_done(task.exception() or task.result())
