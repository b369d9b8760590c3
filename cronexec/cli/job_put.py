"""What `job put` does with valid documents: send them, many at a time, or compare them with what is there."""

import asyncio
import difflib
from collections import deque
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import yaml

from cronexec.cli.crontab_put import CrontabJobs
from cronexec.cli.failure import NOT_YET, REFUSED, UNREACHABLE
from cronexec.cli.output import print_json, progress
from cronexec.cli.session import Session
from cronexec.domain.crontab_origin import Leave, Refuse
from cronexec.domain.job import Job, JobDocument
from cronexec.errors import CronexecError, NotYetAppliedError, RefusedError, UnreachableError

PART = 500  # so many commands travel together; two parts are on their way at a time
FIRST_VERSION = 1

Result = Mapping[str, Any] | BaseException
Answered = tuple[Sequence[JobDocument], Sequence[Result]]


class Putting:
    """Documents on their way. `send` and `compare` print what happened and return the exit code.

    `guarded`: the names that may not replace a job from elsewhere.
    """

    def __init__(
        self,
        jobs: Sequence[JobDocument],
        *,
        guarded: Collection[str] = (),
        if_version: int | None,
        as_json: bool,
    ) -> None:
        self._jobs = jobs
        self._guarded = guarded
        self._if_version = if_version
        self._as_json = as_json
        self._code = 0

    async def send(self, session: Session) -> int:
        """Put everything; a refusal does not keep the others from being done."""
        records: list[dict[str, Any]] = []
        crontab = CrontabJobs(session.client.jobs, *await _there(session)) if self._guarded else None
        with progress("putting") as report:
            async for part, results in self._in_turn(session, crontab):
                for job, result in zip(part, results, strict=True):
                    record, code = _record(job, result)
                    records.append(record)
                    self._code = max(self._code, code)
                    self._say(record)
                report(len(records), len(self._jobs))
        self._leave_out(len(self._jobs) - len(records))
        if self._as_json:
            print_json({"jobs": records, **_count(records)})
        elif len(records) > 1:
            click.echo(", ".join(f"{count} {word}" for word, count in _count(records).items() if count))
        return self._code

    async def _in_turn(self, session: Session, crontab: CrontabJobs | None) -> AsyncIterator[Answered]:
        """Send part after part, the next while one is answered; none after one that was not."""
        under_way: deque[tuple[Sequence[JobDocument], asyncio.Task[Sequence[Result]]]] = deque()
        for start in range(0, len(self._jobs), PART):
            if self._code >= NOT_YET:
                break
            part = self._jobs[start : start + PART]
            under_way.append((part, asyncio.create_task(self._put(session, crontab, part))))
            if len(under_way) > 1:
                sent, task = under_way.popleft()
                yield sent, await task
        for sent, task in under_way:
            yield sent, await task

    async def _put(
        self, session: Session, crontab: CrontabJobs | None, part: Sequence[JobDocument]
    ) -> Sequence[Result]:
        def one(document: JobDocument) -> Coroutine[Any, Any, Mapping[str, Any]]:
            if crontab is not None and document.name in self._guarded:
                return crontab.put(document)
            return session.client.jobs.put(document, if_version=self._if_version)

        results: list[Result] = await asyncio.gather(*map(one, part), return_exceptions=True)
        return results

    def _say(self, record: Mapping[str, Any]) -> None:
        if "error" in record:
            click.echo(f"{record['name']}: {record['state']}: {record['error']['message']}", err=True)
        elif not self._as_json:
            following = f"; next {record['next']}" if record.get("next") else ""
            version = (
                "delete_after has passed" if record["state"] == "over" else f"version {record['version']}"
            )
            click.echo(f"{record['name']}: {record['state']} ({version}){following}")

    def _leave_out(self, count: int) -> None:
        if count:
            click.echo(f"Error: {count} further jobs were not sent", err=True)

    async def compare(self, session: Session) -> int:
        """Show what a put would change."""
        there, now = await _there(session)
        crontab = CrontabJobs(session.client.jobs, there, now)
        records = [self._compared(document, there, crontab) for document in self._jobs]
        for record in () if self._as_json else records:
            _tell_comparison(record)
        if self._as_json:
            print_json({"dry_run": True, "jobs": records, **_count(records)})
        return REFUSED if any(record["state"] == "refused" for record in records) else 0

    def _compared(
        self, document: JobDocument, there: Mapping[str, Job], crontab: CrontabJobs
    ) -> dict[str, Any]:
        known = there.get(document.name)
        before = known.document.to_document() if known else None
        after = document.to_document()
        record = {"name": document.name, "before": before, "after": after}
        decided = crontab.decide(document) if document.name in self._guarded else None
        if isinstance(decided, Refuse):
            error = {"code": "another_origin", "message": decided.message, "field": "name"}
            return record | {"state": "refused", "error": error}
        left = before == after or isinstance(decided, Leave)
        return record | {"state": "created" if before is None else "unchanged" if left else "updated"}


async def _there(session: Session) -> tuple[dict[str, Job], datetime]:
    jobs, now = await asyncio.gather(session.client.jobs.list(), session.store.terms.ping())
    return {job.name: job for job in jobs}, now


def _tell_comparison(record: Mapping[str, Any]) -> None:
    name, state = record["name"], record["state"]
    if "error" in record:
        click.echo(f"{name}: would be refused: {record['error']['message']}", err=True)
        return
    click.echo(f"{name}: unchanged" if state == "unchanged" else f"{name}: would be {state}")
    for line in _difference(record["before"], record["after"]) if state == "updated" else ():
        click.echo(f"  {line}")


def _record(job: JobDocument, result: Result) -> tuple[dict[str, Any], int]:
    """Return what is printed for one job, and the exit code it asks for."""
    if not isinstance(result, BaseException):
        state = _put_state(result)
        return {"name": job.name, "state": state, "version": result["version"], "next": result.get("next")}, 0
    if not isinstance(result, CronexecError):
        raise result
    state, code = _ending(result)
    error = {
        "code": getattr(result, "code", state),
        "message": str(result),
        "field": getattr(result, "field", None),
    }
    return {"name": job.name, "state": state, "error": error}, code


def _put_state(result: Mapping[str, Any]) -> str:
    """Return what a put did. `over`: the job would have been deleted by now, and is not put."""
    if result.get("over"):
        return "over"
    return _created_or_updated(result) if result["changed"] else "unchanged"


def _created_or_updated(result: Mapping[str, Any]) -> str:
    return "created" if result.get("created", result["version"] == FIRST_VERSION) else "updated"


def _ending(error: CronexecError) -> tuple[str, int]:
    match error:
        case NotYetAppliedError():
            return "not_yet_applied", NOT_YET
        case UnreachableError():
            return "not_sent", UNREACHABLE
        case RefusedError():
            return "refused", REFUSED
    return "failed", REFUSED


def _count(records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    states = [record["state"] for record in records]
    words = ("created", "updated", "unchanged", "over", "refused", "failed", "not_yet_applied", "not_sent")
    return {word: states.count(word) for word in words}


def _difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Iterator[str]:
    old, new = (yaml.safe_dump(each, width=1000, allow_unicode=True).splitlines() for each in (before, after))
    for line in difflib.unified_diff(old, new, lineterm="", n=1):
        if not line.startswith(("---", "+++", "@@")):
            yield line
