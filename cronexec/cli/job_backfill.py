"""`cronexec job backfill`: run a job for slots of the past."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from cronexec.backfill import Outlook
from cronexec.cli.failure import failure_of
from cronexec.cli.namespaces import require_served, run_sending
from cronexec.cli.output import (
    Instant,
    examples,
    json_option,
    people,
    print_json,
    print_table,
    progress,
    stop,
)
from cronexec.cli.params import params_options, read_params
from cronexec.cli.retention import read_retention
from cronexec.cli.session import Session, run_session, wait_option
from cronexec.domain.backfill import MOST_SLOTS, Ran
from cronexec.domain.command import ErrorCode
from cronexec.domain.duration import format_duration
from cronexec.errors import CronexecError, RefusedError

MOST_AT_ALL = 1_000_000
MOST_A_SECOND = 500
COUNTS = ("queued", "ran_before", "excluded")


@examples(
    "cronexec job backfill report --from 7d --dry-run",
    "cronexec job backfill report --from 2026-12-01 --to 2026-12-24 --missing",
    "cronexec job backfill report --from 2026-12-01 --to 2026-12-24 --force -p league=8",
)
@click.command(short_help="Run a job for slots of the past.")
@click.argument("name")
@click.option(
    "--from",
    "since",
    type=Instant(),
    required=True,
    help="The first slot: an instant, or a length back from now.",
)
@click.option("--to", "until", type=Instant(), help="The last slot, likewise; default: now.")
@click.option("--missing", is_flag=True, help="Leave out the slots that ran already.")
@click.option("--force", is_flag=True, help="Run those once more, too.")
@click.option("--dry-run", is_flag=True, help="Send nothing; show the slots, and which of them ran already.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_AT_ALL),
    default=MOST_SLOTS,
    show_default=True,
    help="Refuse a range with more slots than this.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, max=MOST_A_SECOND, min_open=True),
    metavar="PER_SECOND",
    help="Queue no more slots a second than this. (They start no faster than catch_up_rate anyway.)",
)
@params_options
@wait_option
@json_option
@click.pass_context
def backfill(
    ctx: click.Context,
    /,
    *,
    name: str,
    since: datetime,
    until: datetime | None,
    missing: bool,
    force: bool,
    dry_run: bool,
    limit: int,
    rate: float | None,
    pairs: Sequence[tuple[str, str]],
    params: Mapping[str, Any] | None,
    wait: float,
    as_json: bool,
) -> None:
    """Run a job for the past slots of its current schedule, both ends included.

    Refused where one of them ran already, unless --missing or --force is given. The runs wait behind those of
    the schedule, and one for the other as the job's overlap policy says; 'cronexec run list --cause backfill'
    shows them.
    """
    if missing and force:
        raise click.UsageError("give --missing or --force, not both")
    how: Ran = "skip" if missing else "again" if force else "refuse"

    async def look(session: Session) -> Outlook:
        await require_served(session)
        outlook = await session.client.jobs.past(name, since, until, most=limit)
        await _warn_of_forgotten(session, outlook)
        return outlook

    if dry_run:
        _show(run_session(ctx, look), as_json=as_json)
        return

    async def work(session: Session) -> Sent:
        outlook = await look(session)
        given = await read_params(session, name, pairs, params)
        sent = Sent(name, len(outlook.slots))
        _check(outlook, how, given)
        await sent.run(session.client.jobs.backfill_parts(outlook, ran=how, params=given, rate=rate))
        return sent

    sent = run_sending(ctx, work, wait=wait)
    failure = failure_of(sent.error) if sent.error else None
    if as_json:
        print_json(sent.counts | ({"error": failure.document} if failure else {}))
    else:
        click.echo(sent.sentence())
    if failure is not None:
        click.echo(f"Error: {failure.message}", err=True)
        stop(ctx, failure.exit_code)


def _check(outlook: Outlook, how: Ran, params: Mapping[str, Any] | None) -> None:
    """Raise RefusedError as the holder would, with the options that help."""
    try:
        outlook.check(how, params)
    except RefusedError as error:
        if error.field == "limit":
            raise RefusedError(error.code, f"{error}; --limit allows more", error.field) from None
        if error.code == ErrorCode.CONFLICT:
            raise RefusedError(error.code, f"{error} (--missing or --force)", error.field) from None
        raise


async def _warn_of_forgotten(session: Session, outlook: Outlook) -> None:
    """Say where the ledger does not reach back to the first slot."""
    now, retention = await asyncio.gather(session.store.terms.ping(), read_retention(session))
    if outlook.slots and outlook.slots[0] < now - retention.length:
        kept = format_duration(retention.length)
        click.echo(f"Warning: the ledger goes back {kept}: what ran before that is not known", err=True)


class Sent:
    """What was queued so far, of how many slots; `error`: what kept the rest from being sent."""

    def __init__(self, name: str, slots: int) -> None:
        self._slots = slots
        self.counts: dict[str, Any] = {
            "name": name,
            "queued": 0,
            "ran_before": 0,
            "excluded": 0,
            "next": None,
        }
        self.error: CronexecError | None = None

    async def run(self, parts: Any) -> None:
        """Send part after part, with progress; raises what goes wrong before the first is through."""
        with progress("backfilling") as report:
            try:
                async for part in parts:
                    self._add(part)
                    report(self.counts["queued"] + self.counts["ran_before"], self._slots)
            except CronexecError as error:
                if self.counts["next"] is None:
                    raise
                self.error = error

    def _add(self, part: Mapping[str, Any]) -> None:
        for count in COUNTS:
            self.counts[count] += part[count]
        self.counts["next"] = part["next"]

    def sentence(self) -> str:
        counts = self.counts
        before = f", {counts['ran_before']} ran before" if counts["ran_before"] else ""
        excluded = f", {counts['excluded']} are excluded" if counts["excluded"] else ""
        rest = f"; not sent: those from {counts['next']} on" if counts["next"] else ""
        queued = "1 run is queued" if counts["queued"] == 1 else f"{counts['queued']} runs are queued"
        return f"{counts['name']}: {queued}{before}{excluded}{rest}"


def _show(outlook: Outlook, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "name": outlook.job.name,
                "slots": [{"slot": slot, "ran": outlook.ran.get(slot)} for slot in outlook.slots],
                "excluded": outlook.excluded,
                "more_from": outlook.more_from,
            }
        )
        return
    rows = [(people(slot), outlook.ran.get(slot)) for slot in outlook.slots]
    print_table(("SLOT", "RAN ALREADY"), rows, empty="No slots in the range.")
    ran, more = len(outlook.ran), people(outlook.more_from)
    click.echo(
        f"{len(outlook.slots)} slots, {ran} of them ran already"
        + (f"; there are more than the limit, from {more} on" if more else ""),
        err=True,
    )
