"""What goes wrong between us and a broker, as a sentence and a remedy.

Passwords are never shown; the user's name, the host and the virtual host are, because they are what is usually wrong.
"""

from collections.abc import Iterator
from typing import Protocol

from pika import ConnectionParameters
from pika.adapters.utils.connection_workflow import AMQPConnectorPhaseErrorBase
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ConnectionClosed,
    StreamLostError,
)

from cronexec.errors import UnreachableError

SERVICE = "broker"


def unreachable(problem: str, remedy: str) -> UnreachableError:
    return UnreachableError(SERVICE, problem, remedy)


def explain_unopened(error: Exception, parameters: ConnectionParameters) -> UnreachableError:
    """Say why a connection could not be opened."""
    causes = list(_causes(error))
    where = f"{parameters.host}:{parameters.port}"
    user = getattr(parameters.credentials, "username", "?")
    return unreachable(f"the broker {where} could not be reached: {causes[-1]!r} user {user}", "")


def explain_lost(error: BaseException) -> str:
    """Say in a few words why a connection or a channel is gone."""
    if isinstance(error, ConnectionClosed):
        return f"closed: {error.reply_code} {error.reply_text}"
    if isinstance(error, AMQPHeartbeatTimeout):
        return "no heartbeat from the broker"
    if isinstance(error, StreamLostError):
        return f"the connection broke: {error}"
    return f"the connection ended: {error!r}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from pika's wrapping to what really happened."""
    yield error
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        yield from _causes(error.exception)
        return
    inner = [
        each for each in (*getattr(error, "exceptions", ()), *error.args) if isinstance(each, BaseException)
    ]
    if inner:
        yield from _causes(inner[-1])


def explain_refused(error: "Refusal", what: str) -> UnreachableError:
    """Say why the broker closed a channel on us."""
    return unreachable(f"the broker refused access to {what}: {error.code} {error.text}", "")


class Refusal(Protocol):
    """What a channel closed by the broker tells."""

    code: int
    text: str
