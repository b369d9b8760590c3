from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import Cluster
from members import open_cluster


@pytest.fixture
async def cluster(amqp_url: str, mongo_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Return a cluster of processes with no members yet."""
    given = {"AMQP_URL": amqp_url, "MONGO_URL": mongo_url, "NAMESPACE": namespace, "ALLOW_SHELL": "true"}
    async with open_cluster(Cluster, tmp_path, **given) as opened:
        yield opened
