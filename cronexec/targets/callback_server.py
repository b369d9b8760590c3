"""The HTTP server that takes callbacks, on the engine's loop.

It answers POST and nothing else, looks at the token before it reads a body, and reads none above 64 KiB.
Where the port cannot be had, the log says so, webhooks that wait for callbacks fail, and it tries again. TLS
is the business of what stands before it.
"""

import asyncio

from aiohttp import web

from cronexec.domain.callback import MOST_BYTES
from cronexec.log import Log
from cronexec.targets.callbacks import Callbacks

RETRY_INTERVAL = 5.0  # seconds
KEEP_ALIVE_TIMEOUT = 15.0  # seconds, for connections on which nothing is asked


class CallbackServer:
    """Listens at `address`, HOST:PORT. `start` returns at once."""

    def __init__(self, callbacks: Callbacks, address: str, log: Log) -> None:
        self._callbacks = callbacks
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]") or None, int(port)
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="cronexec-callbacks")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=KEEP_ALIVE_TIMEOUT,
        )
        await runner.setup()
        try:
            while True:
                try:
                    await web.TCPSite(runner, self._host, self._port).start()
                except OSError as error:
                    self._note(error)
                    await asyncio.sleep(RETRY_INTERVAL)
                else:
                    break
            self._callbacks.listen()
            self._log.info("callbacks.listening", port=self._port)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def _note(self, error: OSError) -> None:
        """Say once why nobody listens; it is tried again all the same."""
        problem = f"the instance cannot listen for callbacks: {error}"
        if problem != self._callbacks.problem:
            self._callbacks.problem = problem
            self._log.error("callbacks.not_listening", why=str(error))

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return web.json_response({"error": "expected POST"}, status=405, headers={"Allow": "POST"})
        judged = self._callbacks.judge(request.rel_url.raw_path, request.headers.get("Authorization"))
        if isinstance(judged, tuple):
            status, document = judged
            headers = {"WWW-Authenticate": "Bearer"} if status == web.HTTPUnauthorized.status_code else None
            return web.json_response(document, status=status, headers=headers)
        status, document = self._callbacks.take(judged, await request.read())
        return web.json_response(document, status=status)
