"""What goes wrong between us and a broker, as a sentence and a remedy.

Passwords are never shown; the user's name, the host and the virtual host are, because they are what is
usually wrong. pika wraps what happened several times over, and guesses from the moment at which a connection
ended; the broker's own words are in the text then.
"""

import re
import socket
import ssl
from collections.abc import Iterator

from pika import ConnectionParameters
from pika.adapters.utils.connection_workflow import AMQPConnectorPhaseErrorBase, AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    AuthenticationError,
    ConnectionClosed,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from cronexec.errors import UnreachableError

SERVICE = "broker"
TLS_PORT = 5671
NOT_FOUND = 404
CODE_IN_TEXT = re.compile(r"ConnectionClosedByBroker: \((?P<code>\d+)\) '(?P<text>.*)'")


class AmqpError(Exception):
    """Base of what a connection or a channel can do to its user."""


class ConnectionLostError(AmqpError):
    """The connection is gone; the message is the reason."""


class ChannelClosedError(AmqpError):
    """The broker closed the channel. `code` is AMQP's (404, 406), the message is the broker's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class ReturnedError(AmqpError):
    """The message could not be routed to any queue."""


class NackedError(AmqpError):
    """The broker refused responsibility for the message."""


class UnsendableError(AmqpError):
    """AMQP cannot express the message (too long, or of no type that it knows): nothing was sent."""


def unreachable(problem: str, remedy: str) -> UnreachableError:
    return UnreachableError(SERVICE, problem, remedy)


def explain_unopened(error: Exception, parameters: ConnectionParameters) -> UnreachableError:
    """Say why a connection could not be opened."""
    where = f"{parameters.host}:{parameters.port}"
    user = getattr(parameters.credentials, "username", "")
    vhost = parameters.virtual_host
    match list(_causes(error))[-1]:
        case socket.gaierror():
            problem = f"the host name of the broker {where} is not known"
            remedy = "Check the host in amqp_url and this machine's DNS"
        case ConnectionRefusedError():
            problem = f"nothing listens at {where}"
            remedy = "Start the broker, or correct host and port in amqp_url"
        case ssl.SSLError() as cause:
            return _explain_tls(cause, where)
        case IncompatibleProtocolError():
            problem = f"{where} does not answer as an AMQP broker"
            remedy = (
                f"If the port expects TLS (usually {TLS_PORT}), use amqps://; otherwise correct host and port"
            )
        case ProbableAuthenticationError() | AuthenticationError():
            problem = f"the broker {where} refused the login of user {user!r}"
            remedy = (
                "Check user and password in amqp_url; 'guest' may log in from the broker's own machine only"
            )
        case ProbableAccessDeniedError() as cause:
            problem = (
                f"the broker {where} refused user {user!r} the virtual host {vhost!r}{_broker_said(cause)}"
            )
            remedy = (
                f"Check the path in amqp_url, or: rabbitmqctl add_vhost, set_permissions -p {vhost} {user}"
            )
        case TimeoutError() | AMQPConnectorStackTimeout() | ConnectionOpenAborted():
            problem = f"the broker {where} did not answer in time"
            remedy = (
                "Check that host and port are right, that no firewall is in between, and the broker's health"
            )
        case ConnectionResetError():
            problem = f"{where} closed the connection before it was set up"
            remedy = "Check that the URL's scheme (amqp:// or amqps://) suits the port, and the broker's log"
        case cause:
            problem = f"the broker {where} could not be reached ({_text(cause)})"
            remedy = "Check host and port in amqp_url, and the network"
    return unreachable(problem, remedy)


def _explain_tls(error: ssl.SSLError, where: str) -> UnreachableError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return unreachable(
            f"the certificate of the broker {where} is not trusted ({error.verify_message})",
            "Name the authority that signed it (CA file), and the host as the certificate has it",
        )
    if error.reason == "WRONG_VERSION_NUMBER":
        return unreachable(
            f"the broker {where} does not speak TLS on this port",
            f"Use amqp:// for it, or the port that speaks TLS (usually {TLS_PORT})",
        )
    return unreachable(
        f"TLS with the broker {where} failed ({error.reason or error})",
        "Check the certificates on both sides; the broker may ask for a client certificate",
    )


def explain_refused(error: ChannelClosedError, what: str) -> UnreachableError:
    """Say why the broker closed a channel on us, over `what` (a queue or exchange)."""
    match error.code:
        case 403:
            remedy = (
                "Permit the user in amqp_url to configure, write and read the namespace's queues "
                "and to write to the exchange amq.default (rabbitmqctl set_permissions)"
            )
        case 405:
            remedy = "Another connection uses the queue exclusively: delete it, or choose another namespace"
        case _:
            remedy = "See the broker's log"
    return unreachable(f"the broker refused {what or 'the default exchange'}: {error.text}", remedy)


def connection_lost(error: Exception) -> UnreachableError:
    """Say that a connection ended while it was used."""
    return unreachable(f"the connection to the broker was lost ({error})", "It is opened again by itself")


def explain_lost(error: BaseException) -> str:
    """Say in a few words why a connection or a channel is gone."""
    match error:
        case ConnectionClosed(reply_code=code, reply_text=text):
            return f"the connection was closed: {code} {text}"
        case AMQPHeartbeatTimeout():
            return "the broker sent no heartbeat"
        case StreamLostError():
            return "the connection broke"
    return f"the connection ended: {_text(error)}"


def _broker_said(error: Exception) -> str:
    said = CODE_IN_TEXT.search(_text(error))
    return f" ({said['text']})" if said else ""


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk from pika's wrapping to what really happened."""
    yield error
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        yield from _causes(error.exception)
        return
    wrapped = (*getattr(error, "exceptions", ()), *error.args)
    inner = [each for each in wrapped if isinstance(each, BaseException)]
    if inner:
        yield from _causes(inner[-1])
