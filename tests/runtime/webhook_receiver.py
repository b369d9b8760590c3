"""A receiver of webhooks, and runs that call it."""

import asyncio
import base64
from typing import Any

from aiohttp import web
from target_runs import execution_of

from cronexec.domain.run import Outcome, RunState
from cronexec.domain.targets import WebhookTarget as Document
from cronexec.ports import Execution
from cronexec.targets import webhook
from cronexec.targets.webhook import WebhookTarget

KEY = bytes(range(32))
SECRETS = {
    "CRONEXEC_SECRET_TOKEN": "tok/123",
    "CRONEXEC_SECRET_SIGNING": "whsec_" + base64.b64encode(KEY).decode(),
    "CRONEXEC_SECRET_NEXT": base64.b64encode(b"n" * 24).decode(),
    "CRONEXEC_SECRET_SHORT": "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "CRONEXEC_SECRET_LONG": "whsec_" + base64.b64encode(b"x" * 65).decode(),
}


def signed_by(*names: str) -> dict[str, Any]:
    return {"secret": [f"${{secret:{name}}}" for name in names]}


class Receiver:
    """An HTTP server on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self.left = asyncio.Event()
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911  a table of answers
        self.requests.append((request, await request.read()))
        match request.path.split("/")[1]:
            case "status":
                return web.Response(status=int(request.path.split("/")[2]), text="as you like")
            case "later":
                return web.Response(status=int(request.path.split("/")[2]), headers=request.query)
            case "peer":
                assert request.transport is not None
                return web.Response(text=str(request.transport.get_extra_info("peername")[1]))
            case "filled":
                return web.Response(text="x" * (webhook.MOST_BYTES - 3) + SECRETS["CRONEXEC_SECRET_TOKEN"])
            case "echo":
                return web.Response(text=f"got {request.headers.get('Authorization')}")
            case "elsewhere":
                return web.Response(status=302, headers={"Location": "/status/200"})
            case "hangs":
                return await self._hang()
            case "large":
                return await self._pour(request)
            case "breaks":
                return await self._break_off(request)
        return web.Response(text="done")

    async def _hang(self) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError

    async def _pour(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            self.left.set()

    async def _break_off(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response


def request_to(url: str, **fields: Any) -> Execution:
    return execution_of(Document(url=url, **fields), params={"league": 7, "name": "a b/c?d"})


async def failure(target: WebhookTarget, execution: Execution) -> Outcome:
    outcome = await target.execute(execution)
    assert outcome.state is RunState.FAILED
    return outcome
