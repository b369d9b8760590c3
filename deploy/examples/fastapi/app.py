"""FastAPI with cron jobs; `uvicorn app:app` in this directory starts it.

CRONEXEC_AMQP_URL and CRONEXEC_MONGO_URL name the servers. Async handlers run on uvicorn's event loop, beside
the requests; one that blocks it holds up requests and other handlers, but not the schedule.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from cronexec import AsyncCronexec, InvalidDocumentError, RefusedError, Run

cron = AsyncCronexec.from_env()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with cron:
        yield


app = FastAPI(lifespan=lifespan)


@cron.job("close-league", cron="0 3 * * *", timezone="Europe/Amsterdam", timeout="10m")
async def close_league(run: Run) -> None:
    matches = run.params.get("matches", 3)
    for done in range(1, matches + 1):
        await run.progress(done, matches, "matches")


@app.put("/jobs")
async def put(document: dict[str, Any]) -> Mapping[str, Any]:
    try:
        return await cron.jobs.put(document)
    except (InvalidDocumentError, RefusedError) as error:
        raise HTTPException(422, str(error)) from error


@app.post("/jobs/{name}/trigger", status_code=202)
async def trigger(name: str, params: dict[str, Any] | None = None) -> Mapping[str, Any]:
    try:
        return await cron.jobs.trigger(name, params=params)
    except RefusedError as error:
        raise HTTPException(409, str(error)) from error


@app.get("/jobs/{name}/runs")
async def runs(name: str) -> list[dict[str, Any]]:
    return [{"id": run.id, "state": run.state} for run in await cron.runs.list(job=name, limit=20)]
