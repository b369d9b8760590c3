"""`cronexec job skip-next`, `blackout` and `unblackout`: slots that are not to run, job by job.

What is said is state of each job. So a selection (`--all`, `-l`) is resolved when the command is given; a job
that is put later is not in it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from cronexec.cli.job_control import for_each, names_argument, next_text
from cronexec.cli.namespaces import require_served
from cronexec.cli.output import Instant, Length, examples, json_option, people, print_json, print_table
from cronexec.cli.present import instant_after
from cronexec.cli.records import blackout_record
from cronexec.cli.session import Session, run_session, wait_option
from cronexec.domain.job import Job
from cronexec.domain.job_state import MOST_SKIPPED_ONCE, Pause
from cronexec.errors import RefusedError

Function = TypeVar("Function", bound=Callable[..., Any])


def selection(function: Function) -> Function:
    """Add the ways to say which jobs are meant."""
    for decorator in (
        click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="With this label."),
        click.option("--all", "every", is_flag=True, help="All jobs that there are now."),
        click.argument("names", metavar="[NAME...]", nargs=-1),
    ):
        function = decorator(function)
    return function


class Selection:
    """Which jobs a command is about: those named, those with all of the labels, or all."""

    def __init__(self, names: Sequence[str], labels: Sequence[str], *, every: bool) -> None:
        if sum((bool(names), bool(labels), every)) != 1:
            raise click.UsageError("give names, labels (-l KEY=VALUE) or --all")
        self._names = names
        self._labels = dict(_label(text) for text in labels)

    async def names(self, session: Session) -> Sequence[str]:
        """Return the names of the jobs. Raises RefusedError where a label is nobody's."""
        return self._names or [job.name for job in await self.jobs(session)]

    async def jobs(self, session: Session) -> list[Job]:
        """Return the jobs. Raises RefusedError as `names`, and where a name or the namespace is nobody's."""
        jobs = await session.client.jobs.list()
        if not jobs:
            await require_served(session)
        if self._names:
            return _named(jobs, self._names)
        found = [job for job in jobs if self._labels.items() <= job.document.labels.items()]
        if self._labels and not found:
            said = ", ".join(f"{key}={value}" for key, value in self._labels.items())
            raise RefusedError("not_found", f"no job has the label {said}", "label")
        return found


def _named(jobs: Sequence[Job], names: Sequence[str]) -> list[Job]:
    if missing := set(names) - {job.name for job in jobs}:
        raise RefusedError("not_found", f"there is no job {', '.join(sorted(missing))}", "name")
    return [job for job in jobs if job.name in names]


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"expected KEY=VALUE, got {text!r}", param_hint="-l")
    return key, value


@examples(
    "cronexec job skip-next close-league",
    'cronexec job skip-next close-league -n 3 --reason "the league pauses"',
)
@click.command("skip-next", short_help="Skip the next slots of jobs.")
@names_argument
@click.option(
    "-n",
    "--count",
    type=click.IntRange(0, MOST_SKIPPED_ONCE),
    default=1,
    show_default=True,
    help="So many from now on, whatever was asked for before; 0: none.",
)
@click.option("--reason", help="Shown with the skipped slots.")
@wait_option
@json_option
@click.pass_context
def skip_next(
    ctx: click.Context,
    /,
    *,
    names: Sequence[str],
    count: int,
    reason: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Skip the next slots of jobs: those that would run, as they are computed now."""

    async def one(session: Session, name: str) -> Mapping[str, Any]:
        return await session.client.jobs.skip_next(name, count, reason=reason)

    def said(result: Mapping[str, Any]) -> str:
        return f"skips {', '.join(result['skipped'])}" if result["skipped"] else "skips none"

    for_each(ctx, names, one, wait=wait, as_json=as_json, said=said)


@examples(
    'cronexec job blackout close-league --from 2026-12-24T18:00Z --to 2026-12-27T08:00Z --reason "holidays"',
    'cronexec job blackout -l team=games --for 2h --reason "database move"',
    "cronexec job blackout --list --all",
)
@click.command(short_help="Skip the slots of jobs within a window.")
@selection
@click.option("--from", "start", type=Instant(ahead=True), help="The first instant (default: now).")
@click.option("--to", "end", type=Instant(ahead=True), help="The last instant, or a length from now (2h).")
@click.option("--for", "length", type=Length(), help="How long from its beginning, instead of --to.")
@click.option("--reason", help="Shown with the skipped slots.")
@click.option("--list", "listing", is_flag=True, help="Show the windows that there are.")
@wait_option
@json_option
@click.pass_context
def blackout(
    ctx: click.Context,
    /,
    *,
    names: Sequence[str],
    labels: Sequence[str],
    every: bool,
    start: datetime | None,
    end: datetime | None,
    length: timedelta | None,
    reason: str | None,
    listing: bool,
    wait: float,
    as_json: bool,
) -> None:
    """Skip the slots of jobs from one instant to another, both included (UTC without an offset)."""
    if listing:
        _list(ctx, Selection(names, labels, every=every or not (names or labels)), as_json=as_json)
        return
    which = Selection(names, labels, every=every)
    if (end is None) == (length is None):
        raise click.UsageError("give --to or --for")
    until = end or instant_after(length or timedelta(), start)

    async def one(session: Session, name: str) -> Mapping[str, Any]:
        return await session.client.jobs.black_out(name, start=start, end=until, reason=reason)

    said = {True: f"skips all until {people(until)}", False: "had this window already"}
    for_each(ctx, which.names, one, wait=wait, as_json=as_json, said=lambda result: said[result["changed"]])


def _list(ctx: click.Context, which: Selection, *, as_json: bool) -> None:
    async def work(session: Session) -> tuple[list[Job], datetime]:
        return await which.jobs(session), await session.store.terms.ping()

    jobs, now = run_session(ctx, work)
    records = [
        {"job": job.name, **blackout_record(window)}
        for job in jobs
        for window in job.blackouts
        if window.end_at > now
    ]
    if as_json:
        print_json({"blackouts": records})
        return
    rows = [
        (each["job"], people(each["start"]), people(each["end"]), each["reason"], each["issued_by"])
        for each in records
    ]
    print_table(("JOB", "FROM", "TO", "REASON", "BY"), rows, empty="No blackout windows.")


@examples(
    "cronexec job unblackout close-league",
    'cronexec job unblackout --all --reason "database move"',
)
@click.command(short_help="Take away the blackout windows of jobs.")
@selection
@click.option("--reason", help="Only windows with this reason.")
@wait_option
@json_option
@click.pass_context
def unblackout(
    ctx: click.Context,
    /,
    *,
    names: Sequence[str],
    labels: Sequence[str],
    every: bool,
    reason: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Take away the blackout windows of jobs, all or those with one reason."""

    async def one(session: Session, name: str) -> Mapping[str, Any]:
        return await session.client.jobs.lift_blackouts(name, reason=reason)

    def said(result: Mapping[str, Any]) -> str:
        return f"windows lifted: {result['lifted']}{next_text(result)}"

    which = Selection(names, labels, every=every)
    for_each(ctx, which.names, one, wait=wait, as_json=as_json, said=said)


def pause_line(pause: Pause) -> str:
    """Return a pause in one line, as `job show` has it."""
    until = f" until {people(pause.until_at)}" if pause.until_at else ""
    owner = f", owner {pause.owner}" if pause.owner else ""
    reason = f": {pause.reason}" if pause.reason else ""
    return f"since {people(pause.since_at)}{until} by {pause.issued_by}{owner}{reason}"


def exception_lines(job: Job, now: datetime) -> list[tuple[str, str]]:
    """Return what of the job's slots is skipped besides, as `job show` has it."""
    once = [
        ("skip_next", f"{people(each.slot)} by {each.issued_by}{_because(each.reason)}")
        for each in job.skip_next
        if each.slot > now
    ]
    windows = [
        (
            "blackout",
            f"{people(each.start_at)} to {people(each.end_at)} by {each.issued_by}{_because(each.reason)}",
        )
        for each in job.blackouts
        if each.end_at > now
    ]
    return once + windows


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
