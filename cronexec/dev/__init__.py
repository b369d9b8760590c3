"""Private RabbitMQ and MongoDB servers, from programs on PATH or by URL, for `cronexec dev` and the tests.

Nothing is ever downloaded: a server that is not installed is a MissingServerError, whose sentence says how
to get it.
"""

from cronexec.dev.errors import MissingServerError, ServerStartError
from cronexec.dev.mongodb import PrivateMongo
from cronexec.dev.processes import ChildProcess, free_port
from cronexec.dev.rabbitmq import PrivateRabbitmq
from cronexec.dev.servers import Servers

__all__ = [
    "ChildProcess",
    "MissingServerError",
    "PrivateMongo",
    "PrivateRabbitmq",
    "ServerStartError",
    "Servers",
    "free_port",
]
