"""Real servers for the tests that ask for them: one RabbitMQ and one MongoDB a session, a namespace a test.

They are started when the first test needs one; each worker of pytest-xdist is a session with servers of its
own, since some tests restart them or put them under an alarm. CRONEXEC_TEST_AMQP_URL and
CRONEXEC_TEST_MONGO_URL (else CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL) name running ones; `--broker 4.3` and
`--mongo-members 3` ask for private ones of that kind. Where a server is missing, tests that need it are
skipped; under CI they fail. No other setting of the developer's environment reaches the tests.
"""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from broker_versions import broker_of
from hypothesis import HealthCheck, settings
from missing_servers import do_without
from pymongo import MongoClient

from cronexec.dev.errors import MissingServerError
from cronexec.dev.mongodb import find_mongod
from cronexec.dev.rabbitmq import find_rabbitmq_server
from cronexec.dev.replica_set import PrivateReplicaSet
from cronexec.dev.servers import Servers

FETCHED = (
    Path(__file__).parent.parent / ".servers" / "bin"
)  # where `make setup` puts a mongod if there is none
QUEUES = ("baton", "commands", "commands.newer", "commands.rejected")
EXCHANGES = ("control",)

SETTINGS = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CRONEXEC_")}

os.environ["PATH"] += os.pathsep + str(FETCHED)

# Only what a property says may fail: no example for being slow on a slow machine, none that comes and goes.
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker the settings, which this process has taken out of the environment that it inherits."""
    node.workerinput["settings"] = SETTINGS


def pytest_configure(config: pytest.Config) -> None:
    SETTINGS.update(getattr(config, "workerinput", {}).get("settings", {}))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--broker", metavar="VERSION", help="the RabbitMQ to test on (see broker_versions.py)")
    parser.addoption("--mongo-members", type=int, help="test on a MongoDB replica set of as many members")


def given_url(server: str) -> str | None:
    return SETTINGS.get(f"CRONEXEC_TEST_{server}_URL") or SETTINGS.get(f"CRONEXEC_{server}_URL")


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Return a directory for the session's servers; what is in it is thrown away."""
    directory = Path(tempfile.mkdtemp(prefix="cronexec-tests-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def replica_set(request: pytest.FixtureRequest, server_directory: Path) -> Iterator[PrivateReplicaSet | None]:
    """Return the session's MongoDB where it has more than one member."""
    if not (members := request.config.getoption("--mongo-members")):
        yield None
        return
    try:
        started = PrivateReplicaSet(server_directory / "replica-set", members=members).start()
    except MissingServerError as missing:
        do_without(missing)
    yield started
    started.kill()


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, server_directory: Path, replica_set: PrivateReplicaSet | None
) -> Iterator[Servers]:
    """Return the session's RabbitMQ and MongoDB."""
    mongo_url = replica_set.url if replica_set else given_url("MONGO")
    version = request.config.getoption("--broker")
    try:
        started = Servers(server_directory, amqp_url=given_url("AMQP"), mongo_url=mongo_url)
        if version:
            started.rabbitmq = broker_of(version, server_directory / "rabbitmq")
            started.amqp_url = started.rabbitmq.url
        started.start()
    except MissingServerError as missing:
        do_without(missing)
    yield started
    started.kill()


@pytest.fixture(scope="session")
def server_programs() -> None:
    """Ask for installed servers, for tests that start their own."""
    try:
        find_rabbitmq_server()
        find_mongod()
    except MissingServerError as missing:
        do_without(missing)


@pytest.fixture(scope="session")
def amqp_url(servers: Servers) -> str:
    return servers.amqp_url


@pytest.fixture(scope="session")
def mongo_url(servers: Servers) -> str:
    return servers.mongo_url


@pytest.fixture
def namespace(amqp_url: str, _database_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """Return a name that no other test uses; its queues and collections are deleted afterwards."""
    name = f"t{secrets.token_hex(4)}"
    yield name
    _delete_queues(amqp_url, name)
    _drop_collections(_database_client, name)


@pytest.fixture(scope="session")
def _database_client(mongo_url: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        yield client


def _delete_queues(amqp_url: str, namespace: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(f"{namespace}.{queue}")
        for exchange in EXCHANGES:
            channel.exchange_delete(f"{namespace}.{exchange}")


def _drop_collections(client: MongoClient[dict[str, Any]], namespace: str) -> None:
    for database in client.list_database_names():
        if database in {"admin", "config", "local"}:
            continue
        for collection in client[database].list_collection_names(
            filter={"name": {"$regex": f"^{namespace}"}}
        ):
            client[database].drop_collection(collection)
