"""`stores`: an empty namespace, in memory and in MongoDB, for any number of instances; `store`: one's."""

from collections.abc import AsyncIterator

import pytest
from stores import Bench, MemoryBench, MongoBench

from cronexec.ports import Store


@pytest.fixture(params=["memory", "mongo"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield MemoryBench()
        return
    bench = MongoBench(request.getfixturevalue("mongo_url"), request.getfixturevalue("namespace"))
    yield bench
    await bench.close()


@pytest.fixture
async def mongo(mongo_url: str, namespace: str) -> AsyncIterator[MongoBench]:
    bench = MongoBench(mongo_url, namespace)
    yield bench
    await bench.close()


@pytest.fixture
def store(stores: Bench) -> Store:
    return stores.open()
