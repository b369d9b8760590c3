"""Brokers of every version side by side, each with an acknowledgement timeout of 15 s, and no database.

A test that asks for `broker` runs on each version, one that asks for `queue_type` with each kind of baton
queue. `--broker 4.3` leaves the other versions out. Brokers start when first needed, and stay for the
session.
"""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))
pytest.register_assert_rewrite("contenders")

from broker_versions import VERSIONS, broker_of  # noqa: E402  found by the path above
from contenders import Schedule  # noqa: E402  asserts, so it is registered first
from missing_servers import do_without  # noqa: E402
from two_minutes import TwoMinutes  # noqa: E402

from cronexec.adapters.rabbitmq_topology import QueueType  # noqa: E402
from cronexec.dev.errors import MissingServerError  # noqa: E402
from cronexec.dev.rabbitmq import PrivateRabbitmq  # noqa: E402

TIMEOUT_MS = "15000"  # of unacknowledged deliveries; 3.10 and 4.0 look once a minute

BrokerOf = Callable[[str, str], PrivateRabbitmq]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "version" in metafunc.fixturenames:
        only = metafunc.config.getoption("--broker")
        metafunc.parametrize("version", [only] if only else VERSIONS, scope="session")
    if "queue_type" in metafunc.fixturenames:
        metafunc.parametrize("queue_type", ["quorum", "classic"])


@pytest.fixture(scope="session")
def started_broker() -> Iterator[BrokerOf]:
    """Return what starts a broker of a version for a purpose, the first time that it is asked for it."""
    directory = Path(tempfile.mkdtemp(prefix="cronexec-brokers-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)

        @cache
        def start(version: str, purpose: str) -> PrivateRabbitmq:
            config = {"consumer_timeout": TIMEOUT_MS}
            broker = broker_of(version, directory / f"{version}-{purpose}", config=config)
            stack.callback(broker.kill)
            return broker.start()

        yield start


@pytest.fixture(scope="session")
def broker(version: str, started_broker: BrokerOf, two_minutes: TwoMinutes | None) -> PrivateRabbitmq:  # noqa: ARG001  begins now
    """Return the broker of the version that the test runs on."""
    try:
        return started_broker(version, "shared")
    except MissingServerError as missing:
        do_without(missing)


@pytest.fixture(scope="session")
def two_minutes(request: pytest.FixtureRequest, version: str, started_broker: BrokerOf) -> TwoMinutes | None:
    """Begin to hold for two minutes with the version's first test, if a later one asks what came of it."""
    functions = (item for item in request.session.items if isinstance(item, pytest.Function))
    if not any("two_minutes" in item._fixtureinfo.argnames for item in functions):
        return None
    return TwoMinutes(lambda: started_broker(version, "alone").url)


@pytest.fixture(scope="session")
def amqp_url(broker: PrivateRabbitmq) -> str:
    return broker.url


@pytest.fixture
def namespace(amqp_url: str) -> Iterator[str]:
    """Return a name that no other test uses; its queues are deleted afterwards."""
    opened = Schedule(amqp_url, "quorum")
    yield opened.namespace
    opened.delete_queues()


@pytest.fixture
async def schedule(broker: PrivateRabbitmq, queue_type: QueueType) -> AsyncIterator[Schedule]:
    """Return a namespace without contenders yet."""
    opened = Schedule(broker.url, queue_type)
    yield opened
    await opened.close()
