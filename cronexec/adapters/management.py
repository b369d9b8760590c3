"""RabbitMQ's management plugin, as far as it is needed: closing an instance's link, and what a doctor asks.

Over AMQP nobody can close another's connection, and the broker itself waits for two missed heartbeats before
it takes the baton from an instance that is frozen or cut off. The management plugin closes it at once, and
the baton goes to the next.

A connection is found by its client properties, which carry the instance's id: names and addresses may be used
again, ids are not. The user in the URL needs the tag `management`, and sees the connections of its own user
only (those of all users with `monitoring` or `administrator`).

Over AMQP nobody is told of policies and bindings either; the doctor asks for those of the namespace.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import aiohttp
from yarl import URL

from cronexec.adapters.rabbitmq import INSTANCE_PROPERTY
from cronexec.errors import UnreachableError

ANSWER_TIMEOUT = timedelta(seconds=2)
COLUMNS = "name,client_properties"
NOT_FOUND = 404


class ManagementApi:
    """Implements `ports.Management`.

    `url`: http(s)://USER:PASSWORD@HOST:15672, with a path where a proxy has one. `vhost`: whose connections
    are looked through. `tls`: for https; without it the system's certificate authorities are trusted.
    Make it inside the running loop on which it will be used.
    """

    def __init__(self, url: str, *, vhost: str, tls: ssl.SSLContext | None = None) -> None:
        split = urlsplit(url)
        self._where = f"{split.hostname}:{split.port or (443 if split.scheme == 'https' else 80)}"
        host = f"[{split.hostname}]" if ":" in (split.hostname or "") else split.hostname
        port = f":{split.port}" if split.port else ""
        self._base = f"{split.scheme}://{host}{port}{split.path.rstrip('/')}/api"
        self._vhost = vhost
        self._login = _login(split.username, split.password)
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def links_of(self, instance_id: str) -> Sequence[str]:
        """See the port. The plugin lists a connection up to five seconds after it was opened (3.10)."""
        path = f"/vhosts/{quote(self._vhost, safe='')}/connections?columns={COLUMNS}"
        async with self._ask("GET", path) as response:
            response.raise_for_status()
            listed = await response.json()
        if not isinstance(listed, list):
            raise self._problem("did not list connections")
        return [str(each["name"]) for each in listed if _instance_of(each) == instance_id]

    async def close_link(self, link: str, reason: str) -> bool:
        """See the port."""
        path = f"/connections/{quote(link, safe='')}"
        async with self._ask("DELETE", path, headers={"X-Reason": reason}) as response:
            if response.status == NOT_FOUND:
                return False
            response.raise_for_status()
            return True

    async def policy_of(self, queue: str) -> Mapping[str, Any] | None:
        """Return what policies set on a queue; None while that is not told.

        The plugin tells it some ten seconds after the queue was declared (3.10). Raises UnreachableError.
        """
        path = f"/queues/{quote(self._vhost, safe='')}/{quote(queue, safe='')}"
        async with self._ask("GET", path) as response:
            if response.status == NOT_FOUND:
                return None
            response.raise_for_status()
            told = await response.json()
        if not isinstance(told, dict):
            raise self._problem("did not describe a queue")
        policy = told.get("effective_policy_definition")
        return {} if policy == [] else policy  # Erlang's empty list may be either

    async def listeners_of(self, exchange: str) -> int | None:
        """Return how many queues are bound to an exchange; None if there is none. Raises UnreachableError."""
        path = f"/exchanges/{quote(self._vhost, safe='')}/{quote(exchange, safe='')}/bindings/source"
        async with self._ask("GET", path) as response:
            if response.status == NOT_FOUND:
                return None
            response.raise_for_status()
            told = await response.json()
        if not isinstance(told, list):
            raise self._problem("did not list bindings")
        return len(told)

    async def close(self) -> None:
        """Close what is open to the plugin. Idempotent."""
        if self._session is not None:
            await self._session.close()

    @contextlib.asynccontextmanager
    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask in the time given, and translate what the client raises: its words may have the URL in them."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(headers=self._login)
        url, tls = URL(self._base + path, encoded=True), True if self._tls is None else self._tls
        try:
            async with (
                asyncio.timeout(ANSWER_TIMEOUT.total_seconds()),
                self._session.request(
                    method, url, headers=headers, ssl=tls, allow_redirects=False
                ) as response,
            ):
                yield response
        except aiohttp.ClientResponseError as error:
            raise self._refused(error.status) from error
        except TimeoutError as error:
            raise self._problem(f"did not answer within {ANSWER_TIMEOUT.total_seconds():g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._problem(f"could not be asked ({type(error).__name__})") from error

    def _refused(self, status: int) -> UnreachableError:
        if status in {401, 403}:
            return UnreachableError(
                "management",
                f"the management plugin at {self._where} does not let the user of management_url in",
                "Check name and password, and that it has the tag: rabbitmqctl set_user_tags USER management",
            )
        return self._problem(f"answered with status {status}")

    def _problem(self, what: str) -> UnreachableError:
        return UnreachableError(
            "management",
            f"the management plugin at {self._where} {what}",
            "Check management_url, and that the plugin runs: rabbitmq-plugins enable rabbitmq_management",
        )


def _login(user: str | None, password: str | None) -> dict[str, str]:
    """Return the header of HTTP's basic authentication, for what stands percent-encoded in a URL."""
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _instance_of(connection: Mapping[str, Any]) -> str | None:
    """Return the instance whose link a connection is; None for any other."""
    properties = connection.get("client_properties")
    found = properties.get(INSTANCE_PROPERTY) if isinstance(properties, dict) else None
    return found if isinstance(found, str) else None
