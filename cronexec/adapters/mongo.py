"""MongoDB as the store of a namespace: the client, and the ports that it carries.

```python
mongo = MongoStore(url, namespace="games", retention=timedelta(days=30))  # inside the running loop
await mongo.store.terms.prepare()
await mongo.close()
```

Nothing is sent until the first call. All waits are bounded: 3 s to find the primary and to connect, the lease
for an answer. The fenced writes are in `mongo_fence`, the documents in `mongo_documents`, the indexes in
`mongo_indexes`.
"""

from datetime import UTC, timedelta

from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError, InvalidURI

from cronexec.adapters.clock import SystemClock
from cronexec.adapters.mongo_collections import Document, MongoClient, collections_of
from cronexec.adapters.mongo_commands import MongoCommandStore
from cronexec.adapters.mongo_connections import BrokenConnections
from cronexec.adapters.mongo_errors import driver_errors
from cronexec.adapters.mongo_fence import FencedWriter
from cronexec.adapters.mongo_instances import MongoInstanceStore
from cronexec.adapters.mongo_jobs import MongoJobStore
from cronexec.adapters.mongo_namespaces import kept_for, served_namespaces
from cronexec.adapters.mongo_outputs import MongoOutputStore
from cronexec.adapters.mongo_runs import MongoRunStore
from cronexec.adapters.mongo_terms import MongoTermStore
from cronexec.adapters.mongo_waits import mend_waits
from cronexec.errors import SettingsError
from cronexec.ports import Clock, Store

REACH_TIMEOUT = timedelta(seconds=3)
MAJORITY_WITHIN = 0.8  # of the lease: the answer "no majority" comes before the lease is over
MAX_CONNECTIONS = 16


class MongoStore:
    """One instance's client and the stores of its namespace. Make and close it in the running loop.

    `lease` bounds every wait for an answer. `clock` takes the readings of the database's clock (a
    `SystemClock` of its own if None). `instance` is shown to the database's operators.

    Raises:
        SettingsError: the URL cannot be understood.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        retention: timedelta,
        clock: Clock | None = None,
        lease: timedelta = timedelta(seconds=10),
        instance: str = "",
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._client = _connect(url, lease=lease, instance=instance)
        collections = collections_of(self._client, namespace, answer_timeout=lease * MAJORITY_WITHIN)
        self._collections = collections
        self._writer = FencedWriter(
            self._client, collections, clock=self.clock, retention=retention, timeout=lease
        )
        self.store = Store(
            terms=MongoTermStore(self._client, collections, clock=self.clock, writer=self._writer),
            jobs=MongoJobStore(collections),
            runs=MongoRunStore(collections, retention=retention, settled=self._writer.settled),
            outputs=MongoOutputStore(collections, retention=retention, clock=self.clock),
            commands=MongoCommandStore(collections),
            instances=MongoInstanceStore(collections),
        )

    async def namespaces(self) -> list[str]:
        """Return the namespaces that instances have served in this database, by name."""
        with driver_errors():
            return await served_namespaces(self._collections)

    async def retention(self) -> timedelta | None:
        """Return for how long the instances keep settled entries, None where nothing shows it yet."""
        with driver_errors():
            return await kept_for(self._collections)

    async def close(self) -> None:
        """Wait for fenced writes that are under way (at most the lease), then disconnect."""
        await self._writer.settled()
        await self._client.close()


def _connect(url: str, *, lease: timedelta, instance: str) -> MongoClient:
    mend_waits()
    reach_ms = int(REACH_TIMEOUT.total_seconds() * 1000)
    try:
        return AsyncMongoClient[Document](
            url,
            appname=f"cronexec/{instance}" if instance else "cronexec",
            tz_aware=True,
            tzinfo=UTC,
            serverSelectionTimeoutMS=reach_ms,
            connectTimeoutMS=reach_ms,
            socketTimeoutMS=int(lease.total_seconds() * 1000),
            maxPoolSize=MAX_CONNECTIONS,
            retryWrites=False,  # see `mongo_fence`
            event_listeners=[BrokenConnections()],
        )
    except InvalidURI:
        # Without the driver's words, and without its error as the cause: both may quote a password that was
        # not escaped.
        raise SettingsError(
            "mongo_url is not a MongoDB URL: mongodb://USER:PASSWORD@HOST/DATABASE?replicaSet=rs0 is one; "
            "special characters in user and password are written as %XX"
        ) from None
    except (ConfigurationError, ValueError) as error:
        raise SettingsError(f"mongo_url: {error}") from error
