"""`cronexec run cancel`, `retry`, `resolve`: what people do to runs, by commands that the holder applies."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import click

from cronexec.cli.namespaces import run_sending
from cronexec.cli.output import examples, json_option, print_json
from cronexec.cli.run_names import find_run
from cronexec.cli.session import Session, wait_option

Change = Callable[[Session, str], Awaitable[Mapping[str, Any]]]


@examples(
    "cronexec run cancel close-league@2026-12-24T03:00:00Z",
)
@click.command(short_help="Cancel a run, wherever it is.")
@click.argument("run_id", metavar="RUN")
@wait_option
@json_option
@click.pass_context
def cancel(ctx: click.Context, run_id: str, wait: float, as_json: bool) -> None:
    """Cancel a run, wherever it is: a queued one at once, a running one as soon as its instance sees it."""
    result = _change(ctx, run_id, lambda session, run: session.client.runs.cancel(run), wait)
    said = {"cancelled": "cancelled", "cancel_requested": "its instance was asked to end it"}
    _tell(result, said.get(result["state"], result["state"]), as_json=as_json)


@examples(
    "cronexec run retry close-league@2026-12-24T03:00:00Z",
    "cronexec run retry backup#release-7 --json",
)
@click.command(short_help="Try a run again that has not succeeded.")
@click.argument("run_id", metavar="RUN")
@wait_option
@json_option
@click.pass_context
def retry(ctx: click.Context, run_id: str, wait: float, as_json: bool) -> None:
    """Try a run again that failed, timed out, or was cancelled or abandoned.

    It keeps its id, and so its idempotency key; the attempt's number rises. The job's retry policy has no say
    in it, its overlap policy has: the run waits where another one of the job runs.
    """
    result = _change(ctx, run_id, lambda session, run: session.client.runs.retry(run), wait)
    _tell(result, f"queued for attempt {result['attempt']}", as_json=as_json)


@examples(
    "cronexec run list --undecided",
    "cronexec run resolve backup@2026-12-24T03:00:00Z --as succeeded",
)
@click.command(short_help="Decide about an abandoned run of a job that asks.")
@click.argument("run_id", metavar="RUN")
@click.option(
    "--as",
    "state",
    type=click.Choice(["abandoned", "succeeded", "failed"]),
    default="abandoned",
    show_default=True,
    help="What became of it, as you found out.",
)
@wait_option
@json_option
@click.pass_context
def resolve(ctx: click.Context, run_id: str, state: str, wait: float, as_json: bool) -> None:
    """Say what became of a run whose instance vanished, of a job with `abandoned: ask`.

    Such a run keeps its place, and the job's next run waits, until somebody retries or resolves it.
    """
    result = _change(ctx, run_id, lambda session, run: session.client.runs.resolve(run, state), wait)
    _tell(result, result["state"], as_json=as_json)


def _change(ctx: click.Context, run_id: str, change: Change, wait: float) -> Mapping[str, Any]:
    async def work(session: Session) -> Mapping[str, Any]:
        if "#" in run_id:  # its trigger may be under way still: the holder takes one command after the other
            return await change(session, run_id)
        return await change(session, (await find_run(session, run_id)).id)

    return run_sending(ctx, work, wait=wait)


def _tell(result: Mapping[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['run']}: {said}")
