"""Webhooks that answer 202 and finish later: who was asked, and what is said of the run since.

A request carries the URL and the token of its attempt. Of the token only a hash is kept, in memory, for as
long as the attempt lasts on this instance: the run is this instance's, like any other, with its timeout, its
cancel and its place. So the URL has to be this very instance's, and when it is gone its run is abandoned like
any other. What a wrong token gets does not tell it from a run that never was. A receiver whose run is over
(timed out, cancelled, finished) is told so, with its own token, for a while: it may stop.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from cronexec.domain.callback import CallbackReport
from cronexec.domain.run import Outcome, Run, RunState
from cronexec.errors import InvalidDocumentError
from cronexec.ports import OutputSink
from cronexec.targets.template import Rendering

ACCEPTED = 202
URL_HEADER = "X-Cronexec-Callback"
TOKEN_HEADER = "X-Cronexec-Callback-Token"  # noqa: S105  a header's name
MOST_REMEMBERED = 1000  # attempts that are over
LISTEN_TIMEOUT = 5.0  # seconds from the start of an instance in which it should listen

NOT_CONFIGURED = (
    "the target waits for a callback, and this instance takes none: set CRONEXEC_CALLBACK_URL and "
    "CRONEXEC_CALLBACK_LISTEN"
)
_NOT_FOUND = (404, {"error": "not found"})
_PATH = "/runs/"


@dataclass(kw_only=True)
class Callback:
    """One attempt's. `finished` resolves to its outcome when the receiver says how it ended."""

    run: Run
    url: str
    token: str
    callbacks: "Callbacks"
    rendering: Rendering
    sink: OutputSink | None = None
    finished: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def headers(self) -> dict[str, str]:
        return {URL_HEADER: self.url, TOKEN_HEADER: self.token}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.callbacks.close(self)

    def take(self, report: CallbackReport) -> str:
        """Take a report; returns the state that the run is in then."""
        if report.log and self.sink is not None:
            self.sink.write(report.log if report.log.endswith("\n") else f"{report.log}\n")
        if (progress := report.progress) is not None:
            self.rendering.report(progress.done, progress.total, progress.message)
        if (finish := report.finish) is None:
            return RunState.RUNNING.value
        if finish.state == "succeeded":
            outcome = Outcome(state=RunState.SUCCEEDED, status=ACCEPTED)
        else:
            error = finish.error or "the receiver said that it failed"
            outcome = self.rendering.failed(error, status=ACCEPTED)
        self.finished.set_result(outcome)
        return finish.state


class Callbacks:
    """The callbacks of an instance. `url`: where it can be reached.

    `problem`: why nobody can call at present, None where it listens.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._prefix = urlsplit(self._url).path
        self._open: dict[str, Callback] = {}
        self._over: OrderedDict[str, str] = OrderedDict()  # hash of the token to the run's id
        self.problem: str | None = "the instance does not listen for callbacks yet"
        self._listening = asyncio.Event()

    def listen(self) -> None:
        """Take note that it listens now."""
        self.problem = None
        self._listening.set()

    async def wait_listening(self) -> str | None:
        """Wait a little for it to listen; returns why it does not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_TIMEOUT):
                await self._listening.wait()
        return self.problem

    def open(self, run: Run, rendering: Rendering) -> Callback:
        """Return the callback of an attempt, to be used as a context; its token shows in no output."""
        token = secrets.token_urlsafe(32)
        rendering.used.add(token)
        url = f"{self._url}{_PATH}{quote(run.id, safe='')}"
        callback = Callback(run=run, url=url, token=token, callbacks=self, rendering=rendering)
        self._open[_hash(token)] = callback
        return callback

    def close(self, callback: Callback) -> None:
        """Take note that the attempt is over."""
        callback.finished.cancel()  # a report whose body is being read comes too late
        digest = _hash(callback.token)
        self._open.pop(digest, None)
        self._over[digest] = callback.run.id
        if len(self._over) > MOST_REMEMBERED:
            self._over.popitem(last=False)

    def judge(self, path: str, authorization: str | None) -> Callback | tuple[int, dict[str, Any]]:
        """Return the callback that a request is for, or the status and document that it gets.

        `path`: as it was sent, percent-encoded.
        """
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            return 401, {"error": "expected a bearer token in Authorization"}
        run_id, digest = self._run_of(path), _hash(token.strip())
        if (callback := self._open.get(digest)) is not None and callback.run.id == run_id:
            return (409, _OVER) if callback.finished.done() else callback
        return (409, _OVER) if run_id is not None and self._over.get(digest) == run_id else _NOT_FOUND

    def take(self, callback: Callback, body: bytes) -> tuple[int, dict[str, Any]]:
        """Take the report in a request; returns its status and document."""
        try:
            report = CallbackReport.read(body)
        except InvalidDocumentError as error:
            return 400, {"error": "; ".join(str(each) for each in error.problems)}
        except (ValueError, RecursionError) as error:
            return 400, {"error": f"the body is no JSON: {error}"}
        if callback.finished.done():
            return 409, _OVER
        return 200, {"state": callback.take(report)}

    def _run_of(self, path: str) -> str | None:
        """Return the run that a path names, with the URL's own path before it or without."""
        for beginning in (f"{self._prefix}{_PATH}", _PATH):
            if path.startswith(beginning):
                return unquote(path.removeprefix(beginning))
        return None


_OVER = {"error": "the run is over"}


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
