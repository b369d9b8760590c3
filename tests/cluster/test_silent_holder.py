"""A holder that is frozen, where the broker's management is configured: on a broker with the plugin."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from harness import Cluster
from members import Member, open_cluster, wait_for
from patience import PATIENCE

from cronexec.adapters.management import ManagementApi
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.dev.processes import LOOPBACK, accepts_connections, free_port
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.doctor import examine
from cronexec.errors import UnreachableError
from cronexec.ports import LinkLost
from cronexec.verify import verify_ledger

FAULTS = 3
OFTEN = {  # the faults come sooner than BATON_LOST_AFTER would allow a second closing in one term
    "CRONEXEC_LEASE": "3s",
    "CRONEXEC_BATON_LOST_AFTER": "15s",
    "CRONEXEC_INSTANCE_LOST_AFTER": "31s",
}
TAKEOVER_WITHIN = 3.0  # seconds; the machine of the tests may be busy, so it is the median that must keep it


@pytest.fixture(scope="module")
def management_url(
    server_programs: None,  # noqa: ARG001  asks for what the broker needs
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, str]]:
    """Return the URLs of a broker with the management plugin, and of the plugin."""
    port = free_port()
    config = {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(port)}
    directory = tmp_path_factory.mktemp("managed")
    with PrivateRabbitmq(directory, config=config, plugins=["rabbitmq_management"]) as broker:
        until = time.monotonic() + 30
        while not accepts_connections(port):
            assert time.monotonic() < until, "the management plugin does not listen"
        yield broker.url, f"http://guest:guest@{LOOPBACK}:{port}"
        broker.kill()


@pytest.fixture
async def managed(
    management_url: tuple[str, str], mongo_url: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Cluster]:
    amqp, management = management_url
    given = {"AMQP_URL": amqp, "MONGO_URL": mongo_url, "NAMESPACE": namespace, "MANAGEMENT_URL": management}
    async with open_cluster(Cluster, tmp_path, **given) as cluster:
        yield cluster


async def test_the_link_of_one_instance_is_closed_and_of_no_other(management_url: tuple[str, str]) -> None:
    amqp, url = management_url
    brokers = {
        name: RabbitMQ([amqp], namespace="one", connection_name=name, instance_id=name) for name in ("a", "b")
    }
    links = {name: await broker.open_link() for name, broker in brokers.items()}
    await brokers["a"].baton_depth()
    management = ManagementApi(url, vhost="/")
    try:
        (link,) = await wait_for(lambda: management.links_of("a"), "the plugin to list the link")
        assert await management.links_of("nobody") == []
        assert await management.close_link(link, "a test")
        async with asyncio.timeout(PATIENCE):
            lost = await links["a"].events()
        assert isinstance(lost, LinkLost)
        assert "a test" in lost.reason
        assert not links["b"].is_lost
        assert (await brokers["a"].baton_depth()).consumers == 1
        assert not await management.close_link("no such connection", "a test")
    finally:
        await management.close()
        await asyncio.gather(*(broker.close() for broker in brokers.values()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "s3cret"}, "does not let the user of management_url in"),
        ({"port": 1}, "could not be asked"),
        ({"path": "/elsewhere"}, "answered with status"),
    ],
)
async def test_what_is_wrong_with_the_url_is_said_without_the_password(
    management_url: tuple[str, str], change: dict[str, object], said: str
) -> None:
    split = urlsplit(management_url[1])
    has = {"password": "guest", "port": split.port, "path": ""} | change
    wrong = f"http://guest:{has['password']}@{split.hostname}:{has['port']}{has['path']}"
    management = ManagementApi(wrong, vhost="/")
    try:
        with pytest.raises(UnreachableError, match=said) as raised:
            await management.links_of("nobody")
    finally:
        await management.close()
    assert raised.value.service == "management"
    assert "s3cret" not in str(raised.value)
    assert "guest:" not in str(raised.value)


async def test_a_management_that_never_answers_is_given_up() -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(silent, LOOPBACK, 0)
    management = ManagementApi(f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}", vhost="/")
    try:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(UnreachableError, match="did not answer within 2 s"):
                await management.links_of("nobody")
    finally:
        await management.close()
        await ended.wait()
        server.close()


async def test_a_frozen_holder_is_replaced_within_three_seconds(managed: Cluster) -> None:
    for name in ("a", "b", "c"):
        managed.start(name, **OFTEN)
    await managed.holder()
    target = {"type": "handler", "name": "quick"}
    await managed.put([{"name": "j", "schedule": {"every": "1s"}, "target": target, "overlap": "allow"}])
    took = [await freeze_holder(managed) for _ in range(FAULTS)]
    assert sorted(took)[FAULTS // 2] <= TAKEOVER_WITHIN, took
    await wait_for(lambda: closings(managed), f"{FAULTS} closings that heartbeats tell")
    (found,) = [
        each
        for each in await examine(managed.settings, managed.connection)
        if each.message.startswith("holder.link_closed: ")
    ]
    assert "frozen" in found.remedy
    total = (await verify_ledger(managed.connection.store, retention=managed.settings.retention)).total
    assert (total.missing, total.doubled) == (0, 0), total.findings
    assert [line for line, times in managed.lines().items() if times > 1] == []


async def closings(cluster: Cluster) -> bool:
    records = await cluster.connection.store.instances.list()
    told = [each.count for record in records for each in record.events if each.event == "holder.link_closed"]
    return sum(told) == FAULTS


async def freeze_holder(cluster: Cluster) -> float:
    """Stop the holder (SIGSTOP) until another one holds; returns the seconds that took."""
    await wait_for(lambda: standing_by(cluster), "two standbys")
    record = await cluster.holder()
    await wait_for(lambda: listed(cluster, str(record.holder_id)), "the plugin to list the holder's link")
    holder = cluster.members[str(record.holder_name)]
    holder.process.send_signal(signal.SIGSTOP)
    frozen_at = time.monotonic()

    async def is_replaced() -> bool:
        return (await cluster.connection.store.terms.read()).epoch > record.epoch

    await wait_for(is_replaced, "another holder", interval=0.01)
    took = time.monotonic() - frozen_at
    ended = len(holder.events("term.ended"))
    holder.process.send_signal(signal.SIGCONT)
    await wait_for(lambda: has_ended(holder, ended + 1), "the woken holder to end its term")
    return took


async def listed(cluster: Cluster, holder_id: str) -> bool:
    management = ManagementApi(str(cluster.settings.management_url), vhost="/")
    try:
        return len(await management.links_of(holder_id)) == 1
    finally:
        await management.close()


async def standing_by(cluster: Cluster) -> bool:
    """Whether all others say, with their heartbeats, that they stand by."""
    states = [record.state for record in await cluster.connection.store.instances.list()]
    return sorted(states) == ["holder", *["standby"] * (len(cluster.members) - 1)]


async def has_ended(member: Member, times: int) -> bool:
    return len(member.events("term.ended")) >= times
