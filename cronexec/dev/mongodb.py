"""A MongoDB of one's own: a one-member replica set or a standalone, in one directory, loopback only.

cronexec needs transactions and majority writes, which MongoDB gives to replica sets only; one
member is enough. The member is configured with its address once, so the port is kept over `stop`
and `start`, and so is the data.
"""

import os
import shutil
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from cronexec.dev.errors import MissingServerError
from cronexec.dev.processes import LOOPBACK, ChildProcess, free_port

START_TIMEOUT = timedelta(seconds=60)
STOP_TIMEOUT = timedelta(seconds=15)
SERVER_FOLDERS = ("/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin")
MISSING = (
    "mongod was not found: install MongoDB (https://www.mongodb.com/docs/manual/installation/) and put "
    "mongod on PATH, or set CRONEXEC_MONGO_URL to a running replica set."
)
NOT_YET_INITIALIZED = 94


class PrivateMongo:
    """A mongod with its files in `directory`, on `port` of the loopback interface (a free one if None).

    `replica_set=None` makes a standalone server. `parameters` are passed as --setParameter.
    Raises MissingServerError when there is no mongod.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        replica_set: str | None = "rs0",
        parameters: Mapping[str, str] | None = None,
        server: Path | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port or free_port()
        self.version = ""
        self._replica_set = replica_set
        self._parameters = {"diagnosticDataCollectionEnabled": "false"} | dict(parameters or {})
        self._server = server or find_mongod()

    @property
    def url(self) -> str:
        options = f"?replicaSet={self._replica_set}" if self._replica_set else ""
        return f"mongodb://{LOOPBACK}:{self.port}/{options}"

    def start(self) -> Self:
        """Start mongod and return when it accepts writes; raises ServerStartError after 60 s."""
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        self._mongod.start()
        with self._connect() as client:
            self._mongod.wait_until(lambda: self._accepts_writes(client), timeout=START_TIMEOUT)
        return self

    def stop(self) -> None:
        """Shut mongod down in good order (killed after 15 s)."""
        self._mongod.stop(timeout=STOP_TIMEOUT)

    def kill(self) -> None:
        """End mongod as a power cut would."""
        self._mongod.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        return self._mongod.running

    @property
    def pid(self) -> int | None:
        """The process, for faults that need it; None before the first start."""
        return self._mongod.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @cached_property
    def _mongod(self) -> ChildProcess:
        log = self.directory / "mongod.log"
        return ChildProcess("MongoDB", self._command(), log=log, cwd=self.directory)

    def _command(self) -> list[str]:
        command = [str(self._server), "--dbpath", str(self.directory / "data")]
        command += ["--bind_ip", LOOPBACK, "--port", str(self.port), "--nounixsocket"]
        command += ["--wiredTigerCacheSizeGB", "0.5"]
        if self._replica_set:
            command += ["--replSet", self._replica_set, "--oplogSize", "256"]
        for name, value in self._parameters.items():
            command += ["--setParameter", f"{name}={value}"]
        return command

    def _connect(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(LOOPBACK, self.port, directConnection=True, serverSelectionTimeoutMS=200)

    def _accepts_writes(self, client: MongoClient[dict[str, Any]]) -> bool:
        try:
            hello = client.admin.command("hello")
            self.version = self.version or str(client.admin.command("buildInfo")["version"])
            if hello["isWritablePrimary"]:
                return True
            self._initiate(client)
        except PyMongoError:
            pass
        return False

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        """Make the set on the first start; on later ones it is in the data and an election is under way."""
        try:
            client.admin.command("replSetGetStatus")
        except OperationFailure as error:
            if error.code == NOT_YET_INITIALIZED:
                member = {"_id": 0, "host": f"{LOOPBACK}:{self.port}"}
                client.admin.command("replSetInitiate", {"_id": self._replica_set, "members": [member]})


def find_mongod() -> Path:
    """Return the mongod program; raises MissingServerError."""
    if found := shutil.which("mongod"):
        return Path(found)
    for folder in SERVER_FOLDERS:
        candidate = Path(folder) / "mongod"
        if os.access(candidate, os.X_OK):
            return candidate
    raise MissingServerError(MISSING)
