"""`cronexec run watch` and `cronexec run logs`: what runs write and how far they are, from any instance."""

import asyncio
from datetime import datetime, timedelta

import click

from cronexec.cli.failure import NOT_YET
from cronexec.cli.job_found import find_job
from cronexec.cli.output import Length, examples, json_option, people, print_json, stop
from cronexec.cli.records import next_slot, output_record, reason_of, run_record
from cronexec.cli.run_names import find_run, is_run_id
from cronexec.cli.session import Session, run_session
from cronexec.cli.watch_view import OutputView, View, new_view, show_run
from cronexec.domain.duration import format_duration
from cronexec.domain.job import Job
from cronexec.domain.run import Output, Run, RunState
from cronexec.errors import RefusedError
from cronexec.ports import RunFilter
from cronexec.watching import outcome_of, output_of_attempt

LOOK_INTERVAL = 0.5  # seconds
UNSETTLED = (RunState.RUNNING, RunState.QUEUED)
HAVING_RUN = tuple(state for state in RunState if state is not RunState.SKIPPED)


@examples(
    "cronexec run watch close-league@2026-12-24T03:00:00Z",
    "cronexec run watch close-league",
)
@click.command(short_help="Follow a run to its end: progress and output as they come.")
@click.argument("given", metavar="RUN|JOB")
@click.option("--timeout", type=Length(), help="Watch no longer than this; the run goes on (exit code 3).")
@json_option
@click.pass_context
def watch(ctx: click.Context, given: str, timeout: timedelta | None, as_json: bool) -> None:
    """Follow a run to its end, whichever instance executes it; exits 1 unless it succeeds.

    Of a job, the run that is under way, or else the next one. Its output goes to standard output, everything
    else to standard error.
    """

    async def work(session: Session) -> tuple[str, Run | None]:
        run_id = await _run_to_watch(session, given, quiet=as_json)
        return run_id, await show_run(session, run_id, new_view(as_json=as_json), timeout)

    run_id, run = run_session(ctx, work)
    end_watch(ctx, run_id, run, timeout, as_json=as_json)


def end_watch(
    ctx: click.Context, run_id: str, run: Run | None, timeout: timedelta | None, *, as_json: bool
) -> None:
    """Print the run where a program asked for it, and end: 0 succeeded, 1 anything else, 3 not over yet."""
    if run is None:
        if as_json:
            print_json({"run": run_id, "state": "unsettled"})
        length = "" if timeout is None else f" within {format_duration(timeout)}"
        click.echo(f"{run_id} is not over{length}; it goes on", err=True)
        stop(ctx, NOT_YET)
    if as_json:
        print_json(run_record(run) | {"output": _ends(run.outcome.output if run.outcome else None)})
    stop(ctx, 0 if run.state is RunState.SUCCEEDED else 1)


def _ends(output: Output | None) -> dict[str, object]:
    output = output or Output()
    return {"head": output.head, "tail": output.tail, "dropped": output.dropped}


async def _run_to_watch(session: Session, given: str, *, quiet: bool) -> str:
    if is_run_id(given):
        return (await find_run(session, given)).id
    newest = await session.client.runs.list(RunFilter(job=given, states=HAVING_RUN, limit=1))
    said = quiet
    while True:
        job, now = await find_job(session, given)
        for state in UNSETTLED:
            if found := await session.client.runs.list(RunFilter(job=given, states=[state], limit=1)):
                return found[0].id
        now_newest = await session.client.runs.list(RunFilter(job=given, states=HAVING_RUN, limit=1))
        if now_newest and now_newest[0].id not in [each.id for each in newest]:
            return now_newest[0].id  # it was over between two looks
        if not said:
            click.echo(f"{given}: waiting for its next run{_due(job, now)}", err=True)
            said = True
        await asyncio.sleep(LOOK_INTERVAL)


def _due(job: Job, now: datetime) -> str:
    """Say when the job runs next, as far as its schedule is concerned."""
    following = next_slot(job, now)
    if following is not None:
        return f", due at {people(following)}"
    return f"; it {'is paused' if job.paused_at(now) else 'has no slots to come'}: only a trigger starts one"


@examples(
    "cronexec run logs backup@2026-12-24T03:00:00Z",
    "cronexec run logs backup@2026-12-24T03:00:00Z --attempt 1",
    "cronexec run logs backup@2026-12-24T03:00:00Z --follow",
)
@click.command(short_help="Print what a run wrote.")
@click.argument("run_id", metavar="RUN")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; else of the last one.")
@click.option("--follow", is_flag=True, help="Go on until the run is over.")
@json_option
@click.pass_context
def logs(ctx: click.Context, run_id: str, attempt: int | None, follow: bool, as_json: bool) -> None:
    """Print what a run wrote, or has written so far: its beginning and its end, where it was a lot."""
    if follow and as_json:
        raise click.UsageError("--follow prints the output as it comes; with --json use 'run watch --json'")

    async def work(session: Session) -> tuple[Run, int, Output | None]:
        found = await find_run(session, run_id)
        number = attempt or found.attempt
        if number > found.attempt:
            made = "1 attempt" if found.attempt == 1 else f"{found.attempt} attempts"
            raise RefusedError("not_found", f"{found.id} has made {made} so far", "attempt")
        if follow:
            view: View = OutputView(attempt)
            await show_run(session, found.id, view)
            return found, number, None
        return found, number, await output_of_attempt(session.store, found, number)

    found, number, output = run_session(ctx, work)
    if follow:
        return
    if as_json:
        outcome = outcome_of(found, number)
        state = outcome.state if outcome else found.state
        ends = _ends(output) | {"text": output.text if output else ""}
        print_json(output_record(found) | ends | {"attempt": number, "state": state.value})
    elif output is not None and output.text:
        click.echo(output.text, nl=not output.text.endswith("\n"))
    elif not found.state.is_final:
        former = f"; --attempt {number - 1} prints the one before" if number > 1 else ""
        click.echo(f"{found.id} is {found.state.value}: it has written nothing yet{former}", err=True)
    else:
        click.echo(f"{found.id} {_why_silent(found)}", err=True)


def _why_silent(run: Run) -> str:
    """Say why there is no output of a run that is over."""
    reason = f" ({reason_of(run)})" if reason_of(run) else ""
    lost = run.outcome is None or run.outcome.output is None
    if run.state is RunState.SKIPPED:
        return f"was skipped{reason}: it never ran"
    if run.started_at is None:
        return f"is {run.state.value}{reason}: it never started"
    if run.state is RunState.ABANDONED and lost:
        where = f" {run.executor.name}" if run.executor else ""
        return f"was abandoned{reason}: what it wrote was lost with its instance{where}"
    return "wrote nothing"
