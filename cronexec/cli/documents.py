"""Job documents from files: YAML, JSON, JSON lines and crontabs.

Every problem of every document is found before anything is sent.

A crontab's jobs carry where they are from: HOST:PATH, with the path that the links lead to. What standard
input is from cannot be known; it counts as the crontab of who pipes it, USER@HOST:-. Where host or path
change though the crontab is the same (a container, a build), `--source` says what stays.
"""

import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from cronexec.cli.issuer import issuer
from cronexec.domain.crontab import parse_crontab
from cronexec.domain.documents import read_documents
from cronexec.domain.job import JobDocument
from cronexec.errors import FieldProblem, InvalidDocumentError

Function = TypeVar("Function", bound=Callable[..., Any])
STANDARD_INPUT = "-"
_PREFIX = r"[a-z0-9][a-z0-9._-]{0,63}"
_WHEN = r"(?:@[a-z]+|[-\d*,/A-Za-z~?#]+(?:\s+[-\d*,/A-Za-z~?#]+){4})"
_CRONTAB_LINE = re.compile(rf"\s*(?:{_WHEN}\s+\S|[A-Za-z_][A-Za-z0-9_]*\s*=)")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrontabOptions:
    """How crontabs are read.

    `forced`: whether everything is one; `system`: whether there is a column for the user (None: judged);
    `source`: what says where they are from (None: host and path).
    """

    forced: bool = False
    system: bool | None = None
    prefix: str = ""
    run_as: str | None = None
    timezone: str = "UTC"
    source: str | None = None


def crontab_options(function: Function) -> Function:
    """Add what says how crontabs are read."""
    options = (
        click.option(
            "--crontab",
            "forced",
            is_flag=True,
            help="The files are crontabs (else judged by what is in them).",
        ),
        click.option(
            "--system/--user",
            "system",
            default=None,
            help="The crontab has a column for the user, or has none.",
        ),
        click.option(
            "--run-as",
            metavar="USER",
            help="The user that instances run as: the one a system crontab may name.",
        ),
        click.option(
            "--prefix", default="", callback=_check_prefix, help="Begins the names of jobs from crontabs."
        ),
        click.option("--timezone", default="UTC", show_default=True, help="Of crontabs without CRON_TZ."),
        click.option(
            "--source",
            metavar="NAME",
            help="Where the crontabs are from, for their jobs' label. Default: HOST:PATH, or USER@HOST:-",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _check_prefix(_ctx: click.Context, _parameter: click.Parameter, prefix: str) -> str:
    if prefix and not re.fullmatch(_PREFIX, prefix):
        raise click.BadParameter(
            f"expected 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit; got {prefix!r}"
        )
    return prefix


@dataclass(kw_only=True)
class Reading:
    """What was read from all files; `from_crontabs` are names of jobs."""

    jobs: list[JobDocument] = field(default_factory=list)
    from_crontabs: set[str] = field(default_factory=set)
    problems: list[FieldProblem] = field(default_factory=list)


def read_files(files: Sequence[str], options: CrontabOptions) -> Reading:
    """Read and validate all documents of all files; `-` is standard input."""
    reading = Reading()
    places: dict[str, str] = {}
    for file in files:
        try:
            text = read_text(file)
        except (OSError, UnicodeDecodeError) as error:
            reading.problems.append(FieldProblem(file, f"it cannot be read: {why_unreadable(error)}"))
            continue
        _read_text(text, file, options, reading, places)
    return reading


def read_text(file: str) -> str:
    """Return what is in a file, or comes by standard input. Raises OSError and UnicodeDecodeError."""
    return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8")


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file could not be read, in a few words."""
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"


def _read_text(
    text: str, file: str, options: CrontabOptions, reading: Reading, places: dict[str, str]
) -> None:
    source = "standard input" if file == STANDARD_INPUT else file
    crontab = bool(options.forced or options.system) or is_crontab(text)
    documents, problems = (
        _read_crontab(text, file, source, options) if crontab else read_documents(text, source=source)
    )
    reading.problems.extend(problems)
    for number, document in enumerate(documents, 1):
        place = _place(source, number, document)
        try:
            job = JobDocument.parse(document)
        except InvalidDocumentError as error:
            reading.problems.extend(_placed(place, error))
            continue
        if job.name in places:
            reading.problems.append(
                FieldProblem(f"{place}: name", f"it is the name of {places[job.name]} too")
            )
        places.setdefault(job.name, f"{source}, document {number}")
        reading.jobs.append(job)
        if crontab:
            reading.from_crontabs.add(job.name)


def _read_crontab(
    text: str, file: str, source: str, options: CrontabOptions
) -> tuple[list[dict[str, Any]], list[FieldProblem]]:
    return parse_crontab(
        text,
        system=options.system,
        prefix=options.prefix,
        source=source,
        run_as=options.run_as,
        timezone=options.timezone,
        origin=options.source or _origin(file),
    )


def _origin(file: str) -> str:
    if file == STANDARD_INPUT:
        return f"{issuer()}:-"
    path = str(Path(file).resolve())
    return f"{socket.gethostname()}:{path.encode(errors='replace').decode()}"


def _place(source: str, number: int, document: dict[str, Any]) -> str:
    name = document.get("name")
    return f"{source}, document {number}" + (f" ({name})" if isinstance(name, str) else "")


def _placed(place: str, error: InvalidDocumentError) -> Iterator[FieldProblem]:
    for each in error.problems:
        yield FieldProblem(f"{place}: {each.field}" if each.field else place, each.message)


def is_crontab(text: str) -> bool:
    """Whether the first line that is no comment is one of a crontab.

    No line of a job document looks like it: those have a colon or a bracket before there are five fields.
    """
    lines = (
        line
        for line in text.removeprefix("\ufeff").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    )
    return bool(_CRONTAB_LINE.match(next(lines, "")))
