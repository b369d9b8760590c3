"""`cronexec job delete`, `pause`, `resume` and `trigger`: what is done to jobs that are there."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from cronexec.cli.failure import failure_of
from cronexec.cli.namespaces import run_sending
from cronexec.cli.output import Instant, Length, examples, json_option, print_json, stop
from cronexec.cli.params import params_options, read_params
from cronexec.cli.present import instant_after
from cronexec.cli.run_watch import end_watch
from cronexec.cli.session import Session, wait_option
from cronexec.cli.watch_view import new_view, show_run
from cronexec.client import DEFAULT_WAIT
from cronexec.domain.run import Run
from cronexec.errors import CronexecError

names_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True)


@examples(
    "cronexec job delete close-league",
)
@click.command(short_help="Delete jobs.")
@names_argument
@click.option("--if-version", type=click.IntRange(min=1), help="Only if this is the job's version.")
@wait_option
@json_option
@click.pass_context
def delete(
    ctx: click.Context, names: Sequence[str], if_version: int | None, wait: float, as_json: bool
) -> None:
    """Delete jobs. Queued runs are cancelled, running ones go on; the ledger keeps what was run."""

    async def one(session: Session, name: str) -> Mapping[str, Any]:
        return await session.client.jobs.delete(name, if_version=if_version)

    for_each(ctx, names, one, wait=wait, as_json=as_json, said=lambda _: "deleted")


@examples(
    "cronexec job pause close-league",
    'cronexec job pause close-league --until 2026-12-27T08:00Z --reason "holidays" --owner ann',
    "cronexec job pause close-league --for 2h",
)
@click.command(short_help="Skip the slots of jobs until they are resumed.")
@names_argument
@click.option("--until", type=Instant(ahead=True), help="The last instant that is skipped.")
@click.option("--for", "length", type=Length(), help="How long from now, instead of --until.")
@click.option("--reason", help="Shown with the job and its skipped slots.")
@click.option("--owner", help="Who answers for it.")
@wait_option
@json_option
@click.pass_context
def pause(
    ctx: click.Context,
    /,
    *,
    names: Sequence[str],
    until: datetime | None,
    length: timedelta | None,
    reason: str | None,
    owner: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Skip the slots of jobs until they are resumed, or until an instant (UTC without an offset).

    Queued runs are cancelled, running ones go on.
    """
    if until is not None and length is not None:
        raise click.UsageError("give --until or --for, not both")
    until = until if length is None else instant_after(length)

    async def one(session: Session, name: str) -> Mapping[str, Any]:
        return await session.client.jobs.pause(name, until=until, reason=reason, owner=owner)

    def said(result: Mapping[str, Any]) -> str:
        if not result["changed"]:
            return "was paused already"
        return f"paused until {result['paused_until']}" if result.get("paused_until") else "paused"

    for_each(ctx, names, one, wait=wait, as_json=as_json, said=said)


@examples(
    "cronexec job resume close-league",
)
@click.command(short_help="Run the slots of paused jobs again.")
@names_argument
@wait_option
@json_option
@click.pass_context
def resume(ctx: click.Context, names: Sequence[str], wait: float, as_json: bool) -> None:
    """Run the slots of paused jobs again."""

    async def one(session: Session, name: str) -> Mapping[str, Any]:
        return await session.client.jobs.resume(name)

    def said(result: Mapping[str, Any]) -> str:
        return f"resumed{next_text(result)}" if result["changed"] else "was not paused"

    for_each(ctx, names, one, wait=wait, as_json=as_json, said=said)


def next_text(result: Mapping[str, Any]) -> str:
    """Return when the job runs next, where a result knows it, as the end of a sentence."""
    return f"; next {result['next']}" if result.get("next") else ""


def for_each(
    ctx: click.Context,
    names: Sequence[str] | Callable[[Session], Awaitable[Sequence[str]]],
    one: Callable[[Session, str], Awaitable[Mapping[str, Any]]],
    *,
    wait: float,
    as_json: bool,
    said: Callable[[Mapping[str, Any]], str],
) -> None:
    """Send a command for each name; refusals of some do not keep the others from being done."""

    async def work(session: Session) -> list[tuple[str, Mapping[str, Any] | BaseException]]:
        chosen = await names(session) if callable(names) else names
        results = await asyncio.gather(*(one(session, name) for name in chosen), return_exceptions=True)
        return list(zip(chosen, results, strict=True))

    codes, records = [0], []
    for name, result in run_sending(ctx, work, wait=wait):
        if isinstance(result, CronexecError):
            failure = failure_of(result)
            codes.append(failure.exit_code)
            records.append({"name": name, "error": failure.document})
            click.echo(f"Error: {name}: {result}", err=True)
        elif isinstance(result, BaseException):
            raise result
        else:
            records.append({**result})
            if not as_json:
                click.echo(f"{name}: {said(result)}")
    if as_json:
        print_json({"jobs": records})
    elif not records:
        click.echo("There are no jobs.")
    stop(ctx, max(codes))


class Waiting(click.ParamType[float]):
    """How many seconds to wait for an answer; `END`, where no number is given: for the end of the run."""

    name = "waiting"
    END = math.inf

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            length = float(value)
        except ValueError:
            self.fail(
                f"{value!r} is no number of seconds; write a lone --wait behind the job's name", param, ctx
            )
        if not length > 0:
            self.fail(f"{value} is not in the range x>0.", param, ctx)
        return length


@examples(
    "cronexec job trigger close-league -p league=8",
    "cronexec job trigger close-league --params '{\"league\": 8}' --key 2026-w52",
    "cronexec job trigger close-league --wait --timeout 10m",
)
@click.command(short_help="Run a job now.")
@click.argument("name")
@params_options
@click.option("--key", help="Makes it happen once: a second trigger with this key is the same run.")
@click.option(
    "--wait",
    type=Waiting(),
    is_flag=False,
    flag_value=Waiting.END,
    default=DEFAULT_WAIT,
    metavar="[SECONDS]",
    help="Alone: until the run is over, and show it. With a number: how long to wait for the holder's answer "
    f"(else {DEFAULT_WAIT:g} s).",
)
@click.option(
    "--timeout", type=Length(), help="With --wait: no longer than this; the run goes on (exit code 3)."
)
@json_option
@click.pass_context
def trigger(
    ctx: click.Context,
    /,
    *,
    name: str,
    pairs: Sequence[tuple[str, str]],
    params: Mapping[str, Any] | None,
    key: str | None,
    wait: float,
    timeout: timedelta | None,
    as_json: bool,
) -> None:
    """Run a job now, besides its schedule. With --wait alone, exits 1 unless the run succeeds."""
    to_the_end = wait == Waiting.END
    if timeout is not None and not to_the_end:
        raise click.UsageError("--timeout is for --wait without a number, which waits for the end of the run")

    async def work(session: Session) -> tuple[Mapping[str, Any], Run | None]:
        given = await read_params(session, name, pairs, params)
        result = await session.client.jobs.trigger(name, params=given, key=key)
        if not to_the_end:
            return result, None
        return result, await show_run(session, result["run"], new_view(as_json=as_json), timeout)

    result, run = run_sending(ctx, work, wait=DEFAULT_WAIT if to_the_end else wait)
    if to_the_end:
        end_watch(ctx, result["run"], run, timeout, as_json=as_json)
    elif as_json:
        print_json(result)
    else:
        click.echo(f"{result['run']}: {result['state'] if result['created'] else 'was triggered already'}")
