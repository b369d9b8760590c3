"""`cronexec ledger`: whether every due slot is accounted for, as far back as the ledger goes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from cronexec.cli.namespaces import require_served
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
from cronexec.cli.retention import Retention, read_retention
from cronexec.cli.session import Session, run_session
from cronexec.domain.run import slot_text
from cronexec.domain.verification import Finding, Verification
from cronexec.errors import RefusedError
from cronexec.verify import Verified, verify_ledger

BREACHED = 1
KINDS = ("missing", "doubled", "unexpected")


@examples(
    "cronexec ledger verify --since 1h",
)
@click.group(short_help="The ledger as a whole.")
def ledger() -> None:
    """Judge the ledger as a whole: every slot of every job is in it, run or skipped."""


@examples(
    "cronexec ledger verify --since 1h",
    "cronexec ledger verify --job close-league --json",
)
@ledger.command(short_help="Compare the ledger with what was due.")
@click.option(
    "--since",
    type=Instant(),
    help="From: a length back from now (1h), or an instant. Default: the retention of the namespace.",
)
@click.option("--job", metavar="NAME", help="This job only.")
@json_option
@click.pass_context
def verify(ctx: click.Context, since: datetime | None, job: str | None, as_json: bool) -> None:
    """Recompute what was due from the jobs' history, up to the watermark, and compare it with the ledger.

    Due is run plus skipped. Exit code 1 if a slot is missing, doubled, or was run without being due.
    """

    async def work(session: Session) -> tuple[Verified, Retention]:
        await require_served(session)
        kept = await read_retention(session)
        with progress("verifying") as report:
            verified = await verify_ledger(
                session.store, retention=kept.length, since=since, job=job, report=report
            )
        return verified, kept

    verified, kept = run_session(ctx, work)
    if job is not None and not verified.jobs:
        raise RefusedError("not_found", f"there is no job {job}, nor was there one in that time", "--job")
    if as_json:
        print_json(_record(verified, kept))
    else:
        _tell(verified, kept)
    stop(ctx, 0 if verified.total.ok else BREACHED)


def _record(verified: Verified, kept: Retention) -> dict[str, Any]:
    total = verified.total
    return {
        "ok": total.ok,
        "since": verified.since_at,
        "watermark": verified.watermark_at,
        "within_retention": verified.retained,
        "retention_s": kept.length,
        "retention_from": kept.origin,
        "jobs": verified.jobs,
        "due": total.due,
        "run": total.run,
        "skipped": total.skipped,
        "abandoned": total.abandoned,
        "missing": total.missing,
        "doubled": total.doubled,
        "unexpected": total.unexpected,
        "runs": {state.value: count for state, count in total.runs.items()},
        "skips": dict(total.skips),
        "findings": {kind: _findings(total.findings.get(kind, ())) for kind in KINDS},
    }


def _findings(findings: Sequence[Finding]) -> list[Mapping[str, Any]]:
    return [
        {"job": each.job, "version": each.version, "slot": each.slot, "entries": list(each.entries)}
        for each in findings
    ]


def _tell(verified: Verified, kept: Retention) -> None:
    total = verified.total
    since, watermark = people(verified.since_at), people(verified.watermark_at)
    click.echo(f"{verified.jobs} jobs, slots from {since} to the watermark {watermark} ({kept})")
    print_table(("", "SLOTS"), list(_rows(total)), empty="")
    for kind in KINDS:
        _tell_findings(kind, total)
    if not verified.retained:
        click.echo(
            "Entries are kept for the retention only: older ones may be missing for that reason.", err=True
        )
    if total.ok:
        click.echo("Every due slot is in the ledger exactly once.")


def _rows(total: Verification) -> list[tuple[str, int]]:
    return [
        ("due", total.due),
        ("run", total.run),
        *((f"  {state.value}", count) for state, count in sorted(total.runs.items())),
        ("skipped", total.skipped),
        *((f"  {reason}", count) for reason, count in sorted(total.skips.items())),
        ("missing", total.missing),
        ("doubled", total.doubled),
        ("unexpected", total.unexpected),
    ]


def _tell_findings(kind: str, total: Verification) -> None:
    findings = total.findings.get(kind, ())
    for each in findings:
        entries = f": {', '.join(each.entries)}" if each.entries else ""
        click.echo(
            f"{kind}: {each.job} version {each.version}, slot {slot_text(each.slot)}{entries}", err=True
        )
    more = getattr(total, kind) - len(findings)
    if more > 0:
        click.echo(f"{kind}: and {more} more", err=True)
