"""The FastAPI example, with a handler that tells where it runs, and one that blocks the loop."""

import asyncio
import threading
import time
from typing import Any

from app import app, cron
from evidence import leave

from cronexec import Run

cron.handler("tick")(leave)


@app.get("/where")
async def where() -> dict[str, Any]:
    return {"thread": threading.get_ident(), "loop": id(asyncio.get_running_loop())}


@app.get("/health")
async def health() -> dict[str, Any]:
    return {"state": cron.health().state, "epoch": cron.health().epoch}


@cron.job("probe", every="1h")
async def probe(_run: Run) -> dict[str, Any]:
    return await where()


@cron.job("block", every="1h")
async def block(run: Run) -> None:
    time.sleep(run.params.get("seconds", 8))  # noqa: ASYNC251  the fault that is tested
