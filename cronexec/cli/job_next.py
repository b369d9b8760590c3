"""`cronexec job next`: when a job runs next, on the clock of people, and why not.

The job is one of the namespace, one of a file that is not put yet, or a bare cron expression; the last two
need no server. Nights of a clock change are marked, so are slots that are going to be skipped, and jitter's
own instant is shown beside the slot.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, assert_never
from zoneinfo import ZoneInfo

import click

from cronexec.cli.documents import CrontabOptions, read_files
from cronexec.cli.failure import REFUSED, USAGE, Failure
from cronexec.cli.job_found import find_job
from cronexec.cli.output import (
    Instant,
    examples,
    json_option,
    people,
    print_json,
    print_problems,
    print_table,
    seconds,
    stop,
)
from cronexec.cli.present import present
from cronexec.cli.session import run_session
from cronexec.domain.clock_change import ChangedSlot, ClockChange
from cronexec.domain.hashed import is_hashed
from cronexec.domain.job import Job
from cronexec.domain.job_state import Skip
from cronexec.domain.schedule import Schedule, ScheduleError
from cronexec.domain.wanted import excluded


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """What is looked at: the schedule of the job called `name`, from `after` on, as it is `now`.

    `job`: as the namespace has it, where it comes from there.
    """

    name: str | None
    schedule: Schedule
    after: datetime
    now: datetime
    job: Job | None = None

    def slots(self) -> Iterator[datetime]:
        slot = self.schedule.next_after(self.after)
        while slot is not None:
            yield slot
            slot = self.schedule.next_after(slot)

    def record(self, slot: datetime) -> dict[str, Any]:
        """Return a slot as `--json` prints it."""
        skip, change = self._skip(slot), self.schedule.clock_change(slot)
        return {
            "slot": slot,
            "local": self._local(slot).isoformat(),
            "starts_at": None if skip else self._starts_at(slot),
            "skip": skip and {"reason": skip.reason.value, "note": skip.note, "issued_by": skip.issued_by},
            "clock_change": change and {"kind": change.change.value, "local": change.local},
        }

    def row(self, slot: datetime) -> tuple[str, str | None, str | None, str]:
        """Return a slot as a row of the table."""
        return (
            self._local(slot).strftime("%a %Y-%m-%d %H:%M:%S %Z"),
            people(slot),
            _relative(slot, self.now),
            "; ".join(self._marks(slot)),
        )

    def _marks(self, slot: datetime) -> Iterator[str]:
        if (change := self.schedule.clock_change(slot)) is not None:
            yield _change_text(change, self._local(slot))
        if (skip := self._skip(slot)) is not None:
            yield _skip_text(skip)
        elif (starts_at := self._starts_at(slot)) is not None:
            yield f"starts {self._local(starts_at):%H:%M:%S} (jitter)"

    def _local(self, instant: datetime) -> datetime:
        return instant.astimezone(ZoneInfo(self.schedule.timezone))

    def _starts_at(self, slot: datetime) -> datetime | None:
        return self.schedule.starts_at(slot, job=self.name or "")

    def _skip(self, slot: datetime) -> Skip | None:
        if self.job is not None:
            return self.job.will_skip(slot)
        return excluded(self.schedule, slot)


@examples(
    "cronexec job next close-league -n 10",
    "cronexec job next close-league --from 2026-10-24",
    "cronexec job next close-league -f jobs.yaml",
    'cronexec job next --cron "0 3 * * *" --timezone Europe/Amsterdam -n 3',
)
@click.command("next", short_help="Show the next slots of a job or of a cron expression.")
@click.argument("name", required=False)
@click.option("-f", "--file", metavar="FILE|-", help="Of a job in this file, instead of one that is put.")
@click.option("--cron", metavar="EXPRESSION", help="A cron expression instead of a job.")
@click.option("--timezone", default="UTC", show_default=True, help="Of the expression.")
@click.option("--hash", "hashed", metavar="NAME", help="The name that H in the expression is hashed on.")
@click.option("--from", "start", type=Instant(), help="Slots after this instant. Default: now.")
@click.option("-n", "--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many.")
@json_option
@click.pass_context
def next_slots(
    ctx: click.Context,
    /,
    *,
    name: str | None,
    file: str | None,
    cron: str | None,
    timezone: str,
    hashed: str | None,
    start: datetime | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the next slots of a job, or of a cron expression: local time, UTC, and what is special.

    The nights of a clock change are marked, and slots that will be skipped: excluded, in a blackout window,
    asked to be skipped, or in a pause. With jitter the instant is shown at which the run may start.

    With `--file` or `--cron` no server is asked.
    """
    if cron is not None:
        if name is not None or file is not None:
            raise click.UsageError("give a job or --cron EXPRESSION, not both")
        shown = _of_expression(ctx, cron, timezone, hashed)
    elif file is not None:
        shown = _of_file(ctx, file, name, as_json=as_json)
    elif name is not None:
        shown = _of_job(ctx, name)
    else:
        raise click.UsageError("give the name of a job, --file FILE or --cron EXPRESSION")
    _print(shown, start, count, as_json=as_json)


def _of_expression(ctx: click.Context, cron: str, timezone: str, hashed: str | None) -> _Shown:
    if is_hashed(cron) and hashed is None:
        raise click.UsageError("H is hashed on a job's name; give it with --hash NAME")
    now = present()
    try:
        schedule = Schedule.from_document({"cron": cron, "timezone": timezone}, name=hashed or "")
    except ScheduleError as error:
        found = [{"field": each.field, "message": str(each)} for each in (error, *error.others)]
        text = "; ".join(f"--{each['field']}: {each['message'].removesuffix('.')}" for each in found)
        failure = Failure(text, USAGE, {"message": text, "code": "invalid", "problems": found})
        failure.as_json = bool(ctx.meta.get("json"))
        raise failure from None
    return _Shown(name=None, schedule=schedule, after=now, now=now)


def _of_file(ctx: click.Context, file: str, name: str | None, *, as_json: bool) -> _Shown:
    reading = read_files([file], CrontabOptions())
    if reading.problems:
        print_problems(reading.problems, as_json=as_json)
        stop(ctx, REFUSED)
    found = [each for each in reading.jobs if name in (None, each.name)]
    if len(found) != 1:
        known = ", ".join(each.name for each in reading.jobs[:10]) or "none"
        raise click.UsageError(f"give the NAME of one job of {file}; it has: {known}")
    now = present()
    return _Shown(name=found[0].name, schedule=found[0].schedule, after=now, now=now)


def _of_job(ctx: click.Context, name: str) -> _Shown:
    found, now = run_session(ctx, lambda session: find_job(session, name))
    return _Shown(name=name, schedule=found.schedule, after=max(now, found.from_at), now=now, job=found)


def _print(shown: _Shown, start: datetime | None, count: int, *, as_json: bool) -> None:
    shown = replace(shown, after=start) if start is not None else shown
    slots = list(islice(shown.slots(), count))
    paused = shown.job.paused_at(shown.now) if shown.job is not None else None
    if as_json:
        document = shown.schedule.to_document()
        records = [shown.record(slot) for slot in slots]
        print_json({"name": shown.name, "schedule": document, "paused": paused is not None, "slots": records})
        return
    if paused is not None:
        until = people(paused.until_at) or "it is resumed"
        click.echo(f"{shown.name} is paused: slots are skipped until {until}", err=True)
    columns = (shown.schedule.timezone, "SLOT", "IN", "")
    print_table(columns, [shown.row(slot) for slot in slots], empty="No more slots.")


def _relative(slot: datetime, now: datetime) -> str:
    """Return how far away a slot is, in its two largest units."""
    away = abs(slot - now)
    text = f"{away.days}d {away.seconds // 3600}h" if away.days else seconds(away.total_seconds())
    return f"{text} ago" if slot < now else text or ""


def _change_text(changed: ChangedSlot, shown: datetime) -> str:
    match changed.change:
        case ClockChange.GAP:
            return f"{changed.local} does not exist, runs {shown:%H:%M}"
        case ClockChange.FIRST_OF_TWO:
            return f"first of two {changed.local}"
        case ClockChange.SECOND_OF_TWO:
            return f"second of two {changed.local}"
        case _:
            assert_never(changed.change)


def _skip_text(skip: Skip) -> str:
    about = ", ".join(filter(None, (skip.note, skip.issued_by and f"by {skip.issued_by}")))
    return f"skipped: {skip.reason.value}" + (f" ({about})" if about else "")
