"""The servers of a chaos run: private ones, which can be harmed.

All methods that take long block their thread.
"""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pika
from broker_versions import broker_of
from pymongo import MongoClient

from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.dev.replica_set import PrivateReplicaSet

DATABASE = "chaos"
NAMESPACE = "chaos"
NO_MEMORY, MEMORY = "0.000001", "0.4"


class ChaosServers:
    """RabbitMQ of a version (None: the machine's own), and MongoDB: a replica set of so many members.

    `replica_set` is None where there is but one. Raises MissingServerError.
    """

    def __init__(self, directory: Path, *, broker: str | None, mongodb_members: int) -> None:
        folder = directory / "rabbitmq"
        self.rabbitmq = PrivateRabbitmq(folder) if broker is None else broker_of(broker, folder)
        self.replica_set: PrivateReplicaSet | None = None
        self.mongo: PrivateMongo | PrivateReplicaSet
        if mongodb_members > 1:
            self.mongo = self.replica_set = PrivateReplicaSet(directory / "mongodb", members=mongodb_members)
        else:
            self.mongo = PrivateMongo(directory / "mongodb")

    @property
    def amqp_port(self) -> int:
        return self.rabbitmq.port

    @property
    def mongo_ports(self) -> list[int]:
        if isinstance(self.mongo, PrivateMongo):
            return [self.mongo.port]
        return [member.port for member in self.mongo.members]

    @property
    def mongo_url(self) -> str:
        return self.mongo.url.replace("/?", f"/{DATABASE}?")

    def amqp_url(self, port: int) -> str:
        """Return the broker's URL, by way of `port`."""
        return self.rabbitmq.url.replace(f":{self.rabbitmq.port}/", f":{port}/")

    def alarm(self, *, on: bool) -> None:
        """Raise the broker's memory alarm, or end it."""
        self.rabbitmq.ctl("set_vm_memory_high_watermark", NO_MEMORY if on else MEMORY)

    def insert_batons(self, count: int) -> None:
        with self._channel() as channel:
            for _ in range(count):
                channel.basic_publish("", f"{NAMESPACE}.baton", b"{}", pika.BasicProperties(delivery_mode=2))

    def purge_batons(self) -> int:
        """Purge the baton queue; returns how many were in it."""
        with self._channel() as channel:
            count: int = channel.queue_purge(f"{NAMESPACE}.baton").method.message_count
            return count

    def send_garbage(self, bodies: list[bytes]) -> None:
        """Put messages that are no commands into the command queue."""
        with self._channel() as channel:
            for body in bodies:
                channel.basic_publish(
                    "", f"{NAMESPACE}.commands", body, pika.BasicProperties(delivery_mode=2)
                )

    def rejected(self) -> list[bytes]:
        """Take all bodies out of the rejected queue."""
        bodies = []
        with self._channel() as channel:
            while (found := channel.basic_get(f"{NAMESPACE}.commands.rejected", auto_ack=True))[0]:
                bodies.append(found[2])
        return bodies

    def unsettled(self) -> int:
        """Return how many runs are queued or running."""
        with MongoClient[dict[str, Any]](self.mongo_url) as client:
            runs = client[DATABASE][f"{NAMESPACE}.runs"]
            return runs.count_documents({"state": {"$in": ["queued", "running"]}})

    @contextlib.contextmanager
    def _channel(self) -> Any:
        parameters = pika.URLParameters(self.rabbitmq.url)
        parameters.blocked_connection_timeout = 60
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel

    def __enter__(self) -> Self:
        self.rabbitmq.start()
        self.mongo.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rabbitmq.kill()
        self.mongo.kill()
