"""The data directory of `cronexec dev`: whose it is, what is kept, and servers that find their data again.

It belongs to one `dev` at a time (a lock that ends with the process, however it ends). A temporary one goes
when `dev` ends; one that the user named is kept, and the servers of the next `dev` continue with its data.
For that MongoDB needs its port: the replica set's only member is known by its address. The broker keeps its
port where nobody else has taken it, so that shells that have read `env.sh` find both again.

```
DIRECTORY/dev.lock   rabbitmq/port   mongodb/port   instances/NAME.log   env.sh
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
from urllib.parse import urlsplit

from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import LOOPBACK
from cronexec.dev.rabbitmq import PrivateRabbitmq
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

        The URL of a server of ours, in a shell that has read an earlier `env.sh`, gives nothing: that server
        ended with its `dev`, and is started again. Raises MissingServerError, and DataDirectoryError when the
        port of MongoDB's data is taken.
        """
        rabbitmq, mongo = self._port_file("rabbitmq"), self._port_file("mongodb")
        servers = Servers(
            self.path,
            amqp_url=None if _names_port(amqp_url, rabbitmq) else amqp_url,
            mongo_url=None if _names_port(mongo_url, mongo) else mongo_url,
        )
        if servers.rabbitmq is not None:
            port = _kept_port(rabbitmq, servers.rabbitmq.port)
            servers.rabbitmq = PrivateRabbitmq(servers.rabbitmq.directory, port=port)
            servers.amqp_url = servers.rabbitmq.url
        if servers.mongo is not None:
            self._check_mongo_port(mongo)
            port = _kept_port(mongo, servers.mongo.port)
            servers.mongo = PrivateMongo(servers.mongo.directory, port=port)
            servers.mongo_url = servers.mongo.url
        return servers

    def _make(self) -> Path:
        if self._given is None:
            return Path(tempfile.mkdtemp(prefix="cronexec-dev-"))
        self._given.mkdir(parents=True, exist_ok=True)
        return self._given.absolute()

    def _port_file(self, server: str) -> Path:
        return self.path / server / "port"

    def _check_mongo_port(self, file: Path) -> None:
        if (port := _port_in(file)) is not None and not _is_free(port):
            raise DataDirectoryError(
                f"port {port} is taken, and the MongoDB in {self.path} is known by it: end what listens "
                "there, or give another --data-dir"
            )


def _kept_port(file: Path, free: int) -> int:
    """Return the port of the last time where it is free, else `free`, which is the one of the next time."""
    port = _port_in(file)
    if port is not None and _is_free(port):
        return port
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{free}\n")
    return free


def _port_in(file: Path) -> int | None:
    return int(file.read_text()) if file.exists() else None


def _names_port(url: str | None, file: Path) -> bool:
    """Whether a URL is that of the server of ours whose port is in `file`."""
    port = _port_in(file)
    if url is None or port is None:
        return False
    return urlsplit(url).netloc.endswith(f"{LOOPBACK}:{port}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
