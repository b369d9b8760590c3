"""What measurements are given: the servers, a directory for logs, and how thorough to be."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster, open_cluster


@dataclass(frozen=True, kw_only=True)
class Setting:
    """`quick`: fewer repetitions, for trying a change; the README's figures are made without."""

    amqp_url: str
    mongo_url: str
    directory: Path
    quick: bool

    def cluster(self, **given: Any) -> AbstractAsyncContextManager[Cluster]:
        """Return a cluster without members; see `open_cluster`."""
        return open_cluster(self.amqp_url, self.mongo_url, self.directory, **given)
