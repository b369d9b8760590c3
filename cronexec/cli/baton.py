"""`cronexec baton`: who holds it, and how far the schedule is."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from cronexec.cli.namespaces import run_sending
from cronexec.cli.output import Length, examples, json_option, people, print_fields, print_json, seconds, stop
from cronexec.cli.session import Session, run_session, wait_option
from cronexec.domain.term import TermRecord
from cronexec.ports import QueueDepth

SILENT_AFTER = timedelta(seconds=3)  # an idle holder commits once a second
LISTEN_FOR = 2.5  # seconds
BEHIND = 1


@examples(
    "cronexec baton status",
    "cronexec baton release",
)
@click.group(short_help="The baton, and who holds it.")
def baton() -> None:
    """Look after the baton, the message whose holder carries out the schedule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The term document and the queue, and whether the holder gives a sign of life."""

    term: TermRecord
    depth: QueueDepth
    alive: bool

    @property
    def holder(self) -> str | None:
        return self.term.holder_name if self.alive else None


@examples(
    "cronexec baton status --json",
    "cronexec baton status --max-lag 60s      (for alerting and health checks)",
)
@baton.command(short_help="Show who holds the baton, and how far the schedule is.")
@click.option("--max-lag", type=Length(), help="Exit with 1 when the schedule is further behind than this.")
@json_option
@click.pass_context
def status(ctx: click.Context, max_lag: timedelta | None, as_json: bool) -> None:
    """Show who holds the baton, since when, and how far the schedule is behind.

    Exit code 1: nobody holds it.
    """
    now = run_session(ctx, _status)
    if as_json:
        print_json(_record(now))
    else:
        _tell(now)
    late = max_lag is not None and now.term.lag > max_lag
    if late and not as_json:
        click.echo(f"Error: the schedule is {seconds(now.term.lag.total_seconds())} behind", err=True)
    stop(ctx, BEHIND if late or now.holder is None else 0)


async def _status(session: Session) -> Status:
    found = await session.client.baton.status()
    term = found.term
    may_live = term.holder_id is not None and found.depth.consumers > 0  # a holder consumes
    alive = may_live and (term.lag < SILENT_AFTER or await _gives_a_sign(session, term))
    return Status(term=term, depth=found.depth, alive=alive)


async def _gives_a_sign(session: Session, term: TermRecord) -> bool:
    """Whether the term document changes: a holder that is catching up lags, and lives."""
    await asyncio.sleep(LISTEN_FOR)
    later = await session.store.terms.read()
    return (later.epoch, later.seq) != (term.epoch, term.seq)


def _record(now: Status) -> dict[str, Any]:
    return {
        "holder": now.holder,
        "datacenter": now.term.datacenter if now.alive else None,
        "epoch": now.term.epoch,
        "since": now.term.since_at,
        "watermark": now.term.watermark,
        "lag_s": round(now.term.lag.total_seconds(), 3),
        "ready": now.depth.ready,
        "consumers": now.depth.consumers,
        "last_holder": now.term.holder_name,
    }


def _tell(now: Status) -> None:
    last = f"nobody (last: {now.term.holder_name})" if now.term.holder_name else "nobody"
    print_fields(
        {
            "holder": now.holder or last,
            "datacenter": now.term.datacenter,
            "epoch": now.term.epoch,
            "since": people(now.term.since_at),
            "watermark": people(now.term.watermark),
            "lag": seconds(now.term.lag.total_seconds()),
            "ready": f"{now.depth.ready} (batons that nobody holds)",
            "consumers": f"{now.depth.consumers} (a quorum queue counts the holder alone)",
        }
    )


@examples(
    "cronexec baton reinsert",
)
@baton.command(short_help="Insert a baton by hand.")
@json_option
@click.pass_context
def reinsert(ctx: click.Context, as_json: bool) -> None:
    """Insert a baton by hand. Safe at any time: of several the holder keeps one and discards the others."""
    message_id = run_sending(ctx, lambda session: session.client.baton.reinsert())
    if as_json:
        print_json({"inserted": True, "message_id": message_id})
    else:
        click.echo(f"inserted the baton {message_id}")


@examples(
    "cronexec baton release",
)
@baton.command(short_help="Have the holder hand the baton on.")
@wait_option
@json_option
@click.pass_context
def release(ctx: click.Context, wait: float, as_json: bool) -> None:
    """Have the holder hand the baton on. What it runs goes on; another instance goes on with the schedule."""
    result = run_sending(ctx, lambda session: session.client.baton.release(), wait=wait)
    if as_json:
        print_json(result)
    else:
        click.echo(f"the holder of epoch {result['epoch']} hands the baton on")
