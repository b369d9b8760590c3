"""How commands print: tables for people, one JSON document for programs, progress on a terminal only.

A table in a pipe is not cut to any width. Instants are ISO 8601 with `Z` in JSON, in whole milliseconds; in
tables they lose what nobody reads.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, NoReturn, TypeVar

import click

from cronexec.cli.present import instant_after
from cronexec.domain.duration import parse_duration
from cronexec.errors import FieldProblem

Function = TypeVar("Function", bound=Callable[..., Any])
Command = TypeVar("Command", bound=click.Command)
FITTED_ROWS = 2000  # more take seconds to fit
STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "red",
    "timed_out": "red",
    "abandoned": "red",
    "cancelled": "yellow",
    "skipped": "dim",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "created": "green",
    "updated": "cyan",
    "refused": "red",
}


def json_option(function: Function) -> Function:
    """Add `--json`, which the command gets as `as_json`."""

    def remember(ctx: click.Context, _: click.Parameter, given: bool) -> bool:
        ctx.meta["json"] = given
        return given

    return click.option(
        "--json", "as_json", is_flag=True, callback=remember, is_eager=True, help="Print one JSON document."
    )(function)


def examples(*lines: str) -> Callable[[Command], Command]:
    """Add examples below a command's help."""

    def add(command: Command) -> Command:
        command.epilog = "\n".join(
            ["\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)]
        )
        return command

    return add


def print_json(document: Any) -> None:
    """Print `document`, which may hold instants, lengths (as seconds) and enums."""
    click.echo(json.dumps(document, default=_plain, ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return instant_text(value)
        case timedelta():
            return value.total_seconds()
        case Enum():
            return value.value
        case Mapping():
            return dict(value)
    return str(value)


def instant_text(instant: datetime) -> str:
    """Return an instant as JSON has it: slots in whole seconds, others in milliseconds."""
    spec = "milliseconds" if instant.microsecond else "seconds"
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=spec) + "Z"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """Print rows under their columns, or the sentence `empty`."""
    if not rows:
        click.echo(empty)
        return
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and len(rows) <= FITTED_ROWS:
        print_fitted(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def print_fitted(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Fit the table to the terminal, in colours; ids, in the first column, stay whole while there is room."""
    from rich.console import Console  # noqa: PLC0415  costs what `cronexec --help` may not
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        width = None if place else _width_for_ids(columns, rows, console.width)
        table.add_column(column, overflow="fold", width=width)
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console.print(table)


def _width_for_ids(columns: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> int | None:
    """Return the width of the first column in which its words are whole; the others keep that of their heads.

    None where the table fits as it is, and where nothing is gained.
    """
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    if sum(widths) + 2 * len(widths[1:]) <= total:
        return None
    longest = max((len(word) for row in rows for word in row[0].split()), default=0)
    left = total - sum(len(column) + 2 for column in columns[1:])
    width = max(len(columns[0]), min(longest, left))
    return width if width > len(columns[0]) else None


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one thing, a field a line; what is None is left out."""
    shown = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name:<{width}}  {value}")


def people(instant: datetime | None) -> str | None:
    """Return an instant for a table."""
    return None if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def seconds(length: float | None) -> str | None:
    """Return a length in seconds for a table: 12 ms, 3.4 s, 4m 10s."""
    if length is None:
        return None
    if abs(length) < 1:
        return f"{length * 1000:.0f} ms"
    if abs(length) < 60:  # noqa: PLR2004  a minute
        return f"{length:.1f} s"
    minutes, rest = divmod(round(length), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is, where standard error is a terminal.

    Yields a function that takes the number done and the number in all.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415  costs what `cronexec --help` may not
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_problems(problems: Sequence[FieldProblem], *, as_json: bool) -> None:
    """Print everything that is wrong with what was given; on standard output only as JSON."""
    if as_json:
        listed = [{"field": each.field, "message": each.message} for each in problems]
        print_json({"error": {"code": "invalid", "message": _counted(len(problems)), "problems": listed}})
        return
    for each in problems:
        click.echo(str(each), err=True)
    click.echo(f"Error: {_counted(len(problems))}; nothing was sent", err=True)


def _counted(number: int) -> str:
    return "1 problem was found" if number == 1 else f"{number} problems were found"


def stop(ctx: click.Context, exit_code: int) -> NoReturn:
    """End with this exit code, nothing more to say."""
    ctx.exit(exit_code)


class Length(click.ParamType[timedelta]):
    """A length of time, as in 90s, 15m, 1h30m."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            return value if isinstance(value, timedelta) else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Instant(click.ParamType[datetime]):
    """An instant: ISO 8601 (UTC where there is no offset), or a length, which counts back from now.

    `ahead`: a length counts on from now instead.
    """

    name = "instant"

    def __init__(self, *, ahead: bool = False) -> None:
        self._ahead = ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            length = parse_duration(value)
        except ValueError:
            return self._read(value, param, ctx)
        return instant_after(length if self._ahead else -length)

    def _read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            instant = datetime.fromisoformat(text)
            return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is neither a length {'from now' if self._ahead else 'back from now'} (1h) "
                "nor an instant (2026-12-24T18:00Z)",
                param,
                ctx,
            )
