# ruff: noqa: INP001  a program, not a package
"""What the demo's webhooks and messages go to: an HTTP server on port 8480, and consumers of three queues.

It answers after a few milliseconds; one health check in forty says 503, so that there is something to see.
The queues are declared here, in the broker of CRONEXEC_AMQP_URL. When the port is taken (by another demo,
whose receiver then answers), only the queues are served.
"""

import asyncio
import logging
import os
import random
import threading

import pika
from aiohttp import web
from pika.adapters.blocking_connection import BlockingChannel

HOST, PORT = "127.0.0.1", 8480
QUEUES = ("demo.mail", "demo.prices", "demo.orders")
log = logging.getLogger("receiver")


async def answer(request: web.Request) -> web.Response:
    await asyncio.sleep(random.uniform(0.005, 0.05))  # noqa: S311  no secret
    if request.path.startswith("/health/") and random.random() < 1 / 40:  # noqa: S311  no secret
        return web.Response(status=503, text="too busy to be well")
    return web.json_response({"done": request.path, "key": request.headers.get("Idempotency-Key")})


def take_messages() -> None:
    """Declare the queues and take what comes, for ever."""
    url = os.environ["CRONEXEC_AMQP_URL"].split(",")[0]
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_declare(queue, durable=True)
            channel.basic_consume(queue, take)
        channel.start_consuming()


def take(
    channel: BlockingChannel, method: pika.spec.Basic.Deliver, _: pika.BasicProperties, body: bytes
) -> None:
    log.info("%s %s", method.routing_key, body.decode(errors="replace"))
    channel.basic_ack(method.delivery_tag)


async def receive_webhooks() -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, PORT).start()
    except OSError as error:
        log.warning("webhooks are left to whatever listens on port %s: %s", PORT, error.strerror)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("pika").setLevel(logging.WARNING)
    threading.Thread(target=take_messages, daemon=True).start()
    asyncio.run(receive_webhooks())
