"""The two servers that cronexec needs, for the demo and the tests: given by URL, or private ones."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Self

from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.rabbitmq import PrivateRabbitmq


class Servers:
    """A RabbitMQ and a MongoDB; what is not given as a URL is started with its files under `directory`.

    Raises MissingServerError, before anything is started, when a server is neither given nor installed.
    """

    def __init__(self, directory: Path, *, amqp_url: str | None = None, mongo_url: str | None = None) -> None:
        self.rabbitmq = None if amqp_url else PrivateRabbitmq(directory / "rabbitmq")
        self.mongo = None if mongo_url else PrivateMongo(directory / "mongodb")
        self.amqp_url: str = amqp_url or (self.rabbitmq.url if self.rabbitmq else "")
        self.mongo_url: str = mongo_url or (self.mongo.url if self.mongo else "")

    @classmethod
    def from_env(cls, directory: Path) -> Self:
        """Return those of CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL, private ones for what is not set."""
        return cls(
            directory,
            amqp_url=os.environ.get("CRONEXEC_AMQP_URL"),
            mongo_url=os.environ.get("CRONEXEC_MONGO_URL"),
        )

    def start(self) -> Self:
        """Start the private servers side by side.

        Raises ServerStartError, with none left running, when one does not come up.
        """
        try:
            _side_by_side([server.start for server in self._private])
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Shut the private servers down in good order; those given by URL are left alone."""
        _side_by_side([server.stop for server in self._private])

    def kill(self) -> None:
        """End the private servers at once."""
        for server in self._private:
            server.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _private(self) -> list[PrivateRabbitmq | PrivateMongo]:
        return [server for server in (self.rabbitmq, self.mongo) if server]


def _side_by_side(actions: Sequence[Callable[[], object]]) -> None:
    """Call all actions at the same time; raises the first error at once, while others may be at it still."""
    pool = ThreadPoolExecutor(max(len(actions), 1))
    try:
        for done in as_completed([pool.submit(action) for action in actions]):
            done.result()
    finally:
        pool.shutdown(wait=False)
