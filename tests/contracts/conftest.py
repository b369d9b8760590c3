"""`stores`: an empty namespace, in memory and in MongoDB, for any number of instances; `store`: one's.

The brokers' fixtures are in `broker_fixtures`.
"""

from collections.abc import AsyncIterator

import pytest
from broker_fixtures import bench, ctl, declare, make  # noqa: F401  for the tests
from stores import Bench, MemoryBench, MongoBench

from cronexec.ports import Store


@pytest.fixture(params=["memory", "mongo"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield MemoryBench()
        return
    opened = MongoBench(request.getfixturevalue("mongo_url"), request.getfixturevalue("namespace"))
    yield opened
    await opened.close()


@pytest.fixture
async def mongo(mongo_url: str, namespace: str) -> AsyncIterator[MongoBench]:
    opened = MongoBench(mongo_url, namespace)
    yield opened
    await opened.close()


@pytest.fixture
def store(stores: Bench) -> Store:
    return stores.open()
