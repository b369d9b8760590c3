"""The data directory of `cronexec dev`: whose it is, what is kept, and servers that find their data again.

It belongs to one `dev` at a time (a lock that ends with the process, however it ends). A temporary one goes
when `dev` ends; one that the user named is kept, and the servers of the next `dev` continue with its data.
For that the broker needs its node name, and MongoDB its port: the replica set's only member is known by its
address.

```
DIRECTORY/dev.lock   rabbitmq/   mongodb/   mongodb/port   instances/NAME.log   env.sh
```
"""

import fcntl
import shlex
import shutil
import socket
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import LOOPBACK
from cronexec.dev.servers import Servers


class DataDirectoryError(Exception):
    """The data directory cannot be used. The message is one sentence with the remedy."""


class DataDirectory(AbstractContextManager["DataDirectory"]):
    """A directory that is ours until the end of the context. Raises DataDirectoryError."""

    def __init__(self, path: Path | None = None) -> None:
        self.kept = path is not None
        self._given = path
        self.path = Path()
        self._lock: TextIO | None = None

    def __enter__(self) -> Self:
        try:
            self.path = self._make()
            self._lock = (self.path / "dev.lock").open("a")
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {self._given} cannot be used: {error.strerror}; give another --data-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise DataDirectoryError(
                f"the data directory {self.path} is in use by another 'cronexec dev': "
                "stop it, or give another --data-dir"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the directory up, and remove it where it is temporary. Idempotent, never raises."""
        if self._lock is not None:
            self._lock.close()
        if not self.kept:
            shutil.rmtree(self.path, ignore_errors=True)

    def write_environment(self, variables: Mapping[str, str]) -> Path:
        """Write a file for the shell that exports `variables`; returns its path."""
        path = self.path / "env.sh"
        path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
        path.chmod(0o600)
        return path

    def servers(self, *, amqp_url: str | None, mongo_url: str | None) -> Servers:
        """Return servers with their data here, for what is not given as a URL; not started yet.

        Raises MissingServerError, and DataDirectoryError when the port of MongoDB's data is taken.
        """
        servers = Servers(self.path, amqp_url=amqp_url, mongo_url=mongo_url)
        if servers.mongo is not None:
            servers.mongo = PrivateMongo(servers.mongo.directory, port=self._mongo_port(servers.mongo.port))
            servers.mongo_url = servers.mongo.url
        return servers

    def _make(self) -> Path:
        if self._given is None:
            return Path(tempfile.mkdtemp(prefix="cronexec-dev-"))
        self._given.mkdir(parents=True, exist_ok=True)
        return self._given.absolute()

    def _mongo_port(self, free: int) -> int:
        file = self.path / "mongodb" / "port"
        if file.exists():
            port = int(file.read_text())
            if not _is_free(port):
                raise DataDirectoryError(
                    f"port {port} is taken, and the MongoDB in {self.path} is known by it: end what listens "
                    "there, or give another --data-dir"
                )
            return port
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{free}\n")
        return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
