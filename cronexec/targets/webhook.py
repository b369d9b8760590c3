"""HTTP requests. One client session for all of them, on the engine's loop.

The deadline is the caller's: it cancels the request, which closes its connection. Only connecting has a
timeout of its own, because an address that swallows packets says nothing for minutes. Where the document has
no body, methods that carry one get the run's identity and params as JSON. The identity headers stand above
those of the document, and where it names a secret the request is signed (`signature`).

Redirects are followed for GET and HEAD only, and only where no secret is in the request. After a redirect of
a POST, clients send a GET without the body (301, 302, 303): the receiver would be asked for something else
than the job says. Elsewhere a redirect is a status like any other, by default not an expected one. What is
answered beyond `MOST_BYTES` is not read.

A connection is used again within `KEPT_FOR` only: servers close those that are idle for 2 (gunicorn), 5
(uvicorn, Node) or more seconds, always whole ones, as are the distances of slots; a request that meets the
end of its connection has failed, and may not be repeated by us.

With `wait: callback`, the receiver may answer 202 and go on (`callbacks`): the run lasts, within its timeout,
until it says how the work ended.
"""

import contextlib
import json
import os
import ssl
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import aiohttp
from aiohttp import DummyCookieJar

from cronexec.domain.redaction import redact_url
from cronexec.domain.run import Outcome, RunState
from cronexec.domain.template import TemplateError
from cronexec.ports import Clock, Execution
from cronexec.targets import identity
from cronexec.targets.callback_server import CallbackServer
from cronexec.targets.callbacks import ACCEPTED, NOT_CONFIGURED, Callback, Callbacks
from cronexec.targets.host_names import HostNames
from cronexec.targets.output import RedactingSink
from cronexec.targets.retry_after import retry_after
from cronexec.targets.secrets import SecretError, Secrets
from cronexec.targets.signature import SigningKeyError, read_key, sign
from cronexec.targets.template import Rendering

CONNECT_TIMEOUT = 10.0  # seconds
KEPT_FOR = 1.5  # seconds that a connection is kept for the next request
MOST_BYTES = 256 * 1024
MOST_REDIRECTS = 5
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
REDIRECTED = frozenset({"GET", "HEAD"})

_SENTENCES: tuple[tuple[type[Exception], str], ...] = (  # the more special kinds first
    (aiohttp.NonHttpUrlClientError, "only http and https URLs can be requested, not {scheme}://"),
    (aiohttp.InvalidURL, "the URL is not valid"),
    (aiohttp.ClientConnectorDNSError, "the host name {name} cannot be resolved"),
    (aiohttp.ClientConnectorCertificateError, "the TLS certificate of {host} is not trusted: {why}"),
    (aiohttp.ClientSSLError, "no TLS connection with {host}: {why}"),
    (aiohttp.ClientConnectorError, "no connection to {host}: {why}"),
    (TimeoutError, "no connection to {host} in time"),
    (aiohttp.ServerDisconnectedError, "{host} closed the connection without an answer"),
    (aiohttp.TooManyRedirects, "{host} redirected more than " + str(MOST_REDIRECTS) + " times"),
    (aiohttp.ClientPayloadError, "the answer of {host} broke off"),
    (aiohttp.ClientResponseError, "{host} answered something that is not HTTP: {why}"),
)
_CHUNK_BYTES = 16 * 1024
_REDIRECTS = range(300, 400)


class WebhookTarget:
    """Sends HTTP requests. `limit`: the most connections at a time.

    `callbacks`, `server`: for targets that wait for a callback; None where this instance takes none.
    """

    def __init__(
        self,
        *,
        secrets: Secrets,
        clock: Clock,
        limit: int = 256,
        connect_timeout: float = CONNECT_TIMEOUT,
        callbacks: Callbacks | None = None,
        server: CallbackServer | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._server = server
        self._secrets = secrets
        self._clock = clock
        self._limit = limit
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._session: aiohttp.ClientSession | None = None
        self._names = HostNames()

    def unavailable(self, target: Any) -> str | None:
        return NOT_CONFIGURED if target.wait == "callback" and self._callbacks is None else None

    async def execute(self, execution: Execution) -> Outcome:
        rendering = Rendering(execution, self._secrets)
        if execution.target.wait != "callback":
            return await self._request(execution, rendering)
        if self._callbacks is None:
            return rendering.failed(NOT_CONFIGURED)
        if why := await self._callbacks.wait_listening():
            return rendering.failed(why)
        with self._callbacks.open(execution.run, rendering) as callback:
            return await self._request(execution, rendering, callback)

    async def _request(
        self, execution: Execution, rendering: Rendering, callback: Callback | None = None
    ) -> Outcome:
        try:
            url, request = _request(execution, rendering)
            request["headers"] |= self._sign(execution, rendering, request["data"])
            request["allow_redirects"] = execution.target.method in REDIRECTED and not rendering.used
        except (TemplateError, SecretError, SigningKeyError) as error:
            return rendering.failed(str(error))
        sink = rendering.sink()
        if callback is not None:
            request["headers"] |= callback.headers
            callback.sink = sink
        try:
            async with self._open_session().request(execution.target.method, url, **request) as response:
                await _read(response, sink)
            if callback is not None and response.status == ACCEPTED:
                return await callback.finished
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return rendering.failed(_sentence(error, url))
        finally:
            sink.close()
        outcome = _outcome(execution, rendering, response)
        hint = retry_after(response.status, response.headers, self._clock.now())
        return outcome if hint is None else replace(outcome, retry_after=hint)

    def _sign(self, execution: Execution, rendering: Rendering, body: bytes | None) -> dict[str, str]:
        """Return the headers that sign the request. Raises SecretError, SigningKeyError."""
        keys = [read_key(name, rendering.secret(name)) for name in execution.target.secret_names]
        return sign(execution.run.id, self._clock.now(), body or b"", keys) if keys else {}

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._names.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._limit, keepalive_timeout=KEPT_FOR, resolver=self._names
                ),
                cookie_jar=DummyCookieJar(),  # runs have nothing to do with each other
                timeout=self._timeout,
                max_line_size=16 * 1024,
            )
        return self._session


def _request(execution: Execution, rendering: Rendering) -> tuple[str, dict[str, Any]]:
    """Return the URL and the arguments of the request. Raises TemplateError, SecretError."""
    target = execution.target
    url = rendering.text(target.url, escape=_in_url)
    headers = {"User-Agent": "cronexec"} | {
        name: rendering.text(value) for name, value in target.headers.items()
    }
    data, content_type = _body(target, rendering)
    if content_type and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = content_type
    return url, {
        "data": data,
        "headers": headers | identity.headers(execution.run),
        "max_redirects": MOST_REDIRECTS,
    }


def _body(target: Any, rendering: Rendering) -> tuple[bytes | None, str | None]:
    if target.body is not None:
        body = rendering.render(target.body)
    elif target.method in WITH_BODY:
        body = rendering.values
    else:
        return None, None
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body, ensure_ascii=False, default=str).encode(), "application/json"


def _in_url(text: str) -> str:
    """Percent-encode a value within a URL: a param must not add a path, a query or another host."""
    return quote(text, safe=":")


async def _read(response: aiohttp.ClientResponse, sink: RedactingSink) -> None:
    left = MOST_BYTES
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        sink.write(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            sink.cut()
            response.close()  # not back into the pool: there may be no end to it
            return


def _outcome(execution: Execution, rendering: Rendering, response: aiohttp.ClientResponse) -> Outcome:
    target, status = execution.target, response.status
    if target.expects(status):
        return Outcome(state=RunState.SUCCEEDED, status=status)
    expected = ", ".join(str(item) for item in target.expect)
    answered = (
        f"{response.method} {_host(str(response.url))} answered {status} {response.reason or ''}".rstrip()
    )
    location = response.headers.get("Location")
    if status in _REDIRECTS and location:
        answered += f" to {redact_url(location)}, which is not followed"
    return rendering.failed(f"{answered}; expected {expected}", status=status)


def _sentence(error: Exception, url: str) -> str:
    """Return what went wrong, without the URL's path and query, which may be as good as a password."""
    sentence = next(
        (text for kind, text in _SENTENCES if isinstance(error, kind)), "the request to {host} failed: {why}"
    )
    parts = _parts(url)
    return sentence.format(scheme=parts.scheme, name=parts.hostname, host=_host(url), why=_why(error))


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return os.strerror(number) if number and number > 0 else str(error.os_error)
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message
    return f"{type(error).__name__}: {redact_url(str(error))}"


def _host(url: str) -> str:
    parts = _parts(url)
    host = parts.hostname or "the host"
    if not parts.port:
        return host
    return f"[{host}]:{parts.port}" if ":" in host else f"{host}:{parts.port}"


def _parts(url: str) -> SplitResult:
    """Return the parts of a URL; of one that has none, no error: its words would show what is in it."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        _ = parts.port
        return parts
    return urlsplit("")
