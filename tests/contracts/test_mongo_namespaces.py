"""The retention of a namespace is read from what its instances wrote; never longer than it is."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from cronexec.adapters.mongo import MongoStore
from cronexec.domain.run import Executor

NOW = datetime(2100, 1, 1, tzinfo=UTC)  # nothing expires while we look
WEEK = timedelta(days=7)
Runs = Any


@pytest.fixture
async def store(mongo_url: str, namespace: str) -> AsyncIterator[MongoStore]:
    opened = MongoStore(mongo_url, namespace=namespace, retention=timedelta(days=90))
    yield opened
    await opened.close()


@pytest.fixture
async def runs(mongo_url: str, namespace: str) -> AsyncIterator[Runs]:
    async with AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        yield client.get_default_database("cronexec")[f"{namespace}.runs"]


async def test_an_empty_ledger_shows_no_retention(store: MongoStore) -> None:
    assert await store.retention() is None


@pytest.mark.parametrize(
    "entry",
    [
        {"claimed_at": NOW - timedelta(hours=1), "finished_at": NOW, "expire_at": NOW + WEEK},
        {"claimed_at": NOW, "until": NOW - timedelta(hours=1), "expire_at": NOW + WEEK},
        {"claimed_at": NOW - timedelta(days=3), "until": NOW, "expire_at": NOW + WEEK},
        {"expire_at": NOW - timedelta(days=1) + WEEK},
    ],
    ids=["a run", "a skipped range", "a pause that ended", "a slot alone"],
)
async def test_a_settled_entry_shows_the_retention(
    store: MongoStore, runs: Runs, entry: dict[str, Any]
) -> None:
    await runs.insert_one({"_id": "a", "slot": NOW - timedelta(days=1), **entry})
    await runs.insert_one({"_id": "queued", "slot": NOW, "unsettled": True})

    assert await store.retention() == WEEK


async def test_of_two_retentions_the_shorter_counts(store: MongoStore, runs: Runs) -> None:
    await runs.insert_one({"_id": "before", "slot": NOW, "expire_at": NOW + timedelta(days=1)})
    await runs.insert_one({"_id": "after", "slot": NOW, "expire_at": NOW + WEEK})

    assert await store.retention() == timedelta(days=1)


async def test_a_namespace_is_one_when_an_instance_prepared_it(store: MongoStore, namespace: str) -> None:
    assert namespace not in await store.namespaces()
    await store.store.runs.cancel_requests(Executor(id="i", name="i", datacenter="east").id)
    assert namespace not in await store.namespaces()

    await store.store.terms.prepare()

    assert namespace in await store.namespaces()
