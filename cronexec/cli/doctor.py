"""`cronexec doctor`: what is wrong, and what to do about it."""

import click

from cronexec.cli.failure import REFUSED, UNREACHABLE
from cronexec.cli.output import STYLES, examples, json_option, print_json, stop
from cronexec.cli.session import Session, run_session
from cronexec.doctor import Finding, Level, examine

CODES = {Level.OK: 0, Level.WARN: 0, Level.FAIL: REFUSED, Level.UNREACHABLE: UNREACHABLE}


@examples("cronexec doctor", "cronexec doctor --json")
@click.command(short_help="Check broker, database, clock and jobs.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the broker, the database, the clock, the instances and the jobs, and say what to do.

    Nothing is changed. Exit code 1 where something fails, 4 where a server is not reachable.
    """

    async def work(session: Session) -> list[Finding]:
        return await examine(session.settings, session.connection)

    findings = run_session(ctx, work)
    if as_json:
        print_json({"ok": _code(findings) == 0, "findings": [_record(each) for each in findings]})
    else:
        for each in findings:
            _tell(each)
    stop(ctx, _code(findings))


def _code(findings: list[Finding]) -> int:
    return max((CODES[each.level] for each in findings), default=0)


def _record(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def _tell(finding: Finding) -> None:
    word = "fail" if finding.level is Level.UNREACHABLE else finding.level.value
    click.echo(f"{click.style(f'{word:<4}', fg=STYLES[word])}  {finding.check}: {finding.message}")
    if finding.remedy:
        click.echo(f"      → {finding.remedy}")
