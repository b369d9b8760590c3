"""The job that a command names, or the refusal that says that there is none."""

import asyncio
from datetime import datetime
from typing import NoReturn

from cronexec.cli.namespaces import require_served
from cronexec.cli.session import Session
from cronexec.domain.job import Job
from cronexec.domain.problems import nearest
from cronexec.errors import RefusedError

NEAR = 0.8  # as similar as names that are taken for one another have to be


async def find_job(session: Session, name: str) -> tuple[Job, datetime]:
    """Return the job and what the time is. Raises RefusedError (not_found)."""
    found, now = await asyncio.gather(session.client.jobs.get(name), session.store.terms.ping())
    if found is None:
        await miss_job(session, name)
    return found, now


async def miss_job(session: Session, name: str) -> NoReturn:
    """Raise RefusedError (not_found), or what says that the namespace is none."""
    await require_served(session)
    near = nearest(name, [job.name for job in await session.client.jobs.list()], cutoff=NEAR)
    hint = f"; did you mean {near}?" if near else ""
    raise RefusedError("not_found", f"there is no job {name}{hint}", "name")
