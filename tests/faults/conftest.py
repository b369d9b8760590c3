"""A stage for the faults, on servers that may be harmed, and the table of what happened.

`pytest tests/faults` tries every fault, with short settings and outages; `FULL=1` uses the default settings
and the durations that matter to people. The table is printed at the end; `--fault-table F` writes it as JSON.
"""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import fault_table
import pytest
import pytest_asyncio
from fault_table import Row
from missing_servers import do_without

pytest.register_assert_rewrite("stage", "trial", "outages", "operators_view")

from stage import DEFAULTS, FULL, QUICKLY, Stage, open_stage  # noqa: E402  they assert, so they are registered first

from cronexec.dev.errors import MissingServerError  # noqa: E402
from cronexec.dev.mongodb import PrivateMongo  # noqa: E402
from cronexec.dev.rabbitmq import PrivateRabbitmq  # noqa: E402
from cronexec.dev.replica_set import ELECTION_TIMEOUT, PrivateReplicaSet  # noqa: E402
from cronexec.dev.servers import Servers  # noqa: E402

ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", type=Path, metavar="FILE", help="write the table of faults as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give the rows of a worker of pytest-xdist to the process that prints the table."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = [asdict(row) for row in session.config.stash[ROWS]]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[ROWS].extend(Row(**row) for row in getattr(node, "workeroutput", {}).get("faults", ()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not (rows := config.stash[ROWS]):
        return
    terminalreporter.section("faults")
    for line in fault_table.lines_of(rows):
        terminalreporter.write_line(line)
    if (path := config.getoption("--fault-table")) is not None:
        fault_table.write(rows, path)


@pytest.fixture(scope="session")
def rabbitmq(servers: Servers) -> PrivateRabbitmq:
    """Return a RabbitMQ that may be restarted and killed."""
    if servers.rabbitmq is None:
        pytest.skip("faults need a RabbitMQ of their own")
    return servers.rabbitmq


@pytest.fixture(scope="session")
def mongo(servers: Servers) -> PrivateMongo:
    """Return a MongoDB of one member that may be restarted and killed."""
    if servers.mongo is None:
        pytest.skip("faults need a MongoDB of their own")
    return servers.mongo


@pytest.fixture(scope="module")
def elected_set(server_directory: Path) -> Iterator[PrivateReplicaSet]:
    """Return a MongoDB of three members, with a shorter election timeout unless it is for FULL."""
    timeout = ELECTION_TIMEOUT if FULL else timedelta(seconds=3)
    try:
        started = PrivateReplicaSet(server_directory / "elected-set", election_timeout=timeout).start()
    except MissingServerError as missing:
        do_without(missing)
    yield started
    started.kill()


class Opener:
    """Opens stages on servers of these kinds: three instances that carry out a schedule."""

    def __init__(self, directories: pytest.TempPathFactory, rows: list[Row]) -> None:
        self._directories = directories
        self._rows = rows

    def open(
        self, rabbitmq: PrivateRabbitmq, mongo: PrivateMongo | PrivateReplicaSet, **settings: str
    ) -> AbstractAsyncContextManager[Stage]:
        return open_stage(
            self._directories.mktemp("stage"),
            namespace=f"f{secrets.token_hex(3)}",
            amqp_url=rabbitmq.url,
            mongo_url=mongo.url,
            versions=(rabbitmq.version, mongo.version),
            rows=self._rows,
            settings=(DEFAULTS if FULL else QUICKLY) | settings,
        )


@pytest.fixture(scope="session")
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opener:
    return Opener(tmp_path_factory, request.config.stash[ROWS])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(opener: Opener, rabbitmq: PrivateRabbitmq, mongo: PrivateMongo) -> AsyncIterator[Stage]:
    """Return a stage on servers of one member each."""
    async with opener.open(rabbitmq, mongo) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage_on_set(
    opener: Opener, rabbitmq: PrivateRabbitmq, elected_set: PrivateReplicaSet
) -> AsyncIterator[Stage]:
    """Return a stage on a MongoDB of three members."""
    async with opener.open(rabbitmq, elected_set) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage_on_classic(
    opener: Opener, rabbitmq: PrivateRabbitmq, mongo: PrivateMongo
) -> AsyncIterator[Stage]:
    """Return a stage whose baton is in a classic queue."""
    async with opener.open(rabbitmq, mongo, BATON_QUEUE_TYPE="classic") as opened:
        yield opened
