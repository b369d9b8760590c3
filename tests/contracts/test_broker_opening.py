"""Connections to RabbitMQ that cannot be opened, or are given up on the way."""

import asyncio
import contextlib
import gc
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from broker_bench import Ctl, Make, replaced

from cronexec.adapters.amqp_stream import AsyncioStreams
from cronexec.errors import SettingsError, UnreachableError


@contextlib.asynccontextmanager
async def impostor(tls: ssl.SSLContext | None, *, silent: bool = False) -> AsyncIterator[int]:
    """Yield the port of a server that is no broker: it hangs up at the first bytes, or never speaks."""
    gone: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone.append(asyncio.current_task())  # type: ignore[arg-type]
        while await reader.read(100) and silent:
            pass
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.gather(*gone)


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate that nobody has signed."""
    key, crt = tmp_path / "key.pem", tmp_path / "crt.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", crt], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    return context


async def test_a_failure_to_connect_prints_nothing_where_no_logging_is_configured() -> None:
    program = """
import asyncio
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.errors import UnreachableError
async def main():
    broker = RabbitMQ(["amqp://127.0.0.1:1/"], namespace="n", connection_name="c")
    try:
        await broker.open_link()
    except UnreachableError as error:
        print(error.problem)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert printed.decode() == "nothing listens at 127.0.0.1:1\n"


async def test_what_is_wrong_with_a_url_is_said_with_a_remedy_and_without_the_password(
    make: Make, amqp_url: str
) -> None:
    wrong = {
        "nothing listens at 127.0.0.1:1": {"port": "1", "host": "127.0.0.1"},
        "the host name of the broker no-such-host.invalid:.* is not known": {"host": "no-such-host.invalid"},
        "refused the login of user 'stranger'": {"user": "stranger", "password": "s3cret"},
        "refused the login of user": {"password": "s3cret"},
        "the virtual host 'nowhere' .*NOT_ALLOWED": {"vhost": "nowhere"},
    }
    for sentence, parts in wrong.items():
        with pytest.raises(UnreachableError) as caught:
            await make(replaced(amqp_url, **parts)).open_link()
        assert re.search(sentence, caught.value.problem), caught.value.problem
        assert caught.value.service == "broker"
        assert caught.value.remedy
        assert "s3cret" not in str(caught.value)


async def test_a_wrong_url_is_a_settings_error_that_does_not_show_it(make: Make) -> None:
    for url in ("amqp://app:s3cret@host:notaport/", "http://app:s3cret@host/", "amqp:///"):
        with pytest.raises(SettingsError) as caught:
            make(url)
        assert "s3cret" not in str(caught.value)


async def test_several_urls_are_tried_in_order_and_each_failure_is_named(make: Make, amqp_url: str) -> None:
    dead = [replaced(amqp_url, host="127.0.0.1", port=port) for port in ("1", "2")]
    broker = make(*dead, amqp_url)
    link = await broker.open_link()
    await link.close()
    with pytest.raises(UnreachableError, match=r"127.0.0.1:1; .*127.0.0.1:2"):
        await make(*dead).open_link()


async def test_a_user_without_permissions_is_told_which(
    make: Make, ctl: Ctl, amqp_url: str, namespace: str
) -> None:
    user = f"u{namespace}"
    await ctl("add_user", user, user)
    try:
        await ctl("set_permissions", user, "^$", "^$", "^$")
        broker = make(replaced(amqp_url, user=user, password=user))
        with pytest.raises(UnreachableError, match="ACCESS_REFUSED") as caught:
            await broker.open_link()
        assert "configure, write and read" in caught.value.remedy
        with pytest.raises(UnreachableError, match="ACCESS_REFUSED"):
            await broker.publisher().publish("", "nowhere", b"", {}, content_type="text/plain")
    finally:
        await ctl("delete_user", user)


async def test_a_certificate_that_is_not_trusted_is_said(make: Make, certificate: ssl.SSLContext) -> None:
    async with impostor(certificate) as port:
        with pytest.raises(UnreachableError, match=r"is not trusted .*self.signed") as caught:
            await make(f"amqps://app:s3cret@127.0.0.1:{port}/").open_link()
    assert "authority" in caught.value.remedy


async def test_tls_to_a_plain_port_and_the_reverse_are_said(make: Make, amqp_url: str) -> None:
    with pytest.raises(UnreachableError, match="does not speak TLS"):
        await make(replaced(amqp_url).replace("amqp://", "amqps://")).open_link()
    async with impostor(None) as port:
        with pytest.raises(UnreachableError, match="does not answer as an AMQP broker") as caught:
            await make(f"amqp://app:s3cret@127.0.0.1:{port}/").open_link()
    assert "amqps://" in caught.value.remedy


async def test_a_server_that_never_answers_is_given_up(make: Make) -> None:
    async with impostor(None, silent=True) as port:
        with pytest.raises(UnreachableError, match="did not answer in time"):
            await make(
                f"amqp://app:s3cret@127.0.0.1:{port}/", connect_timeout=timedelta(seconds=0.2)
            ).open_link()


async def test_opening_a_link_can_be_cancelled(make: Make) -> None:
    async with impostor(None, silent=True) as port:
        opening = asyncio.create_task(make(f"amqp://app:s3cret@127.0.0.1:{port}/").open_link())
        await asyncio.sleep(0.05)  # somewhere on the way
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening


async def test_a_connection_that_is_given_up_before_its_first_step_leaves_no_socket() -> None:
    ours, theirs = socket.socketpair()
    step = AsyncioStreams().create_streaming_connection(lambda: None, ours, lambda _: None)
    step.cancel()
    await asyncio.sleep(0)  # the turn in which the step is cancelled
    await asyncio.sleep(0)  # the turn in which it says so
    theirs.close()
    assert ours.fileno() == -1


async def test_opening_a_link_can_be_cancelled_at_any_moment(make: Make) -> None:
    """A socket left behind would be a warning, and with it a failure of this test."""
    for number in range(40):
        opening = asyncio.create_task(make().open_link())
        await asyncio.sleep(number * 0.0003)  # somewhere on the way
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await opening).close()
    gc.collect()
    assert not [task for task in asyncio.all_tasks() if "open_link" in repr(task)]
