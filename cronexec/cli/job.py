"""`cronexec job`: the jobs of the namespace."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import yaml

from cronexec.cli.documents import CrontabOptions, crontab_options, read_files
from cronexec.cli.failure import REFUSED
from cronexec.cli.job_backfill import backfill
from cronexec.cli.job_control import delete, pause, resume, trigger
from cronexec.cli.job_found import find_job, miss_job
from cronexec.cli.job_next import next_slots
from cronexec.cli.job_put import Putting
from cronexec.cli.job_windows import blackout, exception_lines, pause_line, skip_next, unblackout
from cronexec.cli.namespaces import create_option, require_served, run_sending
from cronexec.cli.output import (
    examples,
    json_option,
    people,
    print_json,
    print_problems,
    print_table,
    stop,
)
from cronexec.cli.params import param_lines
from cronexec.cli.records import job_record, next_slot, target_line
from cronexec.cli.session import Session, run_session, wait_option
from cronexec.domain.job import Job, JobVersion


@examples(
    "cronexec job put jobs.yaml",
    "cronexec job list",
    "cronexec job trigger close-league --param league=8",
)
@click.group(short_help="The jobs of the namespace.")
def job() -> None:
    """Manage the jobs of the namespace."""


@examples(
    "cronexec job list --json",
)
@job.command("list", short_help="List all jobs.")
@click.option("--paused", is_flag=True, help="Only those that are paused.")
@json_option
@click.pass_context
def list_jobs(ctx: click.Context, paused: bool, as_json: bool) -> None:
    """List all jobs, with their next slot."""
    jobs, now = run_session(ctx, _read_jobs)
    shown = [each for each in jobs if each.paused_at(now) or not paused]
    if as_json:
        print_json({"jobs": [job_record(each, now) for each in shown]})
        return
    rows = [
        (
            each.name,
            each.version,
            each.schedule.describe(),
            target_line(each.document.target),
            _next_text(each, now),
            "in code" if each.declared else each.document.owner,
        )
        for each in shown
    ]
    empty = "No job is paused." if jobs else "No jobs yet: put some with 'cronexec job put FILE'."
    print_table(("JOB", "VERSION", "SCHEDULE", "TARGET", "NEXT", "OWNER"), rows, empty=empty)


def _next_text(job: Job, now: datetime) -> str:
    paused = job.paused_at(now)
    if paused is None:
        return people(next_slot(job, now)) or ("no more" if job.schedule.instant is None else "done")
    return "paused" if paused.until_at is None else f"paused until {people(paused.until_at)}"


async def _read_jobs(session: Session) -> tuple[list[Job], datetime]:
    jobs, now = await asyncio.gather(session.client.jobs.list(), session.store.terms.ping())
    if not jobs:
        await require_served(session)
    return jobs, now


@examples(
    "cronexec job show close-league",
    "cronexec job show close-league --history",
)
@job.command(short_help="Show one job.")
@click.argument("name")
@click.option("--history", is_flag=True, help="All versions, with when their slots counted.")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, history: bool, as_json: bool) -> None:
    """Show one job: its document as it can be put again, and what is known of it."""
    if history:
        _show_history(ctx, name, as_json)
        return
    found, now = run_session(ctx, lambda session: find_job(session, name))
    if as_json:
        print_json(job_record(found, now))
        return
    paused = found.paused_at(now)
    fields = [
        ("version", found.version),
        ("updated", f"{people(found.updated_at)} by {found.issued_by or 'somebody'}"),
        ("paused", pause_line(paused) if paused else None),
        *exception_lines(found, now),
        ("next", people(next_slot(found, now))),
        *param_lines(found.document.params_schema),
    ]
    for key, value in fields:
        if value is not None:
            click.echo(f"# {key}: {value}")
    click.echo(document_text(found.document.to_document()), nl=False)


def _show_history(ctx: click.Context, name: str, as_json: bool) -> None:
    async def work(session: Session) -> Sequence[JobVersion]:
        return await session.client.jobs.versions(name) or await miss_job(session, name)

    versions = run_session(ctx, work)
    records: list[dict[str, Any]] = [
        {
            "version": each.version,
            "from_at": each.from_at,
            "to_at": each.to_at,
            "issued_by": each.issued_by,
            "document": each.document.to_document(),
        }
        for each in versions
    ]
    if as_json:
        print_json({"name": name, "versions": records})
        return
    for record in records:
        until = people(record["to_at"]) or "now"
        click.echo(
            f"# version {record['version']}, {people(record['from_at'])} to {until}, by {record['issued_by']}"
        )
        click.echo(document_text(record["document"]))


def document_text(document: Mapping[str, Any]) -> str:
    """Return a job document as YAML."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=110)


@examples(
    "cronexec job put jobs.yaml more.jsonl",
    "cronexec job put --dry-run jobs.yaml",
    "crontab -l | cronexec job put --prefix legacy- -",
    "cronexec job put --system --run-as root /etc/crontab /etc/cron.d/*",
)
@job.command(short_help="Create jobs, or change them.")
@click.argument("files", metavar="FILE...|-", nargs=-1, required=True)
@crontab_options
@click.option("--replace", is_flag=True, help="Let crontabs replace jobs that are from somewhere else.")
@click.option("--dry-run", is_flag=True, help="Send nothing; show what would change.")
@click.option(
    "--if-version", type=click.IntRange(min=0), help="Only if this is the job's version (0: there is none)."
)
@create_option
@wait_option
@json_option
@click.pass_context
def put(
    ctx: click.Context,
    /,
    *,
    files: Sequence[str],
    replace: bool,
    dry_run: bool,
    if_version: int | None,
    create: bool,
    wait: float,
    as_json: bool,
    **crontab: Any,
) -> None:
    """Create jobs, or change them, from files.

    They are YAML, JSON or JSON lines, with several documents in each, or crontabs. Nothing is sent before
    every document of every file is valid. What is there already and equal is left alone.

    The jobs of a crontab are labelled with where it is from, and replace only jobs that are from there too.
    """
    reading = read_files(files, CrontabOptions(**crontab))
    if if_version is not None and len(reading.jobs) != 1:
        raise click.UsageError("--if-version is for a single document")
    if reading.problems:
        print_problems(reading.problems, as_json=as_json)
        stop(ctx, REFUSED)
    guarded = () if replace or if_version is not None else reading.from_crontabs
    putting = Putting(reading.jobs, guarded=guarded, if_version=if_version, as_json=as_json)
    if dry_run:

        async def compare(session: Session) -> int:
            if not create:
                await require_served(session)
            return await putting.compare(session)

        stop(ctx, run_session(ctx, compare))
    stop(ctx, run_sending(ctx, putting.send, wait=wait, create=create))


@examples(
    "cronexec job validate jobs.yaml",
)
@job.command(short_help="Check documents, without a server.")
@click.argument("files", metavar="FILE...|-", nargs=-1, required=True)
@crontab_options
@json_option
@click.pass_context
def validate(ctx: click.Context, /, *, files: Sequence[str], as_json: bool, **crontab: Any) -> None:
    """Check documents and crontabs, without a server: everything that is wrong is said in one go."""
    reading = read_files(files, CrontabOptions(**crontab))
    if reading.problems:
        print_problems(reading.problems, as_json=as_json)
        stop(ctx, REFUSED)
    if as_json:
        print_json({"jobs": [each.to_document() for each in reading.jobs]})
        return
    for each in reading.jobs:
        click.echo(f"{each.name}: valid; {each.schedule.describe()}")


for command in (backfill, blackout, delete, next_slots, pause, resume, skip_next, trigger, unblackout):
    job.add_command(command)
