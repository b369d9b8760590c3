"""A connection to a namespace.

The two servers behind their ports, made from settings. What instances and the CLI have in common.
"""

import ssl
from dataclasses import dataclass

from cronexec.adapters.clock import SystemClock
from cronexec.adapters.mongo import MongoStore
from cronexec.adapters.rabbitmq import RabbitMQ
from cronexec.errors import SettingsError
from cronexec.ports import Broker, Clock, Store
from cronexec.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Made inside the running loop that will use it; nothing is connected before the first call."""

    store: Store
    broker: Broker
    clock: Clock
    mongo: MongoStore

    @classmethod
    def open(cls, settings: Settings, *, name: str, instance_id: str | None = None) -> "Connection":
        """Make the adapters. `name`, and an instance's id, show in the servers' lists of connections."""
        clock = SystemClock()
        mongo = MongoStore(
            settings.mongo_url,
            namespace=settings.namespace,
            retention=settings.retention,
            clock=clock,
            lease=settings.lease,
            instance=name,
        )
        broker = RabbitMQ(
            settings.amqp_urls,
            namespace=settings.namespace,
            connection_name=f"cronexec {settings.namespace} {name}",
            heartbeat=settings.heartbeat,
            queue_type=settings.baton_queue_type,
            tls=tls_context(settings),
            instance_id=instance_id,
            clock=clock,
        )
        return cls(store=mongo.store, broker=broker, clock=clock, mongo=mongo)

    async def close(self) -> None:
        """Close both; idempotent."""
        await self.broker.close()
        await self.mongo.close()


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context that the settings ask for.

    Raises SettingsError for a file that cannot be used.
    """
    if settings.amqp_ca_file is None and settings.amqp_cert_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.amqp_ca_file)
        if settings.amqp_cert_file is not None:
            context.load_cert_chain(settings.amqp_cert_file, settings.amqp_key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"amqp_ca_file, amqp_cert_file, amqp_key_file: a file cannot be used: {error}"
        ) from error
    return context
