"""Verification of a ledger: reads what `domain.verification` compares, in the order that makes it sound.

The watermark is read first, then the versions, then the entries: what was due up to the watermark was written
with it or before, so it is found, whatever the holder does meanwhile. Entries are streamed, job by job; only
the versions are held.

Settled entries are kept for the retention only. So nothing before it can be verified, and a margin is left to
what the database deletes while we read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from cronexec.domain.job import JobVersion
from cronexec.domain.verification import JobVerifier, Verification
from cronexec.ports import Store

LONGEST_MARGIN = timedelta(minutes=5)
MARGIN_OF_RETENTION = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """A verification with what it covers: the slots in (`since_at`, `watermark_at`] of `jobs` jobs."""

    since_at: datetime
    watermark_at: datetime
    jobs: int
    total: Verification
    retained: bool  # whether all of the stretch is within the retention


Report = Callable[[int, int], None]


def _ignore(_done: int, _total: int) -> None:
    """Take a report of progress, and leave it."""


async def verify_ledger(
    store: Store,
    *,
    retention: timedelta,
    since: datetime | None = None,
    job: str | None = None,
    report: Report = _ignore,
) -> Verified:
    """Compare the ledger with what was due after `since`, of one job or of all.

    `since`: by default as far back as the retention reaches.
    `report` is called with (jobs done, jobs in all). Raises UnreachableError.
    """
    term = await store.terms.read()
    retained_from = term.read_at - retention + min(LONGEST_MARGIN, retention / MARGIN_OF_RETENTION)
    since = retained_from if since is None else since
    versions = await store.jobs.versions(job, since)
    by_job = {name: list(group) for name, group in groupby(versions, key=lambda version: version.name)}
    walk = _Walk(by_job, watermark=term.watermark, since=since, only=job, report=report)
    total = await walk.through(store)
    return Verified(
        since_at=since,
        watermark_at=term.watermark,
        jobs=len(by_job),
        total=total,
        retained=since >= retained_from,
    )


class _Walk:
    """Goes through the entries of all jobs in their order, and through the jobs that have none."""

    def __init__(
        self,
        versions: dict[str, list[JobVersion]],
        *,
        watermark: datetime,
        since: datetime,
        only: str | None,
        report: Report,
    ) -> None:
        self._versions = versions
        self._watermark = watermark
        self._since = since
        self._only = only
        self._report = report
        self._done = 0
        self._total = Verification()

    async def through(self, store: Store) -> Verification:
        seen: set[str] = set()
        name, verifier = "", self._verifier("")
        async for entry in store.runs.scheduled(self._since):
            if self._only not in {None, entry.job}:
                continue
            if entry.job != name:
                self._finish(verifier)
                name, verifier = entry.job, self._verifier(entry.job)
                seen.add(name)
            verifier.take(entry)
        self._finish(verifier)
        for name in self._versions.keys() - seen:
            self._finish(self._verifier(name))
        return self._total

    def _verifier(self, name: str) -> JobVerifier:
        return JobVerifier(self._versions.get(name, ()), watermark=self._watermark, since=self._since)

    def _finish(self, verifier: JobVerifier) -> None:
        self._total += verifier.finish()
        self._done += 1
        self._report(min(self._done, len(self._versions)), len(self._versions))
