"""Putting what an application declares: once where it differs, later where another release has its turn.

A declaration ends in one of three ways: it is there (put, or equal already), it was refused for good, or it
waits. It waits for the instances of a later release to go, or, refused as invalid by a holder of another
release, for the next holder.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from cronexec.domain.command import ErrorCode
from cronexec.domain.declaration import was_replaced
from cronexec.domain.job import Job, JobDocument
from cronexec.errors import CronexecError, RefusedError
from cronexec.log import Log
from cronexec.ports import UnreadableJob
from cronexec.runtime.service import Backoff

if TYPE_CHECKING:  # it loads what only a started instance needs
    from cronexec.client import Client

LOOK_AGAIN_AFTER = 10.0  # seconds, for what waits
OF_ANOTHER_RELEASE = frozenset({ErrorCode.INVALID, ErrorCode.UNREADABLE_JOB})


class Putting:
    """What became of each declaration so far. `lost_after`: when an instance is taken for lost."""

    def __init__(self, client: "Client", log: Log, lost_after: timedelta) -> None:
        self._client = client
        self._log = log
        self._lost_after = lost_after
        self._answered: set[str] = set()
        self._waiting: set[str] = set()
        self._refused_in: dict[str, int] = {}  # the epoch of the holder that did
        self._said: dict[str, str] = {}
        self._was_overtaken = False  # by somebody who put the same job: what is there is looked at again

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    async def put_until_answered(self, documents: Mapping[str, JobDocument]) -> None:
        """Put what is open of these, again and again while a server does not answer."""
        backoff, said = Backoff(), ""
        while True:
            try:
                self._was_overtaken = False
                await self._put_differing(documents)
                if not self._was_overtaken:
                    return
            except CronexecError as error:
                if str(error) != said:
                    said = str(error)
                    waiting = sorted(documents.keys() - self._answered)
                    self._log.warning("job.declaration_delayed", jobs=waiting, why=said)
            await asyncio.sleep(backoff.next())

    async def _put_differing(self, documents: Mapping[str, JobDocument]) -> None:
        left = {name: document for name, document in documents.items() if name not in self._answered}
        if not left:
            return
        epoch = await self._client.epoch()
        unreadable: list[UnreadableJob] = []
        there = {job.name: job for job in await self._client.jobs.list(report=unreadable.append)}
        for each in unreadable:
            if each.name in left:
                self._wait(each.name, "this release cannot read the job that is there")
                del left[each.name]
        for name, document in left.items():
            if self._refused_in.get(name) == epoch:
                continue
            if await self._is_done(document, there.get(name), epoch):
                self._answered.add(name)
                self._waiting.discard(name)

    def _wait(self, name: str, why: str) -> None:
        """Look again later; why is said once."""
        self._waiting.add(name)
        if self._said.get(name) != why:
            self._said[name] = why
            self._log.info("job.declaration_waits", job=name, why=why)

    async def _is_done(self, document: JobDocument, job: Job | None, epoch: int) -> bool:
        """Put it if it differs and has its turn; returns whether that is all."""
        if job is None or not job.declared:
            return await self._put(document, job, epoch)
        if job.document.to_json() == document.to_json():
            return True
        if (later := await self._later(document, job)) is not None:
            self._wait(document.name, f"{later} declares a later version, {job.version}")
            return False
        return await self._put(document, job, epoch)

    async def _later(self, document: JobDocument, job: Job) -> str | None:
        """Return an instance of the release whose declaration replaced this one; None where none lives."""
        if not was_replaced(document, job, await self._client.jobs.versions(job.name)):
            return None
        return await self._client.declared_by(job.document, lost_after=self._lost_after)

    async def _put(self, document: JobDocument, job: Job | None, epoch: int) -> bool:
        expected = 0 if job is None else job.version  # somebody else may be putting theirs
        try:
            result = await self._client.jobs.put(document, declared=True, if_version=expected)
        except RefusedError as error:
            return self._is_refused_for_good(document.name, error, epoch)
        self._log.info(
            "job.declared", job=document.name, version=result["version"], changed=result["changed"]
        )
        return True

    def _is_refused_for_good(self, name: str, error: RefusedError, epoch: int) -> bool:
        if error.code == ErrorCode.VERSION_CONFLICT:
            self._was_overtaken = True
            return False
        self._log.error("job.declaration_refused", job=name, code=error.code, why=str(error))
        if error.code not in OF_ANOTHER_RELEASE:
            return True
        self._waiting.add(name)
        self._refused_in[name] = epoch
        return False
