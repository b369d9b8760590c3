"""The proxy fails in the ways that it says, and heals."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from proxy import Proxy, Route

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OPENED: list[asyncio.StreamWriter] = []  # by the test that runs now


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as opened:
        yield opened


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """Return the port of a server that sends back what it gets, and `+` beforehand to whoever connects."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"+")
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def route(proxy: Proxy, echo: int) -> AsyncIterator[Route]:
    yield proxy.route("127.0.0.1", echo)
    while OPENED:
        writer = OPENED.pop()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def connect(route: Route) -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", route.port)
    OPENED.append(writer)
    return reader, writer


async def connected(route: Route) -> Streams:
    reader, writer = await connect(route)
    assert await arrives(reader, 1) == b"+"
    return reader, writer


async def arrives(reader: asyncio.StreamReader, count: int) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readexactly(count)


async def nothing_arrives(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.2):
            return await reader.read(1) == b""
    except TimeoutError:
        return True


async def test_everything_arrives_in_order_however_much_it_is(route: Route) -> None:
    reader, writer = await connected(route)
    sent = bytes(range(256)) * 20_000
    writer.write(sent)
    assert await arrives(reader, len(sent)) == sent
    assert route.connections() == 1
    writer.close()


async def test_a_cut_route_resets_old_and_new_connections_until_it_is_healed(route: Route) -> None:
    reader, _ = await connected(route)
    route.cut()
    with pytest.raises(ConnectionResetError):
        await arrives(reader, 1)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await arrives((await connect(route))[0], 1)
    route.heal()
    _, writer = await connected(route)
    writer.close()


async def test_dropping_resets_only_what_is_connected(route: Route) -> None:
    reader, _ = await connected(route)
    route.drop()
    with pytest.raises(ConnectionResetError):
        await arrives(reader, 1)
    _, writer = await connected(route)
    writer.close()


async def test_what_a_held_route_holds_arrives_when_it_is_healed(route: Route) -> None:
    reader, writer = await connected(route)
    route.hold()
    writer.write(b"abc")
    late_reader, late_writer = await connect(route)
    assert await nothing_arrives(reader)
    assert await nothing_arrives(late_reader)
    route.heal()
    assert await arrives(reader, 3) == b"abc"
    assert await arrives(late_reader, 1) == b"+"
    writer.close()
    late_writer.close()


async def test_one_way_lets_through_what_the_server_says(proxy: Proxy) -> None:
    heard = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        await reader.readexactly(1)
        heard.set()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        route = proxy.route("127.0.0.1", server.sockets[0].getsockname()[1])
        reader, writer = await connect(route)
        route_holds_answers = proxy.route("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"1")
        assert await arrives(reader, 1) == b"1"
        route.hold("to_server")
        writer.write(b"2")
        assert await nothing_arrives(reader)
        assert not heard.is_set()
        route.heal()
        async with asyncio.timeout(5):
            await heard.wait()
        writer.close()
        reader, writer = await connect(route_holds_answers)
        writer.write(b"1")
        assert await arrives(reader, 1) == b"1"
        heard.clear()
        route_holds_answers.hold("to_client")
        writer.write(b"2")
        async with asyncio.timeout(5):
            await heard.wait()
        writer.close()


async def test_a_delay_is_added_in_both_directions_and_keeps_the_order(route: Route) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await connected(route)
    route.delay(0.15)
    began = loop.time()
    writer.write(b"ab")
    await asyncio.sleep(0.01)
    writer.write(b"cd")
    assert await arrives(reader, 4) == b"abcd"
    assert loop.time() - began >= 0.3
    route.heal()
    began = loop.time()
    writer.write(b"e")
    assert await arrives(reader, 1) == b"e"
    assert loop.time() - began < 0.3
    writer.close()


async def test_the_end_of_a_connection_is_carried_to_the_other_side(route: Route) -> None:
    _, writer = await connected(route)
    writer.close()
    async with asyncio.timeout(5):
        while route.connections():  # noqa: ASYNC110  it is another process's
            await asyncio.sleep(0.01)
    assert route.connections() == 0
