"""What only a real broker does: other arguments, alarms, refused logins, broken connections."""

import asyncio
import contextlib
import gc
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from patience import PATIENCE

from cronexec.adapters.amqp import server_version
from cronexec.adapters.amqp_stream import AsyncioStreams
from cronexec.adapters.clock import SystemClock
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.adapters.rabbitmq_topology import Topology
from cronexec.dev.servers import Servers
from cronexec.errors import NotYetAppliedError, SettingsError, UnreachableError
from cronexec.ports import BatonArrived, CommandArrived, LinkEvent, LinkLost, QueueDepth

Make = Callable[..., RabbitMQ]
Ctl = Callable[..., Awaitable[str]]


@pytest.fixture
async def make(amqp_url: str, namespace: str) -> AsyncIterator[Make]:
    """Return what makes instances of one namespace; they are closed at the end."""
    made: list[RabbitMQ] = []

    def make_one(*urls: str, **settings: Any) -> RabbitMQ:
        settings = {"namespace": namespace, "connection_name": f"cronexec {namespace} {len(made)}"} | settings
        made.append(RabbitMQ(urls or [amqp_url], **settings))
        return made[-1]

    yield make_one
    await asyncio.gather(*(broker.close() for broker in made))


@pytest.fixture
def ctl(servers: Servers) -> Ctl:
    """Return rabbitmqctl as a coroutine, where the broker is ours."""
    if servers.rabbitmq is None:
        pytest.skip("the broker is somebody else's: no rabbitmqctl")
    server = servers.rabbitmq
    return lambda *args: asyncio.to_thread(server.ctl, *args)


@pytest.fixture
def declare(amqp_url: str) -> Callable[..., None]:
    """Return what declares a queue as an operator would."""

    def declare_one(queue: str, *, durable: bool = True, **arguments: Any) -> None:
        named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            connection.channel().queue_declare(queue, durable=durable, arguments=named)

    return declare_one


async def within(seconds: float, event: Awaitable[LinkEvent]) -> LinkEvent:
    async with asyncio.timeout(seconds):
        return await event


async def until(question: Callable[[], Awaitable[Any]], seconds: float = PATIENCE) -> Any:
    """Ask the broker, which tells nobody by itself, until the answer is true; return it."""
    answer = None
    try:
        async with asyncio.timeout(seconds):
            while not (answer := await question()):  # noqa: ASYNC110  the broker tells nobody
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"still {answer} after {seconds:g} s")
    return answer


def replaced(url: str, **parts: Any) -> str:
    """Return the URL with user, password, host, port or vhost replaced."""
    split = urlsplit(url)
    has = {"user": split.username, "password": split.password, "host": split.hostname, "port": split.port}
    now = has | {"vhost": split.path.lstrip("/")} | parts
    return f"amqp://{now['user']}:{now['password']}@{now['host']}:{now['port']}/{now['vhost']}"


# --- queues that are there already


@pytest.mark.parametrize(
    "arguments",
    [
        {"queue_type": "classic", "single_active_consumer": True},
        {
            "queue_type": "quorum",
            "single_active_consumer": True,
            "max_length": 50,
            "overflow": "reject-publish",
        },
        {"single_active_consumer": True, "message_ttl": 3_600_000, "max_priority": 3},
    ],
)
async def test_a_baton_queue_with_other_arguments_is_used_as_it_is(
    make: Make, namespace: str, declare: Callable[..., None], arguments: dict[str, Any]
) -> None:
    await asyncio.to_thread(lambda: declare(f"{namespace}.baton", **arguments))
    broker = make()
    link = await broker.open_link()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    assert isinstance(await within(PATIENCE, link.events()), BatonArrived)


@pytest.mark.parametrize(
    "arguments", [{}, {"queue_type": "quorum"}, {"queue_type": "classic", "message_ttl": 60_000}]
)
async def test_nobody_competes_on_a_baton_queue_without_single_active_consumer(
    make: Make, namespace: str, declare: Callable[..., None], arguments: dict[str, Any]
) -> None:
    await asyncio.to_thread(lambda: declare(f"{namespace}.baton", **arguments))
    with pytest.raises(UnreachableError, match="without x-single-active-consumer") as caught:
        await make().open_link()
    assert f"rabbitmqctl delete_queue {namespace}.baton" in caught.value.remedy
    assert (await make().baton_depth()).consumers == 0


async def test_a_command_queue_with_other_arguments_is_used_as_it_is(
    make: Make, namespace: str, declare: Callable[..., None]
) -> None:
    await asyncio.to_thread(lambda: declare(f"{namespace}.commands", durable=False, max_length=10))
    broker = make()
    link = await broker.open_link()
    await link.take_commands()
    await broker.publisher().publish_command(b"{}", command_id="one", reply_to=None)
    assert isinstance(await within(PATIENCE, link.events()), CommandArrived)


async def test_instances_with_classic_queues_hand_the_baton_on(make: Make) -> None:
    holder, standby = [await make(queue_type="classic").open_link() for _ in range(2)]
    assert await make(queue_type="classic").publisher().publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, holder.events())
    await holder.release()
    assert isinstance(await within(PATIENCE, standby.events()), BatonArrived)


def test_the_delivery_limit_is_lifted_where_minus_one_means_no_limit() -> None:
    topology = Topology("ns")
    assert topology.arguments("ns.baton", (4, 0, 5))["x-delivery-limit"] == -1
    assert topology.arguments("ns.commands.rejected", (4, 3))["x-delivery-limit"] == -1
    assert "x-delivery-limit" not in topology.arguments("ns.baton", (3, 13, 7))
    assert "x-delivery-limit" not in Topology("ns", "classic").arguments("ns.baton", (4, 0))
    assert server_version({"version": b"3.10.8"}) == server_version({"version": "3.10.8"}) == (3, 10, 8)
    assert server_version({"version": "4.1.0-rc.1"}) > (4,)


async def test_a_command_that_expired_is_listed_as_rejected(make: Make) -> None:
    broker = make()
    await broker.publisher().publish_command(b"late", command_id="late", reply_to=None, expires=0.01)
    rejected = await until(broker.rejected)
    assert (rejected[0].body, rejected[0].reason) == (b"late", "dead-lettered by the broker (expired)")
    assert rejected[0].rejected_at is not None


# --- connections that end


async def test_a_rejected_command_is_stamped_with_the_databases_time(make: Make) -> None:
    clock = SystemClock()
    there = datetime.now(UTC) + timedelta(hours=2)
    clock.measured(there, clock.monotonic(), clock.monotonic())
    broker = make(clock=clock)
    command = CommandArrived(tag=1, body=b"{}")
    await broker.publisher().reject(command, code="unparseable", message="why", field=None)
    (found,) = await broker.rejected()
    assert found.rejected_at is not None
    assert abs(found.rejected_at - there) < timedelta(minutes=1)


async def test_a_connection_that_the_broker_closes_is_one_loss_and_is_survived(make: Make, ctl: Ctl) -> None:
    broker = make()
    link = await broker.open_link()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, link.events())
    await ctl("close_all_connections", "maintenance")
    lost = await within(PATIENCE, link.events())
    assert isinstance(lost, LinkLost)
    assert "maintenance" in lost.reason
    assert await link.events() is lost
    again = await broker.open_link()
    assert isinstance(await within(PATIENCE, again.events()), BatonArrived)
    assert await broker.publisher().publish_baton("two", b"{}", PATIENCE)


async def test_a_request_survives_the_end_of_its_connection(make: Make, ctl: Ctl) -> None:
    sender, holder = make(), make()
    asked = asyncio.create_task(sender.request(b"{}", command_id="one", wait=2 * PATIENCE))
    await until(lambda: _depth(sender, "commands"))
    await ctl("close_all_connections", "maintenance")
    link = await holder.open_link()
    await link.take_commands()
    while not asked.done():  # the first copy's requester is gone; the second one's gets it
        event = asyncio.ensure_future(link.events())
        await asyncio.wait([event, asked], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if event.cancel():
            break
        arrived = event.result()
        assert isinstance(arrived, CommandArrived)
        assert arrived.message_id == "one"
        assert arrived.reply_to is not None
        await holder.publisher().reply(arrived.reply_to, arrived.correlation_id, b'{"ok": true}')
        link.ack_commands([arrived.tag])
    assert await asked == {"ok": True}


async def _depth(broker: RabbitMQ, queue: str) -> int:
    declared = await broker._queues._look_up(f"{broker._topology.namespace}.{queue}")
    return declared.ready


async def test_a_thread_can_sever_a_link_while_the_loop_is_blocked(make: Make) -> None:
    """The successor lives on another loop in another thread, as in another process."""
    holder_broker = make()
    holder = await holder_broker.open_link()
    assert await holder_broker.publisher().publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, holder.events())
    standing_by, taken = threading.Event(), threading.Event()

    async def stand_by() -> None:
        broker = RabbitMQ(
            [_url(make)], namespace=holder_broker._topology.namespace, connection_name="cronexec standby"
        )
        link = await broker.open_link()
        standing_by.set()
        async with asyncio.timeout(2 * PATIENCE):
            await link.events()
        taken.set()
        await broker.close()

    thread = threading.Thread(target=lambda: asyncio.run(stand_by()))
    thread.start()
    await asyncio.to_thread(standing_by.wait, PATIENCE)
    severing = threading.Thread(target=holder.sever)
    severing.start()
    assert taken.wait(PATIENCE), "the standby has not got the baton while our loop was blocked"
    severing.join()
    thread.join()
    assert isinstance(await within(PATIENCE, holder.events()), LinkLost)


def _url(make: Make) -> str:
    target = make()._targets[0]
    login = f"{target.credentials.username}:{target.credentials.password}"
    return f"amqp://{login}@{target.host}:{target.port}/%2F"


async def test_under_a_memory_alarm_nothing_is_confirmed_and_a_link_still_releases_at_once(
    make: Make, ctl: Ctl
) -> None:
    broker, other = make(), make()
    holder, standby = await broker.open_link(), await other.open_link()
    publisher = broker.publisher()
    assert await publisher.publish_baton("one", b"{}", PATIENCE)
    await within(PATIENCE, holder.events())
    await ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        async with asyncio.timeout(PATIENCE):
            while await publisher.publish_baton("blocked", b"{}", 1):
                pass
        assert not await publisher.publish_baton("blocked", b"{}", 1)
        started_at = asyncio.get_running_loop().time()
        await holder.release()
        while (await within(PATIENCE, standby.events())) != BatonArrived(
            tag=1, message_id="one", redelivered=True
        ):
            pass
        assert asyncio.get_running_loop().time() - started_at < 1
    finally:
        await ctl("set_vm_memory_high_watermark", "0.4")
    await until(lambda: publisher.publish_baton("after", b"{}", 1), PATIENCE)


async def test_under_a_memory_alarm_no_publish_waits_for_a_channel_without_bound(
    make: Make, ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that has published is not read any more: not even a channel can be opened on it."""
    monkeypatch.setattr("cronexec.adapters.rabbitmq_publisher.CONFIRM_TIMEOUT", timedelta(seconds=1))
    publisher = make().publisher()
    await publisher.reply("nobody", None, b"{}")
    await ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        async with asyncio.timeout(PATIENCE):
            while not publisher._connection.is_blocked:
                await publisher.reply("nobody", None, b"{}")
                await asyncio.sleep(0.02)
        publisher._connection._connection.blocked = False  # as if the broker had not said so yet
        async with asyncio.timeout(2 * PATIENCE):
            assert not await publisher.publish_baton("blocked", b"{}", 0.5)
            with pytest.raises(UnreachableError, match="did not confirm"):
                await publisher.publish_command(b"{}", command_id="one", reply_to=None)
            with pytest.raises(UnreachableError, match="did not confirm"):
                await publisher.publish("amq.topic", "key", b"{}", {}, content_type="application/json")
            publisher._connection._channels.clear()
            with pytest.raises(UnreachableError, match="did not confirm"):
                await publisher.reply("nobody", None, b"{}")
    finally:
        await ctl("set_vm_memory_high_watermark", "0.4")
    await until(lambda: publisher.publish_baton("after", b"{}", 1), PATIENCE)


async def test_under_a_memory_alarm_looks_are_answered(make: Make, ctl: Ctl) -> None:
    broker = make()
    command = CommandArrived(tag=1, body=b"{}")
    await broker.publisher().reject(command, code="unparseable", message="why", field=None)
    await ctl("set_vm_memory_high_watermark", "0.000001")
    try:
        async with asyncio.timeout(PATIENCE):
            while not broker._shared.is_blocked:
                await broker.publisher().reply("nobody", None, b"{}")
                await asyncio.sleep(0.02)
        async with asyncio.timeout(PATIENCE):
            assert (await broker.baton_depth()).consumers == 0
            assert [each.body for each in await broker.rejected()] == [b"{}"]
    finally:
        await ctl("set_vm_memory_high_watermark", "0.4")


async def test_a_look_at_a_broker_that_is_cut_off_ends_with_a_clear_error_and_the_next_works(
    make: Make, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(amqp_url)
    broker = make(await relay.start())
    try:
        assert (await broker.baton_depth()).ready == 0
        relay.flowing.clear()
        monkeypatch.setattr("cronexec.adapters.rabbitmq_queues.LOOK_TIMEOUT", timedelta(seconds=0.3))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(UnreachableError, match=r"did not say what is in .*\.baton within 0\.3 s"):
                await broker.baton_depth()
            with pytest.raises(UnreachableError):
                await broker.rejected()
        relay.flowing.set()
        monkeypatch.undo()
        assert (await until(lambda: _look(broker))).ready == 0
    finally:
        await relay.stop()


async def _look(broker: RabbitMQ) -> QueueDepth | None:
    with contextlib.suppress(UnreachableError):
        return await broker.baton_depth()
    return None


class Relay:
    """Stands between an instance and the broker, and plays a host that is gone when told to."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return replaced(self.target.geturl(), host="127.0.0.1", port=self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:  # one side may be gone, and the other wait for it
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self.target.hostname, self.target.port)
        self._tasks += [
            asyncio.create_task(self._pass(reader, there[1])),
            asyncio.create_task(self._pass(there[0], writer)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                while data := await reader.read(65536):
                    await self.flowing.wait()
                    writer.write(data)
            finally:
                writer.close()


async def test_a_broker_that_does_not_answer_holds_up_a_release_for_a_second_at_most(
    make: Make, amqp_url: str
) -> None:
    relay = Relay(amqp_url)
    broker = make(await relay.start())
    try:
        link = await broker.open_link()
        assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
        await within(PATIENCE, link.events())
        relay.flowing.clear()
        started_at = asyncio.get_running_loop().time()
        assert not await broker.publisher().publish_baton("two", b"{}", 0.1)
        await link.release()
        await broker.close()
        assert asyncio.get_running_loop().time() - started_at < 2.5
        assert isinstance(await link.events(), LinkLost)
    finally:
        await relay.stop()


# --- the first hour


async def test_an_orderly_stop_says_nothing_through_pika_and_a_lost_connection_does(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    broker = make()
    link = await broker.open_link()
    await link.take_commands()
    assert await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    await link.release()
    await broker.close()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("pika")] == []
    lost = make()
    link = await lost.open_link()
    link.sever()  # as a network does
    while not isinstance(await within(PATIENCE, link.events()), LinkLost):
        pass
    assert any("connection_lost" in record.getMessage() for record in caplog.records)


async def test_an_application_that_sets_pikas_level_sees_all_of_it(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pika")
    await make().baton_depth()
    assert any(record.name.startswith("pika.") for record in caplog.records)


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


async def test_connections_carry_their_names_and_the_heartbeat(make: Make, ctl: Ctl, namespace: str) -> None:
    broker = make(heartbeat=timedelta(seconds=7))
    await broker.open_link()
    await broker.publisher().publish_baton("one", b"{}", PATIENCE)
    listed = await ctl("list_connections", "timeout", "client_properties")
    mine = [line for line in listed.splitlines() if namespace in line]
    assert len(mine) == 2
    assert all(line.startswith("7") for line in mine)
    assert {role for role in ("(baton)", "(publisher)") if any(role in line for line in mine)} == {
        "(baton)",
        "(publisher)",
    }


async def test_thousands_of_publishes_and_requests_are_in_flight_together(make: Make) -> None:
    broker = make()
    publisher = broker.publisher()
    await asyncio.gather(
        *(publisher.publish_command(b"{}", command_id=f"c{n}", reply_to=None) for n in range(2000))
    )
    await until(lambda: _has_depth(broker, 2000))
    asked = [broker.request(b"{}", command_id=f"r{n}", wait=3) for n in range(500)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(result) for result in results} == {NotYetAppliedError}
    await until(lambda: _has_depth(broker, 2500))


async def _has_depth(broker: RabbitMQ, wanted: int) -> bool:
    """A quorum queue counts messages a little after it has confirmed them."""
    return await _depth(broker, "commands") == wanted


async def test_what_the_broker_refuses_on_one_exchange_fails_nothing_else(make: Make) -> None:
    publisher = make().publisher()
    await publisher.publish_baton("one", b"{}", PATIENCE)
    results = await asyncio.gather(
        publisher.publish("nowhere", "", b"", {}, content_type="text/plain"),
        *(publisher.publish_command(b"{}", command_id=f"c{n}", reply_to=None) for n in range(50)),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["RefusedError"] + ["NoneType"] * 50
