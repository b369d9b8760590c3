"""A TCP proxy that makes the way to a server longer: `python proxy.py HOST PORT DELAY_MS`.

Every byte arrives `DELAY_MS` later than it would, in each direction; what is under way is not limited, so the
throughput stays. Prints the port on which it listens, and ends with its standard input.
"""

import asyncio
import socket
import sys
from contextlib import suppress

CHUNK = 1 << 20


async def serve(host: str, port: int, delay: float) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            carry(reader, there_writer, delay), carry(there_reader, writer, delay), return_exceptions=True
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  the answer
    await asyncio.to_thread(sys.stdin.read)
    server.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Write what is read, each piece `delay` seconds after it was read."""
    loop = asyncio.get_running_loop()
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            at, piece = await pieces.get()
            await asyncio.sleep(at - loop.time())
            if not piece:
                return
            writer.write(piece)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    with suppress(ConnectionError):
        while piece := await reader.read(CHUNK):
            pieces.put_nowait((loop.time() + delay, piece))
    pieces.put_nowait((loop.time() + delay, b""))
    with suppress(ConnectionError):
        await delivering
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
