"""`cronexec run`: the entries of the ledger."""

import json
from collections.abc import Sequence
from datetime import datetime

import click

from cronexec.cli.namespaces import require_served
from cronexec.cli.output import (
    Instant,
    examples,
    json_option,
    people,
    print_fields,
    print_json,
    print_table,
    seconds,
)
from cronexec.cli.records import reason_of, run_record
from cronexec.cli.run_control import cancel, resolve, retry
from cronexec.cli.run_names import displayed_id, find_run
from cronexec.cli.run_watch import logs, watch
from cronexec.cli.session import Session, run_session
from cronexec.cli.watch_view import progress_text
from cronexec.domain.run import AttemptRecord, Cause, Run, RunState
from cronexec.errors import RefusedError
from cronexec.ports import RunFilter

STATES = [state.value for state in RunState]
CAUSES = [cause.value for cause in Cause]
LONGEST_REASON = 80


@examples(
    "cronexec run list --job close-league --since 1d",
    "cronexec run list --state failed --state abandoned",
    "cronexec run logs close-league@2026-12-24T03:00:00Z",
)
@click.group(short_help="The entries of the ledger.")
def run() -> None:
    """Look at runs: the entries of the ledger, skipped slots included."""


run.add_command(logs)
run.add_command(watch)


@examples(
    "cronexec run list --since 1h",
    "cronexec run list --job close-league --state failed --json",
)
@run.command("list", short_help="List runs and skipped slots, newest first.")
@click.option("--job", help="Of this job only.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES), help="In this state; may be repeated."
)
@click.option("--undecided", is_flag=True, help="Abandoned, and waiting for a person to retry or resolve it.")
@click.option(
    "--cause", "causes", multiple=True, type=click.Choice(CAUSES), help="Of this cause; may be repeated."
)
@click.option("--since", type=Instant(), help="Slots since: a length back from now (1h), or an instant.")
@click.option("--until", type=Instant(), help="Slots until: likewise.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many."
)
@json_option
@click.pass_context
def list_runs(
    ctx: click.Context,
    /,
    *,
    job: str | None,
    states: Sequence[str],
    causes: Sequence[str],
    undecided: bool,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List runs and skipped slots, newest slot first."""
    which = RunFilter(
        job=job,
        states=[RunState(state) for state in states],
        causes=[Cause(cause) for cause in causes],
        undecided=undecided,
        since=since,
        until=until,
        limit=limit,
    )

    async def work(session: Session) -> list[Run]:
        runs = await session.client.runs.list(which)
        if not runs:
            await _require_known(session, job)
        return runs

    runs = run_session(ctx, work)
    if as_json:
        print_json({"runs": [run_record(each) for each in runs]})
        return
    rows = [
        (
            displayed_id(each),
            _state(each),
            each.attempt,
            seconds(each.lateness_s),
            seconds(each.duration_s),
            each.executor.name if each.executor else None,
            _remark(each),
        )
        for each in runs
    ]
    columns = ("RUN", "STATE", "ATTEMPT", "LATENESS", "DURATION", "INSTANCE", "REASON")
    print_table(columns, rows, empty="No runs.")


async def _require_known(session: Session, job: str | None) -> None:
    """Raise RefusedError where nothing is listed because there is no such job, or no such namespace."""
    await require_served(session)
    if job is None or await session.client.jobs.get(job) is not None:
        return
    if not await session.client.runs.list(RunFilter(job=job, limit=1)):
        raise RefusedError("not_found", f"there is no job {job}, and no run of it in the ledger", "job")


def _state(run: Run) -> str:
    """Return a run's state, marked where it takes longer than its job expects."""
    return f"{run.state.value}, overrun" if run.overrun_at and not run.state.is_final else run.state.value


def _remark(run: Run) -> str | None:
    if run.state is RunState.RUNNING and run.progress is not None:
        return progress_text(run.progress)
    error = run.outcome.error if run.outcome else None
    reason = f"{run.reason}: {run.note}" if run.note else reason_of(run)
    waits = run.state is RunState.QUEUED and run.not_before is not None
    later = f"not before {people(run.not_before)}" if waits else None
    remark = ": ".join(filter(None, (reason, error, later))).split("\n")[0]
    return remark if len(remark) <= LONGEST_REASON else f"{remark[:LONGEST_REASON]}…"


@examples(
    "cronexec run show close-league@2026-12-24T03:00:00Z",
)
@run.command(short_help="Show one run.")
@click.argument("run_id", metavar="RUN")
@json_option
@click.pass_context
def show(ctx: click.Context, run_id: str, as_json: bool) -> None:
    """Show one run: what is known of it, without what it printed."""
    found, now = run_session(ctx, lambda session: _find_now(session, run_id))
    record = run_record(found)
    if as_json:
        print_json(record)
        return
    shown = {key: people(value) if isinstance(value, datetime) else value for key, value in record.items()}
    shown |= {
        "run": displayed_id(found),
        "open_ended": found.open_ended or None,
        "catch_up": found.catch_up or None,
        "undecided": "retry or resolve it" if found.undecided else None,
        "not_before": people(record["not_before"]),
        "attempts": "; ".join(_attempt(former) for former in found.attempts) or None,
        "lateness_s": None,
        "lateness": seconds(found.lateness_s),
        "duration_s": None,
        "duration": seconds(found.duration_s or _so_far(found, now)),
        "progress": found.progress and progress_text(found.progress),
        "params": json.dumps(dict(found.params), ensure_ascii=False) if found.params else None,
    }
    print_fields(shown)


def _attempt(former: AttemptRecord) -> str:
    """Return a former attempt in a line."""
    outcome = former.outcome
    where = f" on {former.executor.name}" if former.executor else ""
    why = outcome.error or outcome.reason
    return f"{former.attempt}: {outcome.state.value}{where}{f', {why}' if why else ''}".split("\n")[0]


def _so_far(run: Run, now: datetime) -> float | None:
    if run.state is not RunState.RUNNING or run.started_at is None:
        return None
    return (now - run.started_at).total_seconds()


async def _find_now(session: Session, run_id: str) -> tuple[Run, datetime]:
    return await find_run(session, run_id), await session.store.terms.ping()


for control in (cancel, retry, resolve):
    run.add_command(control)
