"""`cronexec instance`: which instances there are, and draining one before it is stopped."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from cronexec.cli.failure import NOT_YET
from cronexec.cli.issuer import issuer
from cronexec.cli.namespaces import require_served
from cronexec.cli.output import (
    Length,
    examples,
    json_option,
    people,
    print_json,
    print_table,
    seconds,
    stop,
)
from cronexec.cli.records import instance_record
from cronexec.cli.session import Session, run_session
from cronexec.domain.estimate import Remaining
from cronexec.errors import RefusedError
from cronexec.instances import LOST, Instance, Instances, Running, Unfinished

LOOK_INTERVAL = 1.0
SHOWN = 3
SHORT_ID = 8
CLEARED_LINE = "\r\x1b[K"  # of a terminal


@examples(
    "cronexec instance list",
    "cronexec instance drain web-2 --wait",
)
@click.group(short_help="The instances: list them, drain one.")
def instance() -> None:
    """Look after the instances that share the schedule."""


@examples("cronexec instance list --json")
@instance.command("list", short_help="List the instances.")
@json_option
@click.pass_context
def list_instances(ctx: click.Context, as_json: bool) -> None:
    """List the instances, with what each said last of itself.

    One that was killed is shown as lost for a day.
    """

    async def work(session: Session) -> Sequence[Instance]:
        await require_served(session)
        return await _instances(session).list()

    found = run_session(ctx, work)
    if as_json:
        print_json({"instances": [record(each) for each in found]})
        return
    columns = (
        "INSTANCE",
        "ID",
        "DATACENTER",
        "STATE",
        "SINCE",
        "RUNNING",
        "HANDLERS",
        "VERSION",
        "CLOCK",
        "BEAT",
    )
    print_table(columns, [_row(each) for each in found], empty="No instances.")


def record(each: Instance) -> dict[str, Any]:
    """Return an instance as `--json` prints it."""
    ago = (each.read_at - each.record.beat_at).total_seconds()
    lacks = None if each.record.lacks is None else list(each.record.lacks)
    judged = {"state": each.state, "since": each.since_at, "beat_age_s": round(ago, 3)}
    return instance_record(each.record) | judged | {"lacks": lacks}


def _row(each: Instance) -> tuple[Any, ...]:
    said = each.record
    return (
        each.name,
        each.id[:SHORT_ID],
        said.executor.datacenter,
        each.state,
        people(each.since_at),
        said.running,
        _listed(said.handlers),
        said.versions.get("cronexec"),
        f"{said.clock_offset_ms:+.0f} ms",
        f"{seconds((each.read_at - said.beat_at).total_seconds())} ago",
    )


def _listed(handlers: Sequence[str]) -> str:
    more = f" and {len(handlers) - SHOWN} more" if len(handlers) > SHOWN else ""
    return ", ".join(handlers[:SHOWN]) + more


@examples(
    "cronexec instance drain web-2",
    "cronexec instance drain web-2 --wait --timeout 10m",
    'cronexec instance drain "$HOSTNAME" --wait      (before a container is stopped)',
)
@instance.command(short_help="Have an instance hand over, and take nothing new.")
@click.argument("name", metavar="NAME|ID")
@click.option("--wait", is_flag=True, help="Wait until nothing runs on it, with an estimate of how long.")
@click.option("--timeout", type=Length(), help="With --wait: no longer than this (exit code 3).")
@json_option
@click.pass_context
def drain(ctx: click.Context, name: str, wait: bool, timeout: timedelta | None, as_json: bool) -> None:
    """Have an instance hand over the baton, take nothing new, and finish what it runs.

    It lives on, drained, until it is stopped; `undrain` has it take part again. With --wait the exit code is
    0 once nothing runs on it (or it has ended), 1 if it was lost, 3 after --timeout: it goes on draining.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait")

    async def work(session: Session) -> tuple[Instance, Unfinished]:
        await require_served(session)
        instances = _instances(session)
        found = await instances.find(name)
        draining = await instances.drain(found)
        if not as_json:
            _warn_alone(await instances.list(), found)
            click.echo(f"{found.name} is draining" if draining else f"{found.name} has ended")
        if not wait:
            return found, await instances.unfinished(found.id)
        return found, await _wait(instances, found, timeout, quiet=as_json)

    found, left = run_session(ctx, work)
    _finish(ctx, found, left, wait=wait, as_json=as_json)


async def _wait(
    instances: Instances, found: Instance, timeout: timedelta | None, *, quiet: bool
) -> Unfinished:
    left = Unfinished(instance=found)
    said = ""
    try:
        async with asyncio.timeout(timeout.total_seconds() if timeout is not None else None):
            async for left in instances.until_over(found.id, lambda: asyncio.sleep(LOOK_INTERVAL)):
                said = _tell(left, said, quiet=quiet)
    except TimeoutError:
        pass
    finally:
        if not quiet and sys.stderr.isatty():
            click.echo(CLEARED_LINE, err=True, nl=False)
    return left


def _tell(left: Unfinished, said: str, *, quiet: bool) -> str:
    """Say what is left: on a terminal in one line that changes, elsewhere when other runs are left."""
    now = ", ".join(sorted(each.run.id for each in left.running))
    if quiet or left.is_over:
        return now
    if sys.stderr.isatty():
        click.echo(f"{CLEARED_LINE}{_sentence(left)}", err=True, nl=False)
    elif now != said:
        click.echo(_sentence(left), err=True)
    return now


def _sentence(left: Unfinished) -> str:
    names = ", ".join(each.run.id for each in left.running[:SHOWN])
    more = f" and {len(left.running) - SHOWN} more" if len(left.running) > SHOWN else ""
    if not left.running:
        return "finishing"
    return f"{len(left.running)} left: {names}{more}; {estimate_text(left.left, left.unknown)}"


def estimate_text(left: Remaining | None, unknown: int) -> str:
    """Return how long it still takes, in words."""
    if left is None:
        return "how long it takes is unknown"
    text = f"probably {seconds(left.likely_s)}, seldom more than {seconds(left.long_s)}"
    return f"{text} (unknown of {unknown})" if unknown else text


def _warn_alone(found: Sequence[Instance], drained: Instance) -> None:
    others = [
        each for each in found if each.id != drained.id and each.state in ("holder", "standby", "waiting")
    ]
    if not others:
        click.echo("Warning: no other instance is there to hold: nothing is run until one is", err=True)


def _finish(ctx: click.Context, found: Instance, left: Unfinished, *, wait: bool, as_json: bool) -> None:
    if as_json:
        print_json(_drain_record(found, left))
    elif wait and left.is_over and not _is_lost(left):
        click.echo(f"nothing runs on {found.name} any more")
    if not wait:
        stop(ctx, 0)
    if _is_lost(left):
        raise RefusedError(
            LOST, f"{found.name} is lost: it says nothing more, and what it ran may be abandoned"
        )
    if not left.is_over:
        click.echo(f"Error: not finished in time: {_sentence(left)}. It goes on draining", err=True)
    stop(ctx, 0 if left.is_over else NOT_YET)


def _is_lost(left: Unfinished) -> bool:
    return left.instance is not None and left.instance.is_lost


def _drain_record(found: Instance, left: Unfinished) -> dict[str, Any]:
    return {
        "instance": found.name,
        "id": found.id,
        "state": left.instance.state if left.instance else "gone",
        "drained": left.is_over and not _is_lost(left),
        "running": [_running_record(each) for each in left.running],
        "estimate": _estimate_record(left.left),
        "unknown": left.unknown,
    }


def _running_record(each: Running) -> Mapping[str, Any]:
    return {
        "run": each.run.id,
        "job": each.run.job,
        "elapsed_s": round(each.elapsed_s, 3),
        "estimate": _estimate_record(each.left),
    }


def _estimate_record(left: Remaining | None) -> Mapping[str, float] | None:
    if left is None:
        return None
    return {"likely_s": round(left.likely_s, 3), "long_s": round(left.long_s, 3)}


@examples("cronexec instance undrain web-2")
@instance.command(short_help="Have a drained instance take part again.")
@click.argument("name", metavar="NAME|ID")
@json_option
@click.pass_context
def undrain(ctx: click.Context, name: str, as_json: bool) -> None:
    """Have an instance that was drained compete for the baton again."""

    async def work(session: Session) -> Instance:
        await require_served(session)
        instances = _instances(session)
        found = await instances.find(name)
        again = await instances.undrain(found)
        if again is None:
            raise RefusedError("not_found", f"{found.name} has ended")
        return again

    again = run_session(ctx, work)
    if as_json:
        print_json(record(again))
    else:
        click.echo(f"{again.name} takes part again")


def _instances(session: Session) -> Instances:
    return Instances(
        session.store,
        session.connection.broker,
        issued_by=f"{issuer()} (cli)",
        lost_after=session.settings.instance_lost_after,
    )
