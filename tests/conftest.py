"""Real servers for the tests that ask for them: one RabbitMQ and one MongoDB a session, a namespace a test.

They are started when the first test needs one; each worker of pytest-xdist is a session with servers of its
own, since some tests restart them or put them under an alarm. CRONEXEC_TEST_AMQP_URL and
CRONEXEC_TEST_MONGO_URL (else CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL) name running ones. Where a server is missing, tests that need
it are skipped; under CI they fail. No other setting of the developer's environment reaches the tests.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pika
import pytest
from pymongo import MongoClient

from cronexec.dev.errors import MissingServerError
from cronexec.dev.mongodb import find_mongod
from cronexec.dev.rabbitmq import find_rabbitmq_server
from cronexec.dev.servers import Servers

FETCHED = (
    Path(__file__).parent.parent / ".servers" / "bin"
)  # where `make setup` puts a mongod if there is none
QUEUES = ("baton", "commands", "commands.rejected")
EXCHANGES = ("control",)

SETTINGS = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CRONEXEC_")}

os.environ["PATH"] += os.pathsep + str(FETCHED)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker the settings, which this process has taken out of the environment that it inherits."""
    node.workerinput["settings"] = SETTINGS


def pytest_configure(config: pytest.Config) -> None:
    SETTINGS.update(getattr(config, "workerinput", {}).get("settings", {}))


def given_url(server: str) -> str | None:
    return SETTINGS.get(f"CRONEXEC_TEST_{server}_URL") or SETTINGS.get(f"CRONEXEC_{server}_URL")


def do_without(missing: MissingServerError) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(str(missing))
    pytest.skip(str(missing))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Return the session's RabbitMQ and MongoDB."""
    directory = Path(tempfile.mkdtemp(prefix="cronexec-tests-"))
    try:
        started = Servers(directory, amqp_url=given_url("AMQP"), mongo_url=given_url("MONGO")).start()
    except MissingServerError as missing:
        do_without(missing)
    yield started
    started.kill()  # the data is thrown away with the directory
    shutil.rmtree(directory)


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
