from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import Cluster, open_cluster


@pytest.fixture
async def cluster(amqp_url: str, mongo_url: str, namespace: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Return a cluster of processes with no members yet."""
    async with open_cluster(amqp_url, mongo_url, namespace, tmp_path) as opened:
        yield opened
